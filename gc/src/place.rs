//! Where the steps are tested: an embedded database and files, in a folder that is removed at the end.

use crate::{Collected, Collector, Rules};
use longshore_metadata::{
    CommitOutcome, CommitUpload, ConnectOptions, Lifetimes, Metadata, NamedBlob, NewUpload, PutManifest,
    PutManifestOutcome, StoredContent, UploadAddress, UploadId,
};
use longshore_oci::{Algorithm, Digest, ImmutableTags, RepositoryName};
use longshore_storage::{BlobHasher, Error as StorageError, FileStore, ObjectKey, Storage};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) struct Place {
    pub(crate) metadata: Metadata,
    pub(crate) storage: Storage,
    pub(crate) rules: Rules,
    pub(crate) folder: tempfile::TempDir,
}

/// The database's file in the folder.
pub(crate) const DATABASE: &str = "longshore.db";

pub(crate) async fn open_database(file: &Path) -> Metadata {
    let url = format!("sqlite:{}", file.display());
    let options = ConnectOptions { url, max_connections: 2, acquire_timeout: Duration::from_secs(60), cache_size: 0 };
    Metadata::connect(&options).await.unwrap()
}

pub(crate) async fn place(object_delay: Duration) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let metadata = open_database(&folder.path().join(DATABASE)).await;
    metadata.migrate().await.unwrap();
    let promise = Duration::from_secs(60);
    metadata.set_lifetimes(Lifetimes { promise, review_delay: promise, object_delay, undo: promise }).await.unwrap();
    let storage = Storage::Files(FileStore::open(folder.path(), 0).unwrap());
    Place { metadata, storage, rules: Rules::default(), folder }
}

impl Place {
    /// What is promised has ended as soon as it is.
    pub(crate) async fn promise_nothing(&self) {
        let promise = Duration::from_micros(1);
        let lifetimes =
            Lifetimes { promise, review_delay: Duration::ZERO, object_delay: Duration::ZERO, undo: Duration::ZERO };
        self.metadata.set_lifetimes(lifetimes).await.unwrap();
    }

    pub(crate) fn collector(&self) -> Collector {
        let rules = Rules { share: 100, ..self.rules.clone() };
        Collector::new(self.metadata.clone(), self.storage.clone(), rules)
    }

    pub(crate) async fn pass(&self) -> Collected {
        let mut collected = Collected::default();
        self.collector().pass(|event| collected += event).await.unwrap();
        collected
    }

    /// A session with an object of a few bytes.
    pub(crate) async fn upload(&self, lifetime: Duration) -> (UploadAddress, ObjectKey) {
        let repository: RepositoryName = "app".parse().unwrap();
        let hasher = BlobHasher::new(Algorithm::Sha256);
        let upload = NewUpload { repository: repository.clone(), principal: None, hash_state: hasher.save(), lifetime };
        let id: UploadId = self.metadata.begin_upload(upload).await.unwrap();
        let key = ObjectKey::random();
        assert!(self.metadata.attach_object(id, 0, &key.to_string(), FileStore::BACKEND).await.unwrap());
        self.storage.create(key.clone(), hasher, b"bytes".to_vec()).await.unwrap();
        (UploadAddress { repository, id, principal: None }, key)
    }

    /// A blob whose bytes are an object, as a client would push it.
    pub(crate) async fn push_object(&self, repository: &str, content: &str) -> Digest {
        let hasher = BlobHasher::new(Algorithm::Sha256);
        let upload = NewUpload {
            repository: repository.parse().unwrap(),
            principal: None,
            hash_state: hasher.save(),
            lifetime: Duration::from_secs(60),
        };
        let id = self.metadata.begin_upload(upload).await.unwrap();
        let key = ObjectKey::random();
        assert!(self.metadata.attach_object(id, 0, &key.to_string(), FileStore::BACKEND).await.unwrap());
        let mut hashed = hasher;
        hashed.update(content.as_bytes());
        let mut writer = self.storage.create(key, hashed, content.as_bytes().to_vec()).await.unwrap();
        writer.hash().await.unwrap();
        writer.finish().await.unwrap();
        let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
        let size = content.len() as u64;
        let commit = CommitUpload { id, fence: 0, digest, size, content: StoredContent::AttachedObject };
        assert_eq!(self.metadata.commit_upload(commit).await.unwrap(), CommitOutcome::Committed);
        digest
    }

    /// A manifest of these layers, given by their content.
    pub(crate) fn manifest(repository: &str, body: &str, layers: &[&str]) -> PutManifest {
        let digest = |content: &&str| Digest::of(Algorithm::Sha256, content.as_bytes());
        PutManifest {
            repository: repository.parse().unwrap(),
            digest: digest(&body),
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            artifact_type: None,
            config_media_type: None,
            subject: None,
            annotations: None,
            body: body.as_bytes().to_vec(),
            blobs: layers.iter().map(|layer| NamedBlob { digest: digest(layer), required: true }).collect(),
            children: Vec::new(),
            tags: Vec::new(),
            pushed_by: None,
            immutable: ImmutableTags::default(),
            allow_absent: false,
        }
    }

    /// So many of them, each of other bytes.
    pub(crate) async fn push_objects(&self, count: usize) -> Vec<Digest> {
        let mut digests = Vec::new();
        for number in 0..count {
            digests.push(self.push_object("app", &format!("layer {number:03}")).await);
        }
        digests
    }

    pub(crate) async fn push_manifest(&self, repository: &str, body: &str, layers: &[&str], tags: &[&str]) -> Digest {
        let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let manifest = PutManifest { tags, ..Self::manifest(repository, body, layers) };
        let digest = manifest.digest;
        assert_eq!(self.metadata.put_manifest(manifest).await.unwrap(), PutManifestOutcome::Stored);
        digest
    }

    /// Where the bytes of an object are.
    pub(crate) fn file(&self, key: &ObjectKey) -> PathBuf {
        let name = key.to_string().split_off("objects/".len());
        self.folder.path().join("objects").join(&name[30..]).join(&name)
    }

    /// Does to the database what no method does.
    pub(crate) async fn execute(&self, sql: &'static str) {
        let file = self.folder.path().join(DATABASE);
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(60));
        let mut connection = options.connect().await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub(crate) async fn is_there(&self, key: &ObjectKey) -> bool {
        match self.storage.read(key, 0..5).await {
            Ok(_) => true,
            Err(StorageError::Lost { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }
}
