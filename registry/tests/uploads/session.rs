//! A registry whose store is in memory, and an upload session in it.

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use longshore_metadata::{ConnectOptions, Metadata, UploadAddress, UploadRecord};
use longshore_oci::{Algorithm, Digest, ManifestLimits, RepositoryName};
use longshore_registry::{Chunk, Delivery, Error, Registry, Rules};
use longshore_storage::{Backend, RemoteStore, Storage, memory_backend};
use longshore_tests::postgres::Postgres;
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;
const LIFETIME: Duration = Duration::from_secs(3600);

/// A session in a registry of its own.
pub(crate) struct Session {
    pub(crate) registry: Registry,
    pub(crate) metadata: Metadata,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) address: UploadAddress,
    /// What was acknowledged.
    pub(crate) sent: Vec<u8>,
    _folder: TempDir,
}

fn rules() -> Rules {
    Rules {
        inline_max: 16 * KIB,
        blob_max: None,
        manifest_max: 4 * MIB,
        manifest_limits: ManifestLimits::default(),
        tags_per_push: 10,
        immutable_tags: longshore_oci::ImmutableTags::default(),
        allow_sparse: false,
        upload_lifetime: LIFETIME,
        page_max: 100,
        count_pulls: false,
    }
}

impl Session {
    pub(crate) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("longshore.db").display());
        Self::open(url, folder).await
    }

    pub(crate) async fn on_postgres() -> Self {
        Self::open(Postgres::shared().create_database(), tempfile::tempdir().unwrap()).await
    }

    async fn open(url: String, folder: TempDir) -> Self {
        let options =
            ConnectOptions { url, max_connections: 4, acquire_timeout: Duration::from_secs(60), cache_size: 0 };
        let metadata = Metadata::connect(&options).await.unwrap();
        metadata.migrate().await.unwrap();
        let backend = memory_backend();
        let storage = Storage::Remote(RemoteStore::new(backend.clone(), 64 * MIB as u64, 64 * MIB as u64));
        let registry = Registry::new(metadata.clone(), storage, rules());
        let repository: RepositoryName = "app".parse().unwrap();
        let id = registry.begin_upload(&repository, None, Algorithm::Sha256).await.unwrap();
        let address = UploadAddress { repository, id, principal: None };
        Self { registry, metadata, backend, address, sent: Vec::new(), _folder: folder }
    }

    /// Bytes that are different at every place.
    fn next(&self, length: usize) -> (Chunk, Vec<u8>) {
        let begin = self.sent.len();
        let bytes: Vec<_> = (begin..begin + length).map(|place| (place / 251) as u8 ^ (place % 251) as u8).collect();
        let sent = Bytes::from(bytes.clone());
        let (start, length) = (Some(begin as u64), Some(length as u64));
        (Chunk { start, length, body: Box::pin(stream::iter([Ok(sent)])) }, bytes)
    }

    pub(crate) async fn append(&mut self, length: usize) -> Result<u64, Error> {
        let (chunk, bytes) = self.next(length);
        let received = self.registry.append(self.address.clone(), chunk).await?;
        self.sent.extend(bytes);
        Ok(received)
    }

    pub(crate) async fn finish(&mut self, length: usize) -> Result<(), Error> {
        let (chunk, bytes) = self.next(length);
        let digest = Digest::of(Algorithm::Sha256, &[&self.sent[..], &bytes].concat());
        self.registry.finish_upload(self.address.clone(), digest, chunk).await?;
        self.sent.extend(bytes);
        Ok(())
    }

    pub(crate) async fn find(&self) -> UploadRecord {
        self.metadata.find_upload(self.address.clone()).await.unwrap().unwrap()
    }

    pub(crate) async fn claim(&self) -> UploadRecord {
        self.metadata.claim_upload(self.address.clone(), LIFETIME).await.unwrap().unwrap()
    }

    pub(crate) async fn assert_is_a_blob(&self) {
        let digest = Digest::of(Algorithm::Sha256, &self.sent);
        let blob = self.registry.find_blob(&self.address.repository, &digest).await.unwrap();
        let reader = self.registry.open_blob(&blob).await.unwrap();
        let mut pieces = reader.range(0..blob.size, Delivery::Copied);
        let mut whole = Vec::new();
        while let Some(piece) = pieces.try_next().await.unwrap() {
            whole.extend_from_slice(&piece);
        }
        assert!(whole == self.sent);
    }
}
