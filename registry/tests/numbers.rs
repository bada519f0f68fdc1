//! The numbers of parts: an object store has ten thousand for an upload, and a session of any number of requests must do
//! with them.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use longshore_metadata::{ConnectOptions, Metadata, UploadAddress};
use longshore_oci::{Algorithm, Digest, ManifestLimits, RepositoryName};
use longshore_registry::{Chunk, Delivery, Error, Registry, Rules};
use longshore_storage::{RemoteStore, Storage, memory_backend};
use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const LIFETIME: Duration = Duration::from_secs(3600);
/// How many numbers there are.
const NUMBERS: u32 = 10_000;

/// A registry in memory but for its database, and a session in it.
struct Session {
    registry: Registry,
    metadata: Metadata,
    address: UploadAddress,
    sent: Vec<u8>,
    _folder: tempfile::TempDir,
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
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = ConnectOptions {
            url: format!("sqlite:{}", folder.path().join("longshore.db").display()),
            max_connections: 4,
            acquire_timeout: Duration::from_secs(60),
            cache_size: 0,
        };
        let metadata = Metadata::connect(&options).await.unwrap();
        metadata.migrate().await.unwrap();
        let storage = Storage::Remote(RemoteStore::new(memory_backend(), 64 * MIB as u64, 64 * MIB as u64));
        let registry = Registry::new(metadata.clone(), storage, rules());
        let repository: RepositoryName = "app".parse().unwrap();
        let id = registry.begin_upload(&repository, None, Algorithm::Sha256).await.unwrap();
        let address = UploadAddress { repository, id, principal: None };
        Self { registry, metadata, address, sent: Vec::new(), _folder: folder }
    }

    /// Bytes that are different at every place.
    fn next(&mut self, length: usize) -> Chunk {
        let begin = self.sent.len();
        self.sent.extend((begin..begin + length).map(|place| (place / 251) as u8 ^ (place % 251) as u8));
        let bytes = Bytes::copy_from_slice(&self.sent[begin..]);
        Chunk { start: Some(begin as u64), length: Some(length as u64), body: Box::pin(stream::iter([Ok(bytes)])) }
    }

    async fn append(&mut self, length: usize) -> Result<u64, Error> {
        let chunk = self.next(length);
        self.registry.append(self.address.clone(), chunk).await
    }

    async fn finish(&mut self, length: usize) -> Result<(), Error> {
        let chunk = self.next(length);
        let digest = Digest::of(Algorithm::Sha256, &self.sent);
        self.registry.finish_upload(self.address.clone(), digest, chunk).await
    }

    /// Another writer, which ends without a word: none may have the numbers that it was given.
    async fn lose(&self, numbers: u32) {
        let claimed = self.metadata.claim_upload(self.address.clone(), LIFETIME).await.unwrap().unwrap();
        self.metadata.reserve_parts(self.address.id, claimed.fence, numbers).await.unwrap().unwrap();
    }

    /// How many numbers were used, or lost.
    async fn used(&self) -> u32 {
        let claimed = self.metadata.claim_upload(self.address.clone(), LIFETIME).await.unwrap().unwrap();
        self.metadata.reserve_parts(self.address.id, claimed.fence, 0).await.unwrap().unwrap()
    }

    async fn parts(&self) -> usize {
        let found = self.metadata.find_upload(self.address.clone()).await.unwrap().unwrap();
        found.multipart.map_or(0, |multipart| multipart.parts.len())
    }

    async fn assert_is_a_blob(&self) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_chunks_use_up_no_numbers() {
    let mut session = Session::open().await;
    session.append(20 * MIB).await.unwrap();
    // Three numbers are left, and two hundred chunks to come: 11 MiB, which are three parts with the tail that is there.
    session.lose(NUMBERS - 3 - session.used().await).await;
    for _ in 0..200 {
        session.append(56 * KIB).await.unwrap();
    }
    session.finish(0).await.unwrap();
    session.assert_is_a_blob().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_numbers_are_used_as_there_are_parts() {
    let mut session = Session::open().await;
    for size in [20 * MIB, MIB, 1, 5 * MIB, 3 * MIB, 20 * MIB, 4 * MIB, KIB, 7 * MIB] {
        session.append(size).await.unwrap();
        assert_eq!(session.used().await as usize, session.parts().await, "after {size} bytes more");
    }
    assert!(session.parts().await > 5);
    session.finish(6 * MIB).await.unwrap();
    session.assert_is_a_blob().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_has_no_number_left_is_told_so() {
    let mut session = Session::open().await;
    session.append(20 * MIB).await.unwrap();
    session.lose(NUMBERS - session.used().await).await;
    // A tail needs none.
    session.append(MIB / 2).await.unwrap();
    let refused = session.finish(0).await.unwrap_err();
    let Error::Storage(refused) = refused else { panic!("{refused:?}") };
    assert!(refused.to_string().contains("used up their numbers"), "{refused}");
}
