//! The reading of all objects, and what was found damaged: what the database keeps of it.

use crate::{Content, InRows, Metadata, Result};
use longshore_oci::{Digest, RepositoryName};
use std::time::{Duration, SystemTime};

/// The right to read objects, for a while, and how far that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubClaim {
    /// Names the claim.
    pub claim: i64,
    /// The object that was read last.
    pub last: i64,
    /// The bytes of all objects when the round began.
    pub total: u64,
    /// Of those that were read in this round.
    pub done: u64,
    /// What was read of what is in rows.
    pub rows: RowsRead,
    /// When the round began; none where there was none yet.
    pub began: Option<SystemTime>,
    /// When it ended; none where it goes on.
    pub finished: Option<SystemTime>,
    /// What the database's clock says.
    pub now: SystemTime,
}

/// How far the bytes in rows were read in a round: those of small blobs first, then those of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsRead {
    /// Of these up to this place, and all of those before them.
    UpTo(InRows, (i64, i64)),
    /// All.
    All,
}

/// The object of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Its number: they are read in the order of these.
    pub number: i64,
    /// The blob's number.
    pub(crate) blob: i64,
    /// Its key.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// What its bytes have to hash to.
    pub digest: Digest,
    /// Whether it was found damaged before.
    pub is_damaged: bool,
}

/// What a while of reading came to.
#[derive(Debug, Clone)]
pub struct Scrubbed {
    /// Whose it is.
    pub claim: i64,
    /// The last object that was read.
    pub last: i64,
    /// How much was read.
    pub bytes: u64,
    /// Those whose bytes were right.
    pub right: Vec<i64>,
    /// For how long nobody else may go on.
    pub hold: Duration,
}

/// A blob that nobody can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedBlob {
    /// Its number: pages go by it.
    pub number: i64,
    /// Its digest.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Of its object.
    pub key: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// When that was found.
    pub found_at: SystemTime,
}

/// A small blob, or a manifest, with other bytes in its row than those of its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRow {
    /// Of a manifest, where it is.
    pub repository: Option<RepositoryName>,
    /// Its digest.
    pub digest: Digest,
    /// The bytes in its row.
    pub bytes: Vec<u8>,
    /// What is wrong with them.
    pub reason: String,
}

impl DamagedRow {
    /// What a row holds, where that is damaged.
    pub fn of(repository: Option<&RepositoryName>, digest: &Digest, bytes: &[u8]) -> Option<Self> {
        let is = Digest::of(digest.algorithm(), bytes);
        (is != *digest).then(|| Self {
            repository: repository.cloned(),
            digest: *digest,
            bytes: bytes.to_vec(),
            reason: format!("its bytes in the database are those of {is}"),
        })
    }
}

/// A manifest that nobody can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedManifest {
    /// Its number: pages go by it.
    pub number: i64,
    /// Where it is.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// What is wrong with it.
    pub reason: String,
    /// When that was found.
    pub found_at: SystemTime,
}

impl Metadata {
    /// Takes up the reading of all objects for so long; none where another process is at it.
    pub async fn claim_scrub(&self, hold: Duration) -> Result<Option<ScrubClaim>> {
        on_engine!(self.claim_scrub(hold))
    }

    /// The same from whatever process is at it: that one can save nothing more, and stops where it hears of it.
    pub async fn take_scrub(&self, hold: Duration) -> Result<Option<ScrubClaim>> {
        on_engine!(self.take_scrub(hold))
    }

    /// Begins a new round; answers the bytes of all objects, or none where another process has taken over.
    pub async fn begin_scrub(&self, claim: i64) -> Result<Option<u64>> {
        on_engine!(self.begin_scrub(claim))
    }

    /// The objects of blobs after this one, in the order of their numbers.
    pub async fn objects_after(&self, after: i64, limit: u32) -> Result<Vec<StoredObject>> {
        on_engine!(self.objects_after(after, limit))
    }

    /// Saves how far the reading has come. False where another process has taken over.
    pub async fn save_scrub(&self, scrubbed: Scrubbed) -> Result<bool> {
        on_engine!(self.save_scrub(scrubbed))
    }

    /// Saves how far the bytes in rows were read. False where the claim is another's by now.
    pub async fn save_scrub_rows(&self, claim: i64, rows: RowsRead, hold: Duration) -> Result<bool> {
        on_engine!(self.save_scrub_rows(claim, rows, hold))
    }

    /// Ends the round.
    pub async fn finish_scrub(&self, claim: i64) -> Result<()> {
        on_engine!(self.finish_scrub(claim))
    }

    /// Leaves the round to whoever comes.
    pub async fn release_scrub(&self, claim: i64) -> Result<()> {
        on_engine!(self.release_scrub(claim))
    }

    /// How far the reading has come, whoever is at it.
    pub async fn scrub_state(&self) -> Result<ScrubClaim> {
        on_engine!(self.scrub_state())
    }

    /// From now on nobody can read the blob, until it is pushed anew. False where that is so already, or the object is not
    /// the blob's any more.
    pub async fn mark_damaged(&self, object: StoredObject, reason: String) -> Result<bool> {
        on_engine!(self.mark_damaged(object, reason))
    }

    /// A repository that holds the object's blob; none where the blob is gone, or nobody holds it.
    pub async fn holder_of(&self, object: &StoredObject) -> Result<Option<RepositoryName>> {
        on_engine!(self.holder_of(object))
    }

    /// The object's bytes are right after all: they can be read again. False where that was so already.
    pub async fn clear_damage(&self, object: &StoredObject) -> Result<bool> {
        on_engine!(self.clear_damage(object))
    }

    /// Blobs that nobody can read, after the one of this number.
    pub async fn damaged_blobs(&self, after: i64, limit: u32) -> Result<Vec<DamagedBlob>> {
        on_engine!(self.damaged_blobs(after, limit))
    }

    /// How many there are.
    pub async fn count_damaged(&self) -> Result<u64> {
        on_engine!(self.count_damaged())
    }

    /// The same for what has these bytes in its row. False where that is known already, or the bytes are others by now.
    pub async fn mark_damaged_row(&self, row: DamagedRow) -> Result<bool> {
        on_engine!(self.mark_damaged_row(row))
    }

    /// What is in the row is right after all.
    pub async fn clear_damaged_row(&self, content: &Content) -> Result<bool> {
        on_engine!(self.clear_damaged_row(content))
    }

    /// Manifests that nobody can read, after the one of this number.
    pub async fn damaged_manifests(&self, after: i64, limit: u32) -> Result<Vec<DamagedManifest>> {
        on_engine!(self.damaged_manifests(after, limit))
    }

    /// How many there are.
    pub async fn count_damaged_manifests(&self) -> Result<u64> {
        on_engine!(self.count_damaged_manifests())
    }
}
