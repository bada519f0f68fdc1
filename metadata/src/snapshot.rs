//! Everything that a registry cannot make anew, as it is at one moment: rows of text, which either engine writes and either
//! reads.
//!
//! A row is a JSON list of numbers, texts and nulls; bytes are hexadecimal text. It begins with what pages go by.

use crate::{Engine, Metadata, Result, postgres, sqlite};
use std::time::SystemTime;

/// Which form rows have. It rises with each change of what is in a row, or of what a row means.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// A table of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SnapshotTable {
    /// Repositories.
    Repositories,
    /// The objects of blobs.
    Objects,
    /// Objects of uploads that had not ended: what is there of them is deleted after a restore.
    UnfinishedObjects,
    /// Blobs, with their bytes where those are few.
    Blobs,
    /// Holds of repositories on blobs.
    RepositoryBlobs,
    /// Manifests.
    Manifests,
    /// The blobs that manifests need.
    ManifestBlobs,
    /// The entries of indexes.
    ManifestChildren,
    /// Blobs that manifests name and that are not here.
    ManifestAbsentBlobs,
    /// Tags.
    Tags,
    /// The past of tags.
    TagHistory,
    /// Manifests that can be brought back.
    DeletedManifests,
    /// Blobs that nobody can read.
    DamagedBlobs,
    /// Who may log in.
    Users,
    /// What they log in with.
    Tokens,
    /// What they may do.
    Grants,
    /// Objects that wait to be deleted.
    Tombstones,
    /// Blobs that wait for garbage collection to look at them.
    BlobReviews,
    /// Who did what.
    AuditLog,
}

impl SnapshotTable {
    /// All of them, in the order in which they can be restored: what a row refers to comes before it.
    pub const ALL: [Self; 19] = [
        Self::Repositories,
        Self::Objects,
        Self::UnfinishedObjects,
        Self::Blobs,
        Self::RepositoryBlobs,
        Self::Manifests,
        Self::ManifestBlobs,
        Self::ManifestChildren,
        Self::ManifestAbsentBlobs,
        Self::Tags,
        Self::TagHistory,
        Self::DeletedManifests,
        Self::DamagedBlobs,
        Self::Users,
        Self::Tokens,
        Self::Grants,
        Self::Tombstones,
        Self::BlobReviews,
        Self::AuditLog,
    ];

    /// What it is called in a snapshot.
    pub fn name(self) -> &'static str {
        match self {
            Self::Repositories => "repositories",
            Self::Objects => "objects",
            Self::UnfinishedObjects => "unfinished_objects",
            Self::Blobs => "blobs",
            Self::RepositoryBlobs => "repository_blobs",
            Self::Manifests => "manifests",
            Self::ManifestBlobs => "manifest_blobs",
            Self::ManifestChildren => "manifest_children",
            Self::ManifestAbsentBlobs => "manifest_absent_blobs",
            Self::Tags => "tags",
            Self::TagHistory => "tag_history",
            Self::DeletedManifests => "deleted_manifests",
            Self::DamagedBlobs => "damaged_blobs",
            Self::Users => "users",
            Self::Tokens => "tokens",
            Self::Grants => "grants",
            Self::Tombstones => "tombstones",
            Self::BlobReviews => "blob_reviews",
            Self::AuditLog => "audit_log",
        }
    }
}

/// A read of everything as it is at one moment, on a connection of its own: what is written meanwhile is not seen, and does
/// not wait.
#[derive(Debug)]
pub struct Snapshot(SnapshotOf);

#[derive(Debug)]
enum SnapshotOf {
    Postgres(postgres::Snapshot),
    Sqlite(sqlite::Snapshot),
}

/// A database that is being filled, in one transaction: until [`Restore::commit`] nobody sees anything of it, and nothing
/// of it stays where this is dropped.
#[derive(Debug)]
pub struct Restore(RestoreOf);

#[derive(Debug)]
enum RestoreOf {
    Postgres(postgres::Restore),
    Sqlite(sqlite::Restore),
}

/// Calls the same method on whichever engine is there.
macro_rules! on_either {
    ($handle:ident, $value:expr, $($call:tt)+) => {
        match $value {
            $handle::Postgres(inner) => Box::pin(inner.$($call)+).await,
            $handle::Sqlite(inner) => Box::pin(inner.$($call)+).await,
        }
    };
}

impl Metadata {
    /// The last migration that this program has.
    pub fn newest_migration(&self) -> i64 {
        match self.engine {
            Engine::Postgres(_) => postgres::newest_migration(),
            Engine::Sqlite(_) => sqlite::newest_migration(),
        }
    }

    /// Begins to read everything.
    ///
    /// # Errors
    /// [`crate::Error::Schema`] where the schema is another one than this program's.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot(match &self.engine {
            Engine::Postgres(store) => SnapshotOf::Postgres(Box::pin(store.snapshot()).await?),
            Engine::Sqlite(store) => SnapshotOf::Sqlite(Box::pin(store.snapshot()).await?),
        }))
    }

    /// Begins to fill the database, whose schema is up to date; none where it is not empty.
    ///
    /// What is restored is promised anew, by the lifetimes that are set: leases and condemned objects last as if they were of
    /// now, and garbage collection waits for as long as things are promised, before it looks at everything.
    pub async fn begin_restore(&self) -> Result<Option<Restore>> {
        Ok(match &self.engine {
            Engine::Postgres(store) => Box::pin(store.begin_restore()).await?.map(RestoreOf::Postgres),
            Engine::Sqlite(store) => Box::pin(store.begin_restore()).await?.map(RestoreOf::Sqlite),
        }
        .map(Restore))
    }
}

impl Snapshot {
    /// When it was taken, by the database's clock.
    pub fn at(&self) -> SystemTime {
        match &self.0 {
            SnapshotOf::Postgres(inner) => inner.at(),
            SnapshotOf::Sqlite(inner) => inner.at(),
        }
    }

    /// The rows of a table after this one, a few at a time; none at the end of the table.
    pub async fn rows_after(&mut self, table: SnapshotTable, last: Option<&str>) -> Result<Vec<String>> {
        on_either!(SnapshotOf, &mut self.0, rows_after(table, last))
    }

    /// Ends the read.
    pub async fn end(self) -> Result<()> {
        on_either!(SnapshotOf, self.0, end())
    }
}

impl Restore {
    /// Puts rows of a table where they were.
    pub async fn insert(&mut self, table: SnapshotTable, rows: &[String]) -> Result<()> {
        on_either!(RestoreOf, &mut self.0, insert(table, rows))
    }

    /// Makes all of it the registry's.
    pub async fn commit(self) -> Result<()> {
        on_either!(RestoreOf, self.0, commit())
    }
}
