//! How often manifests are pulled, and when they and tags were last: counted in memory, and written to the database now
//! and then, many at a time. A pull waits for nothing here, and writes nothing.
//!
//! What clients do decides what counts. Docker, podman and skopeo GET a manifest by its tag. containerd, and so
//! Kubernetes, asks what the tag names by HEAD, and then GETs by digest what it has not got: most of the time nothing. So
//! a look by HEAD says that what is looked at, the tag or the manifest of the digest, is in use, and is no pull.
//!
//! | request | manifest | tag |
//! |---|---|---|
//! | GET by tag | pulled, in use | in use |
//! | GET by digest | pulled, in use | |
//! | HEAD by tag | | in use |
//! | HEAD by digest | in use | |

#[cfg(test)]
mod tests;

use crate::{Registry, Result};
use longshore_metadata::{ManifestPulls, TagPulls};
use longshore_oci::{Digest, Reference, RepositoryName};
use std::collections::{HashMap, hash_map::Entry};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// What a client wants with a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To have it.
    Pull,
    /// To know whether it is there, or what a tag names.
    Look,
}

/// What pull statistics have come to since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullCounts {
    /// Manifests and tags that wait to be written.
    pub waiting: u64,
    /// Rows of manifests and tags that were written.
    pub written: u64,
    /// Pulls and looks that were not counted, as too many different ones waited.
    pub dropped: u64,
}

/// So many parts, each with a lock of its own.
const SHARDS: usize = 16;
/// Manifests and tags that may wait in one part: some 10 MiB in all of them.
const ROOM: usize = 2048;
/// With so many in one part it is time to write.
const CROWDED: usize = ROOM / 4 * 3;
/// Rows of one statement: some milliseconds.
const BATCH: usize = 500;

/// A manifest of a repository, by its digest; or a tag.
type Key = (RepositoryName, Reference);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tally {
    /// 0 for tags.
    pulls: u64,
    last: Instant,
}

/// What is counted and not written yet.
#[derive(Debug)]
pub(crate) struct Pulls {
    shards: [Mutex<HashMap<Key, Tally>>; SHARDS],
    hasher: RandomState,
    crowded: Notify,
    written: AtomicU64,
    dropped: AtomicU64,
}

impl Pulls {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            crowded: Notify::new(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Counts a request that was answered with this manifest.
    pub(crate) fn count(&self, repository: RepositoryName, reference: Reference, manifest: Digest, purpose: Purpose) {
        let pulls = u64::from(purpose == Purpose::Pull);
        let now = Instant::now();
        let is_of_manifest = matches!(reference, Reference::Digest(_)) || purpose == Purpose::Pull;
        if is_of_manifest {
            self.add((repository.clone(), manifest.into()), Tally { pulls, last: now });
        }
        if let Reference::Tag(_) = reference {
            self.add((repository, reference), Tally { pulls: 0, last: now });
        }
    }

    fn add(&self, key: Key, more: Tally) {
        let shard = self.hasher.hash_one(&key) as usize % SHARDS;
        let mut shard = locked(&self.shards[shard]);
        let waiting = shard.len();
        match shard.entry(key) {
            Entry::Occupied(mut entry) => entry.get_mut().add(more),
            Entry::Vacant(entry) if waiting < ROOM => {
                entry.insert(more);
                if waiting + 1 == CROWDED {
                    self.crowded.notify_one();
                }
            }
            Entry::Vacant(_) => {
                self.dropped.fetch_add(more.pulls.max(1), Relaxed);
            }
        }
    }

    /// All that wait, of which none does any more.
    fn take(&self) -> Vec<(Key, Tally)> {
        self.shards.iter().flat_map(|shard| std::mem::take(&mut *locked(shard))).collect()
    }

    fn note_written(&self, rows: u64) {
        self.written.fetch_add(rows, Relaxed);
    }

    fn counts(&self) -> PullCounts {
        PullCounts {
            waiting: self.shards.iter().map(|shard| locked(shard).len() as u64).sum(),
            written: self.written.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}

impl Tally {
    fn add(&mut self, more: Self) {
        self.pulls += more.pulls;
        self.last = self.last.max(more.last);
    }
}

fn locked(shard: &Mutex<HashMap<Key, Tally>>) -> MutexGuard<'_, HashMap<Key, Tally>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// What pull statistics have come to.
    pub fn pull_counts(&self) -> PullCounts {
        self.pulls.as_deref().map(Pulls::counts).unwrap_or_default()
    }

    /// Writes pull statistics every `interval`, and earlier where too many wait; and for the last time when `stop` comes.
    /// What could not be written is reported, and written with the next ones.
    pub async fn write_pulls(
        &self,
        interval: Duration,
        stop: impl Future<Output = ()>,
        report: impl Fn(&crate::Error),
    ) {
        let Some(pulls) = &self.pulls else { return };
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        let mut is_over = false;
        while !is_over {
            tokio::select! {
                _ = ticks.tick() => {}
                () = pulls.crowded.notified() => {}
                () = &mut stop => is_over = true,
            }
            if let Err(error) = self.write_waiting(pulls).await {
                report(&error);
            }
        }
    }

    /// A batch may have been written although an error is answered: its pulls are counted twice then, and not lost.
    async fn write_waiting(&self, pulls: &Pulls) -> Result<()> {
        let (tags, manifests): (Vec<_>, Vec<_>) =
            pulls.take().into_iter().partition(|((_, reference), _)| matches!(reference, Reference::Tag(_)));
        let mut outcome = Ok(());
        for batch in manifests.chunks(BATCH).chain(tags.chunks(BATCH)) {
            if outcome.is_ok() {
                outcome = self.write_batch(batch).await.map(|rows| pulls.note_written(rows));
            }
            if outcome.is_err() {
                batch.iter().for_each(|(key, tally)| pulls.add(key.clone(), *tally));
            }
        }
        outcome
    }

    /// Writes down manifests, or tags. Answers how many are there.
    async fn write_batch(&self, batch: &[(Key, Tally)]) -> Result<u64> {
        let (mut manifests, mut tags) = (Vec::new(), Vec::new());
        for ((repository, reference), Tally { pulls, last }) in batch {
            let (repository, last) = (repository.clone(), last.elapsed());
            match reference {
                Reference::Digest(digest) => {
                    manifests.push(ManifestPulls { repository, digest: *digest, count: *pulls, last });
                }
                Reference::Tag(tag) => tags.push(TagPulls { repository, tag: tag.clone(), last }),
            }
        }
        if tags.is_empty() {
            return Ok(self.metadata.record_pulls_of_manifests(&manifests).await?);
        }
        Ok(self.metadata.record_pulls_of_tags(&tags).await?)
    }
}
