//! What a disk cache has done, and what it still has to do.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// What a disk cache holds and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    /// What its segments take on the disk, as they are counted: 64 KiB at least for each.
    pub bytes: u64,
    /// What it never exceeds.
    pub capacity: u64,
    /// Segments that were read from it so far.
    pub hits: u64,
    /// Segments that came from the object store instead.
    pub misses: u64,
    /// Segments that were not what had been written, and were removed.
    pub corrupt: u64,
    /// Segments that were not written, as too many were waiting for the disk.
    pub dropped_writes: u64,
    /// Reads and writes that failed, or that the disk did not answer in time.
    pub errors: u64,
    /// Whether it is read and written: not while the folder is looked through, nor for a while after the disk failed.
    pub is_on: bool,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    corrupt: AtomicU64,
    dropped_writes: AtomicU64,
    errors: AtomicU64,
}

impl Counts {
    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn corrupt(&self) {
        self.corrupt.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drop_write(&self) {
        self.dropped_writes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn usage(&self, bytes: u64, capacity: u64, is_on: bool) -> DiskUsage {
        DiskUsage {
            bytes,
            capacity,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            corrupt: self.corrupt.load(Ordering::Relaxed),
            dropped_writes: self.dropped_writes.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            is_on,
        }
    }
}

/// Work that was begun and has not ended.
#[derive(Debug, Default)]
pub(super) struct Jobs(watch::Sender<usize>);

/// A piece of work, until it is dropped.
#[derive(Debug)]
pub(super) struct Job(watch::Sender<usize>);

impl Jobs {
    pub(super) fn begin(&self) -> Job {
        self.0.send_modify(|running| *running += 1);
        Job(self.0.clone())
    }

    /// Waits until there is none.
    pub(super) async fn all_done(&self) {
        // Fails when the sender is gone, which is us.
        let _ = self.0.subscribe().wait_for(|running| *running == 0).await;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}
