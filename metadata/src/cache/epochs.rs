//! The counters that say whether something may have changed since.

use super::questions::{Asked, Question};
use longshore_oci::RepositoryName;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// A power of two. Things share counters by their hash: with 16,384 of them and a thousand changes a second, something
/// hot is read anew every ten seconds for nothing.
const COUNTERS: usize = 1 << 14;

/// The counters, of everything in every repository. They only rise.
pub(super) struct Epochs {
    counters: Box<[AtomicU64]>,
    /// Keyed anew in each process: nobody can aim at a counter.
    hashing: RandomState,
}

/// Where the counters stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    opening: u64,
    repository: u64,
    thing: u64,
}

impl Stamp {
    /// Of the gate.
    pub(super) fn opening(&self) -> u64 {
        self.opening
    }

    /// The same, with an earlier look at the repository's counter.
    pub(super) fn with_repository_of(self, earlier: &Self) -> Self {
        Self { repository: earlier.repository, ..self }
    }
}

impl Epochs {
    pub(super) fn new() -> Self {
        Self { counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(), hashing: RandomState::new() }
    }

    /// Hashes a question, once for all that is to be done with it.
    pub(super) fn ask<'a>(&self, question: Question<'a>) -> Asked<'a> {
        let mut hasher = self.hash_repository(question.repository());
        let repository_hash = hasher.finish();
        hasher.write(question.thing());
        Asked { question, repository_hash, hash: hasher.finish() }
    }

    /// Where the counters stand now.
    pub(super) fn stamp(&self, opening: u64, asked: &Asked<'_>) -> Stamp {
        let repository = self.counter(asked.repository_hash).load(Ordering::Acquire);
        Stamp { opening, repository, thing: self.counter(asked.hash).load(Ordering::Acquire) }
    }

    /// Whatever was kept of this one thing is dead.
    pub(super) fn raise(&self, question: Question<'_>) {
        self.raise_at(self.ask(question).hash);
    }

    /// Whatever was kept of this repository is dead.
    pub(super) fn raise_repository(&self, repository: &RepositoryName) {
        self.raise_at(self.hash_repository(repository).finish());
    }

    /// A number that rises with each manifest that is put into the repository, or deleted there.
    pub(super) fn manifests(&self, repository: &RepositoryName) -> u64 {
        self.counter(self.hash_manifests(repository)).load(Ordering::Acquire)
    }

    /// A manifest was put into the repository, or deleted there.
    pub(super) fn raise_manifests(&self, repository: &RepositoryName) {
        self.raise_at(self.hash_manifests(repository));
    }

    fn hash_repository(&self, repository: &RepositoryName) -> DefaultHasher {
        let mut hasher = self.hashing.build_hasher();
        hasher.write(repository.as_str().as_bytes());
        // No byte of a name: what follows cannot be taken for more of it.
        hasher.write_u8(0xff);
        hasher
    }

    fn hash_manifests(&self, repository: &RepositoryName) -> u64 {
        let mut hasher = self.hash_repository(repository);
        hasher.write_u8(0xff);
        hasher.finish()
    }

    fn counter(&self, hash: u64) -> &AtomicU64 {
        &self.counters[hash as usize % COUNTERS]
    }

    /// Release: it comes after the commit, and before the answer. (Its twin is the reader's Acquire: the note comes
    /// before the query.)
    fn raise_at(&self, hash: u64) {
        self.counter(hash).fetch_add(1, Ordering::AcqRel);
    }
}
