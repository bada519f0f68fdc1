#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![allow(clippy::duplicate_mod, reason = "queries are written once and compiled for each engine")]

/// Calls the same method on whichever engine is there: the two are compiled from the same source file. Boxed, since what
/// waits for a database has large futures, and whoever holds a connection or an upload would keep room for them.
macro_rules! on_engine {
    ($self:ident.$($call:tt)+) => {
        match &$self.engine {
            $crate::Engine::Postgres(store) => Box::pin(store.$($call)+).await,
            $crate::Engine::Sqlite(store) => Box::pin(store.$($call)+).await,
        }
    };
}

#[macro_use]
mod statements;
mod cache;
mod contents;
mod durability;
mod error;
mod garbage;
mod history;
mod inventory;
mod postgres;
mod preview;
mod pulls;
mod quotas;
mod reads;
mod records;
mod retention;
mod scrub;
mod snapshot;
mod sqlite;
mod store_mark;

pub use contents::{BlobEdge, Contents, ManifestNode, RepositorySize};
use durability::Durability;
pub use error::Error;
pub use garbage::{
    BlobFacts, Breaker, CollectionState, CondemnedGrant, CondemnedManifest, Deleted, GarbageOutcome, GrantFacts,
    KeptManifest, ManifestFacts, NeededBlob, Review, ReviewPage, Reviewed, WaitingBytes,
};
pub use history::{DeletedManifest, HistoryPlace, TagChange};
pub use inventory::{Content, ContentPage, Forgotten, InRows, ObjectRow, StrayObject, Table};
pub use preview::{BlobUser, OpenSession, SessionPage};
pub use pulls::{ManifestPulls, TagPulls};
pub use quotas::{ComparedUsage, NamespaceUsage, Quotas, namespace};
pub use records::{
    BlobContent, BlobRecord, CacheUsage, CommitOutcome, CommitUpload, DeleteOutcome, ExpiredUploads, FinishOutcome,
    FinishUpload, Lifetimes, LostRaces, ManifestRecord, MigrationStatus, MountOutcome, Multipart, NamedBlob, NewUpload,
    PutInlineBlob, PutManifest, PutManifestOutcome, ReferrerRecord, ReferrersPage, SaveProgress, StoredContent,
    TailChange, Tombstone, UploadAddress, UploadId, UploadPart, UploadRecord,
};
pub use retention::{CondemnedTag, DeleteManifest, GuardedDelete, OldGeneration, TagFacts, TagPage, TagsOutcome};
pub use scrub::{DamagedBlob, DamagedManifest, DamagedRow, RowsRead, ScrubClaim, Scrubbed, StoredObject};
pub use snapshot::{Restore, SNAPSHOT_FORMAT, Snapshot, SnapshotTable};

use cache::Cache;
use longshore_oci::{Digest, ImmutableTags, RepositoryName, Tag};
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// What every call of this crate answers.
pub type Result<T> = std::result::Result<T, Error>;

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// `sqlite:PATH` or `postgres://user:password@host/name`.
    pub url: String,
    /// The most connections that this process holds; with SQLite, the most readers (there is one writer).
    pub max_connections: u32,
    /// How long a request waits for a free connection before it is answered as overload.
    pub acquire_timeout: Duration,
    /// The most bytes of manifests, tags and small blobs that are kept in memory; 0 reads each of them from the
    /// database. With Postgres, one more connection is held where it is not 0.
    pub cache_size: u64,
}

/// A handle on the registry's database. Cheap to clone.
///
/// Each method is one read, or one transaction held inside: no transaction is ever open while bytes move. What is read
/// most is answered from memory while that is right: [`Metadata::find_manifest`], [`Metadata::find_tag`],
/// [`Metadata::find_blob`] and [`Metadata::promise_blob`].
#[derive(Debug, Clone)]
pub struct Metadata {
    engine: Engine,
    cache: Cache,
    quotas: Quotas,
}

#[derive(Debug, Clone)]
enum Engine {
    Postgres(postgres::Store),
    Sqlite(sqlite::Store),
}

impl Metadata {
    /// Opens the database; creates the SQLite file where there is none. Applies no migration.
    ///
    /// # Errors
    /// [`Error::Address`] for a URL of another kind, [`Error::Unavailable`] where nothing answers.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        let cache = Cache::new(options.cache_size, options.acquire_timeout);
        let engine = if options.url.starts_with("sqlite:") {
            Engine::Sqlite(sqlite::Store::connect(options, cache.clone()).await?)
        } else if options.url.starts_with("postgres:") || options.url.starts_with("postgresql:") {
            Engine::Postgres(postgres::Store::connect(options, cache.clone()).await?)
        } else {
            return Err(Error::Address { reason: "it starts with neither sqlite: nor postgres:".into() });
        };
        Ok(Self { engine, cache, quotas: Quotas::default() })
    }

    /// The file of an embedded database; none for a database that has a server.
    pub fn embedded_file(url: &str) -> Option<PathBuf> {
        sqlite::file_of(url)
    }

    /// The name of the engine, for logs: `postgres` or `sqlite`.
    pub fn engine(&self) -> &'static str {
        match self.engine {
            Engine::Postgres(_) => "postgres",
            Engine::Sqlite(_) => "sqlite",
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        on_engine!(self.ping())
    }

    /// Applies every migration that is not there yet. Safe to call from many processes at once: the first holds a lock
    /// (on Postgres an advisory one, on SQLite that of the writing transaction) and the others wait for it.
    pub async fn migrate(&self) -> Result<()> {
        on_engine!(self.migrate())
    }

    /// Which migrations are applied and which are still to come.
    pub async fn migration_status(&self) -> Result<MigrationStatus> {
        on_engine!(self.migration_status())
    }

    /// Closes the connections, after what is under way has ended.
    pub async fn close(&self) {
        self.cache.close();
        on_engine!(self.close());
    }

    /// How the cache of reads is used: cheap enough to be asked at each look at the metrics.
    pub fn cache_usage(&self) -> CacheUsage {
        self.cache.usage()
    }

    /// Writes that another one forestalled, and that ran again, since the start. SQLite's run one after the other: it has none.
    pub fn lost_races(&self) -> LostRaces {
        match &self.engine {
            Engine::Postgres(store) => store.lost_races(),
            Engine::Sqlite(_) => LostRaces::default(),
        }
    }

    /// How long things are promised, as whoever set it last has it.
    pub async fn lifetimes(&self) -> Result<Lifetimes> {
        on_engine!(self.lifetimes())
    }

    /// Sets how long things are promised, where it differs from what the database holds.
    pub async fn set_lifetimes(&self, lifetimes: Lifetimes) -> Result<()> {
        on_engine!(self.set_lifetimes(lifetimes))
    }

    /// Repositories that hold a manifest, in byte order, after `after`.
    pub async fn list_repositories(&self, after: &str, limit: u32) -> Result<Vec<RepositoryName>> {
        on_engine!(self.list_repositories(after, limit))
    }

    /// A page of tags in byte order, after `after`; `None` where the repository is unknown.
    pub async fn list_tags(&self, repository: &RepositoryName, after: &str, limit: u32) -> Result<Option<Vec<Tag>>> {
        on_engine!(self.list_tags(repository, after, limit))
    }

    /// Stores a small blob in its row and grants it to the repository: one transaction, no object.
    pub async fn put_inline_blob(&self, blob: PutInlineBlob) -> Result<()> {
        on_engine!(self.put_inline_blob(blob, &self.quotas))
    }

    /// Some repositories that hold the blob, in byte order: where a mount without `from` may look.
    pub async fn repositories_holding(&self, digest: &Digest, limit: u32) -> Result<Vec<RepositoryName>> {
        on_engine!(self.repositories_holding(digest, limit))
    }

    /// Grants the blob of `from` to `target`, with a fresh lease.
    pub async fn mount_blob(
        &self,
        target: &RepositoryName,
        from: &RepositoryName,
        digest: &Digest,
    ) -> Result<MountOutcome> {
        on_engine!(self.mount_blob(target, from, digest, &self.quotas))
    }

    /// Takes the blob away from the repository; other repositories keep theirs.
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<DeleteOutcome> {
        on_engine!(self.delete_blob(repository, digest))
    }

    /// Opens an upload session, and the repository if it is new.
    pub async fn begin_upload(&self, upload: NewUpload) -> Result<UploadId> {
        on_engine!(self.begin_upload(upload))
    }

    /// The session as it stands, if it is open in this repository and by this principal.
    pub async fn find_upload(&self, address: UploadAddress) -> Result<Option<UploadRecord>> {
        on_engine!(self.find_upload(address))
    }

    /// Takes the session for one writer: its fence rises, so whoever held it before can no longer save or commit.
    /// That counts as activity: from now on the session stays for `lifetime` without a new byte.
    pub async fn claim_upload(&self, address: UploadAddress, lifetime: Duration) -> Result<Option<UploadRecord>> {
        on_engine!(self.claim_upload(address, lifetime))
    }

    /// Keeps a session that is being written from expiring. False where it is gone or taken by another writer.
    pub async fn extend_upload(&self, id: UploadId, fence: i64, lifetime: Duration) -> Result<bool> {
        on_engine!(self.extend_upload(id, fence, lifetime))
    }

    /// Records, before a byte is written, that an object of this key is about to exist for the session. One that was
    /// attached before and never saved to is condemned. False where the session is gone or taken, or has saved bytes
    /// in an object already.
    pub async fn attach_object(&self, id: UploadId, fence: i64, key: &str, backend: &str) -> Result<bool> {
        on_engine!(self.attach_object(id, fence, key, backend))
    }

    /// Like [`Metadata::attach_object`], for a session that goes on in parts: its object, which is whole, is its tail
    /// from now on. False where the session is gone or taken, or has no such object.
    pub async fn attach_object_after(&self, id: UploadId, fence: i64, key: &str, backend: &str) -> Result<bool> {
        on_engine!(self.attach_object_after(id, fence, key, backend))
    }

    /// Records, before a byte is written, that an object of this key is about to hold what is in no part. One that was
    /// attached before and never saved is condemned. False where the session is gone or taken.
    pub async fn attach_tail(&self, id: UploadId, fence: i64, key: &str, backend: &str) -> Result<bool> {
        on_engine!(self.attach_tail(id, fence, key, backend))
    }

    /// Gives a writer so many numbers for parts that no other writer of the session has; answers the first. Those that it
    /// does not need it gives back when it saves ([`SaveProgress::next_part`]). None where the session is gone or taken.
    pub async fn reserve_parts(&self, id: UploadId, fence: i64, count: u32) -> Result<Option<u32>> {
        on_engine!(self.reserve_parts(id, fence, count))
    }

    /// Saves how far a session came. False where the session is gone or taken by another writer.
    pub async fn save_progress(&self, progress: SaveProgress) -> Result<bool> {
        on_engine!(self.save_progress(progress))
    }

    /// Ends the session with a blob that is granted to its repository. Where the digest is here already, that blob is
    /// granted and the session's own object is condemned.
    pub async fn commit_upload(&self, commit: CommitUpload) -> Result<CommitOutcome> {
        on_engine!(self.commit_upload(commit, &self.quotas))
    }

    /// Ends a session whose bytes are few with a blob in its row, granted to the repository: one transaction, without a
    /// claim before it. Where there are more bytes, the same transaction claims the session.
    pub async fn finish_upload(&self, finish: FinishUpload) -> Result<FinishOutcome> {
        on_engine!(self.finish_upload(finish, &self.quotas))
    }

    /// Ends the session without a blob; its object is condemned. False where there was none.
    pub async fn cancel_upload(&self, address: UploadAddress) -> Result<bool> {
        on_engine!(self.cancel_upload(address))
    }

    /// Stores a manifest with everything that follows from it: what it needs, its tags, their history.
    pub async fn put_manifest(&self, manifest: PutManifest) -> Result<PutManifestOutcome> {
        on_engine!(self.put_manifest(manifest, &self.quotas))
    }

    /// Deletes the manifest and the tags that name it.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        by: Option<&str>,
    ) -> Result<DeleteOutcome> {
        let (repository, by) = (repository.clone(), by.map(str::to_owned));
        let delete = DeleteManifest { repository, digest: *digest, by, immutable: ImmutableTags::default() };
        match self.delete_manifest_unless_immutable(delete).await? {
            GuardedDelete::Ended(outcome) => Ok(outcome),
            GuardedDelete::Immutable { .. } => Ok(DeleteOutcome::Unknown),
        }
    }

    /// Deletes the manifest and the tags that name it, unless one of these may not go.
    pub async fn delete_manifest_unless_immutable(&self, delete: DeleteManifest) -> Result<GuardedDelete> {
        on_engine!(self.delete_manifest(delete))
    }

    /// Deletes the tag only. False where there was none.
    pub async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag, by: Option<&str>) -> Result<bool> {
        on_engine!(self.delete_tag(repository, tag, by))
    }

    /// Adds pulls of manifests, and moves forward when they were last. What is not there any more is passed over; answers
    /// how many rows were written. Each manifest may be named once.
    pub async fn record_pulls_of_manifests(&self, pulls: &[ManifestPulls]) -> Result<u64> {
        on_engine!(self.record_pulls_of_manifests(pulls))
    }

    /// Moves forward when tags were last pulled. As [`Metadata::record_pulls_of_manifests`].
    pub async fn record_pulls_of_tags(&self, pulls: &[TagPulls]) -> Result<u64> {
        on_engine!(self.record_pulls_of_tags(pulls))
    }

    /// What happened to a tag, newest first, before the change of this number.
    pub async fn tag_changes(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<TagChange>> {
        on_engine!(self.tag_changes(repository, tag, before, limit))
    }

    /// What last happened to a tag until then: what it named at that time. None where there was no such tag yet,
    /// and where it was deleted so long ago that this is forgotten.
    pub async fn tag_at(&self, repository: &RepositoryName, tag: &Tag, at: SystemTime) -> Result<Option<TagChange>> {
        on_engine!(self.tag_at(repository, tag, at))
    }

    /// A manifest that a client deleted and that can be brought back still.
    pub async fn deleted_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<DeletedManifest>> {
        on_engine!(self.deleted_manifest(repository, digest))
    }

    /// Forgets at most `limit` deleted manifests that can be brought back no more.
    pub async fn forget_deleted(&self, limit: u32) -> Result<u64> {
        on_engine!(self.forget_deleted(limit))
    }

    /// Looks at the `limit` changes of tags after `after` that are older than `age`, and forgets those that say nothing of any
    /// time since: another one as old has followed them, or they are deletions and nothing is left before them. Answers how
    /// far it came; none where nothing as old comes after that.
    pub async fn forget_history(&self, age: Duration, after: HistoryPlace, limit: u32) -> Result<Option<HistoryPlace>> {
        on_engine!(self.forget_history(age, after, limit))
    }

    /// A page of the manifests whose subject is this digest, in the order of their digests.
    pub async fn list_referrers(&self, page: ReferrersPage<'_>) -> Result<Vec<ReferrerRecord>> {
        on_engine!(self.list_referrers(page))
    }

    /// Those of the manifests that the repository holds, without those whose subject is `subject`.
    pub async fn manifests_beside_subject(
        &self,
        repository: &RepositoryName,
        manifests: &[Digest],
        subject: &Digest,
    ) -> Result<Vec<Digest>> {
        on_engine!(self.manifests_beside_subject(repository, manifests, subject))
    }
}
