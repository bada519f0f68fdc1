//! Where the steps are tested: an embedded database and files, in a folder that is removed at the end; where it matters,
//! PostgreSQL and S3 as well.

use crate::{Collected, Collector, Rules};
use bytes::Bytes;
use longshore_config::{S3, Secret};
use longshore_metadata::{
    BlobContent, CommitOutcome, CommitUpload, ConnectOptions, Lifetimes, Metadata, NamedBlob, NewUpload, PutManifest,
    PutManifestOutcome, StoredContent, UploadAddress, UploadId,
};
use longshore_oci::{Algorithm, Digest, ImmutableTags, RepositoryName};
use longshore_storage::{
    BlobHasher, Error as StorageError, FileStore, LEAST_TO_READ, ObjectKey, RemoteStore, Storage, s3_backend,
};
use longshore_tests::{
    backends::Backend,
    minio::{ACCESS_KEY, BUCKET, Minio, SECRET_KEY},
    postgres::Postgres,
};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, sqlite::SqliteConnectOptions};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) struct Place {
    pub(crate) metadata: Metadata,
    pub(crate) storage: Storage,
    pub(crate) rules: Rules,
    /// Of the database.
    pub(crate) url: String,
    pub(crate) folder: tempfile::TempDir,
}

/// The database's file in the folder.
pub(crate) const DATABASE: &str = "longshore.db";

pub(crate) async fn open(url: &str) -> Metadata {
    let acquire_timeout = Duration::from_secs(60);
    let options = ConnectOptions { url: url.to_owned(), max_connections: 2, acquire_timeout, cache_size: 0 };
    Metadata::connect(&options).await.unwrap()
}

fn sqlite(file: &Path) -> String {
    format!("sqlite:{}", file.display())
}

pub(crate) async fn open_database(file: &Path) -> Metadata {
    open(&sqlite(file)).await
}

/// A store of its own in the `MinIO` that all tests share, which reads with as little memory as there may be.
fn open_s3() -> Storage {
    let server = Minio::shared();
    let settings = S3 {
        bucket: BUCKET.to_owned(),
        endpoint: Some(server.url()),
        prefix: server.new_prefix(),
        access_key_id: Some(ACCESS_KEY.to_owned()),
        secret_access_key: Some(Secret::new(SECRET_KEY)),
        ..S3::default()
    };
    Storage::Remote(RemoteStore::new(s3_backend(&settings, None).unwrap(), LEAST_TO_READ, 2 * LEAST_TO_READ))
}

pub(crate) async fn place(object_delay: Duration) -> Place {
    place_on(Backend::Sqlite, object_delay).await
}

pub(crate) async fn place_on(backend: Backend, object_delay: Duration) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let url = match backend {
        Backend::Sqlite => sqlite(&folder.path().join(DATABASE)),
        Backend::Postgres | Backend::S3 => Postgres::shared().create_database(),
    };
    let metadata = open(&url).await;
    metadata.migrate().await.unwrap();
    let promise = Duration::from_secs(60);
    metadata.set_lifetimes(Lifetimes { promise, review_delay: promise, object_delay, undo: promise }).await.unwrap();
    let storage = match backend {
        Backend::Sqlite | Backend::Postgres => Storage::Files(FileStore::open(folder.path(), 0).unwrap()),
        Backend::S3 => open_s3(),
    };
    Place { metadata, storage, rules: Rules::default(), url, folder }
}

impl Place {
    /// What is promised has ended as soon as it is.
    pub(crate) async fn promise_nothing(&self) {
        self.promise_nothing_but_bytes(Duration::ZERO).await;
    }

    /// The same, but bytes stay for so long after their row.
    pub(crate) async fn promise_nothing_but_bytes(&self, object_delay: Duration) {
        let promise = Duration::from_micros(1);
        let lifetimes = Lifetimes { promise, review_delay: Duration::ZERO, object_delay, undo: Duration::ZERO };
        self.metadata.set_lifetimes(lifetimes).await.unwrap();
    }

    /// Another process on the same database. SQLite is for one: there it is another handle of that.
    pub(crate) async fn another_process(&self) -> Metadata {
        match self.metadata.engine() {
            "sqlite" => self.metadata.clone(),
            _ => open(&self.url).await,
        }
    }

    /// Copies the database, as it stands, while nobody has it open; answers the copy's URL.
    pub(crate) async fn copy_database(&mut self) -> String {
        self.metadata.close().await;
        let copy = if self.metadata.engine() == "sqlite" {
            let (file, copy) = (self.folder.path().join(DATABASE), self.folder.path().join("copy.db"));
            for log in ["", "-wal"] {
                let [from, to] = [&file, &copy].map(|file| PathBuf::from(format!("{}{log}", file.display())));
                if from.exists() {
                    fs::copy(&from, &to).unwrap();
                }
            }
            sqlite(&copy)
        } else {
            Postgres::shared().copy_database(&self.url)
        };
        self.metadata = open(&self.url).await;
        copy
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
        assert!(self.metadata.attach_object(id, 0, &key.to_string(), self.storage.backend()).await.unwrap());
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
        assert!(self.metadata.attach_object(id, 0, &key.to_string(), self.storage.backend()).await.unwrap());
        let mut writer = self.storage.create(key, hasher, Vec::new()).await.unwrap();
        writer.write(Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
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
        if self.metadata.engine() == "sqlite" {
            let file = self.folder.path().join(DATABASE);
            let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(60));
            let mut connection = options.connect().await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        } else {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    /// The key of the object that holds the blob's bytes.
    pub(crate) async fn key_of(&self, repository: &str, digest: &Digest) -> ObjectKey {
        let found = self.metadata.find_blob(&repository.parse().unwrap(), digest).await.unwrap().unwrap();
        let BlobContent::Object { key } = found.content else { panic!("its bytes are in its row") };
        key.parse().unwrap()
    }

    pub(crate) async fn is_there(&self, key: &ObjectKey) -> bool {
        match self.storage.size(key).await {
            Ok(_) => true,
            Err(StorageError::Lost { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }
}
