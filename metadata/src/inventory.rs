//! Pages of whole tables, for a check that compares them with the store and with each other.

use crate::{Metadata, Result, garbage::Kind};
use longshore_oci::{Digest, RepositoryName};
use std::collections::HashSet;

/// An object of the store that no row names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrayObject {
    /// Its key.
    pub key: String,
    /// In bytes.
    pub size: u64,
}

/// The row of an object, and whether anything names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    /// Its number: pages go by it.
    pub number: i64,
    /// Its key.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// Whether a blob or an upload names it.
    pub is_used: bool,
}

/// Something that garbage collection may have to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// Its place: pages go by it.
    pub place: (i64, i64),
    /// Where it is; none for a blob.
    pub repository: Option<RepositoryName>,
    /// Its digest.
    pub digest: Digest,
    /// Whether something keeps it, or it waits to be looked at.
    pub is_seen: bool,
}

/// What garbage collection looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Manifests.
    Manifests,
    /// Holds of repositories on blobs.
    Grants,
    /// Blobs.
    Blobs,
}

impl Table {
    fn kind(self) -> Kind {
        match self {
            Self::Manifests => Kind::Manifest,
            Self::Grants => Kind::Grant,
            Self::Blobs => Kind::Blob,
        }
    }
}

/// What has its bytes in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InRows {
    /// The bodies of manifests.
    Manifests,
    /// Small blobs.
    Blobs,
}

/// Bytes that are in the database itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its place: pages go by it.
    pub place: (i64, i64),
    /// Of a manifest, where it is.
    pub repository: Option<RepositoryName>,
    /// What the bytes have to hash to.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether it was found damaged before.
    pub is_damaged: bool,
}

/// What was found in some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentPage {
    /// What has its bytes there: maybe nothing, and more in the rows that follow.
    pub contents: Vec<Content>,
    /// All up to this place was looked at, and the next page is what follows; none where there is no row any more.
    pub reached: Option<(i64, i64)>,
}

impl Metadata {
    /// Which of these keys a row names: an object's, or that of one which waits to be deleted.
    pub async fn known_keys(&self, keys: &[String]) -> Result<HashSet<String>> {
        on_engine!(self.known_keys(keys))
    }

    /// Which of these keys an upload session is about to fill, or wait to be deleted: whatever the store has begun there has
    /// somebody who ends it.
    pub async fn keys_to_be_ended(&self, keys: &[String]) -> Result<HashSet<String>> {
        on_engine!(self.keys_to_be_ended(keys))
    }

    /// Lets garbage collection delete objects of this backend that no row names; answers how many that are.
    pub async fn condemn_strays(&self, strays: Vec<StrayObject>, backend: &str) -> Result<u64> {
        on_engine!(self.condemn_strays(strays, backend))
    }

    /// The rows of objects after this number.
    pub async fn used_objects(&self, after: i64, limit: u32) -> Result<Vec<ObjectRow>> {
        on_engine!(self.used_objects(after, limit))
    }

    /// Lets garbage collection delete objects that nothing names. One that something names is refused by the database.
    pub async fn condemn_unused(&self, unused: Vec<ObjectRow>) -> Result<()> {
        on_engine!(self.condemn_unused(unused))
    }

    /// What garbage collection sees of a table, after this place.
    pub async fn seen(&self, table: Table, after: (i64, i64), limit: u32) -> Result<Vec<Forgotten>> {
        on_engine!(self.seen(table.kind(), after, limit))
    }

    /// Lets garbage collection look at these.
    pub async fn queue_forgotten(&self, table: Table, places: Vec<(i64, i64)>) -> Result<()> {
        on_engine!(self.queue_forgotten(table.kind(), places))
    }

    /// The bytes that are in rows, after this place: of `limit` things at most, and of no more rows than are soon read.
    pub async fn contents(&self, of: InRows, after: (i64, i64), limit: u32) -> Result<ContentPage> {
        on_engine!(self.contents(of, after, limit))
    }
}
