//! The answers that are kept: bounded in bytes, the most used stay.

use super::epochs::Stamp;
use super::questions::{Asked, Key, Question};
use crate::{BlobContent, BlobRecord, ManifestRecord};
use longshore_oci::Digest;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// How long an answer is believed when nobody says that it changed.
const LIFETIME: Duration = Duration::from_secs(60);
/// What an entry costs beside its bytes: its key, its value, and the books that are kept about it. Measured, rounded up.
const OVERHEAD: usize = 700;
/// Entries wait up to 64 in line before the books are brought up to date and the least used go. Larger ones do not wait,
/// so that the bound in bytes holds to within some MiB.
const LARGE: u32 = 32 * 1024;

/// An answer with the note of the counters from before it was read.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    pub(super) answer: Answer,
}

/// What is known. Clones share their bytes.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// The tag named this manifest, whose counters stood there then.
    Tag(Digest, Stamp),
    Manifest(ManifestRecord),
    Blob(BlobRecord),
    /// `until` on the clock of the gate.
    Promise {
        size: u64,
        until: u64,
    },
}

impl Answer {
    fn bytes(&self) -> usize {
        match self {
            Self::Tag(..) | Self::Promise { .. } => 0,
            Self::Manifest(record) => record.media_type.len() + record.body.len(),
            Self::Blob(BlobRecord { content: BlobContent::Inline(bytes), .. }) => bytes.len(),
            Self::Blob(BlobRecord { content: BlobContent::Object { key }, .. }) => key.len(),
        }
    }
}

/// The store of answers.
pub(super) struct Entries(moka::sync::Cache<Key, Entry, Hashed>);

impl Entries {
    pub(super) fn new(max_bytes: u64) -> Self {
        let entries = moka::sync::Cache::builder().max_capacity(max_bytes).weigher(weight).time_to_live(LIFETIME);
        Self(entries.build_with_hasher(Hashed::default()))
    }

    pub(super) fn get(&self, asked: &Asked<'_>) -> Option<Entry> {
        self.0.get(asked)
    }

    pub(super) fn insert(&self, asked: &Asked<'_>, entry: Entry) {
        let key = asked.to_key();
        let is_large = weight(&key, &entry) >= LARGE;
        self.0.insert(key, entry);
        if is_large {
            self.0.run_pending_tasks();
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.entry_count()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.weighted_size()
    }

    /// Brings the books up to date.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.0.run_pending_tasks();
    }
}

fn weight(key: &Key, entry: &Entry) -> u32 {
    let question = key.question();
    let tag = if let Question::Tag(_, tag) = question { tag.as_str().len() } else { 0 };
    let bytes = OVERHEAD + question.repository().as_str().len() + tag + entry.answer.bytes();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Hands on the hash that a key brings along.
#[derive(Debug, Clone, Copy, Default)]
struct Hashed(u64);

impl BuildHasher for Hashed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        // Not used by our keys; right all the same.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
