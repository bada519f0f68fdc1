//! The hot cache: segments of objects that are read again and again, in memory, bounded in bytes.
//!
//! Keys are never used again and objects never change, so nothing is ever invalidated; what is deleted is dropped for
//! the sake of its memory only. Which segments stay is decided by W-TinyLFU (moka), which objects are let in at all by
//! [`HotSegments::admits`]: a layer that is pulled once must not push out one that is pulled all day.
//!
//! Every segment is charged to one budget until its last reader has let go of it: what was pushed out of the cache and
//! still lies in a slow client's queue counts. Where the budget is used up nothing is let in, and readers go to the
//! file.

use crate::{ObjectKey, buffers::Buffers};
use bytes::Bytes;
use moka::{future::Cache, sync};
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes are cached under one key: large enough that a write to a socket takes one, small enough that a range
/// does not fetch much more than it needs.
pub(crate) const SEGMENT: u64 = 1024 * 1024;
/// Objects up to this size are let in at their first read: most layers are smaller, and a second read would come.
const LET_IN_AT_ONCE: u64 = 8 * 1024 * 1024;
/// Larger ones are let in at their second read; those that take more than this part of the cache at their third; and none
/// that takes more than that one.
const LARGE_PART: u64 = 8;
const LARGEST_PART: u64 = 2;
/// Objects whose reads are counted, and how long after the last.
const REMEMBERED: u64 = 64 * 1024;
const REMEMBERED_FOR: Duration = Duration::from_secs(60 * 60);
/// What is charged and weighed.
const UNIT: u64 = 1024;

/// A bounded cache of segments.
#[derive(Debug, Clone)]
pub(crate) struct HotSegments {
    segments: Cache<(ObjectKey, u64), Bytes>,
    /// How often objects were read that are not let in at once.
    reads: sync::Cache<ObjectKey, u8>,
    budget: Arc<Semaphore>,
    buffers: Arc<Buffers>,
    capacity: u64,
    segments_read: Arc<AtomicU64>,
}

/// What the hot cache holds and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HotUsage {
    /// Memory of segments that are cached, or pushed out and not sent yet.
    pub bytes: u64,
    /// What it never exceeds.
    pub capacity: u64,
    /// Segments that were read into it so far.
    pub segments_read: u64,
}

/// Memory of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    _permit: OwnedSemaphorePermit,
    buffers: Arc<Buffers>,
}

impl Charge {
    /// These bytes, charged until the last reader has let go of them.
    pub(crate) fn hold(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Segment { bytes, charge: self })
    }
}

/// A segment's memory, charged to the budget until it is given back.
struct Segment {
    bytes: Vec<u8>,
    charge: Charge,
}

impl AsRef<[u8]> for Segment {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.charge.buffers.give_back(std::mem::take(&mut self.bytes));
    }
}

/// There is no room, or the file cannot be read.
#[derive(Debug)]
struct NotCached;

impl HotSegments {
    /// A cache that never holds more than so many bytes; none if 0. An eighth of the budget is left to segments that
    /// were pushed out while somebody still sends them.
    pub(crate) fn new(capacity: u64) -> Self {
        Self::within(capacity, capacity / 8 * 7)
    }

    /// A cache of so many bytes in a budget of more, the rest of which is for what is read and not kept.
    pub(crate) fn within(budget: u64, cached: u64) -> Self {
        let units = usize::try_from(budget / UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let cached = cached / UNIT;
        let weigh = |_: &(ObjectKey, u64), bytes: &Bytes| units_of(bytes.len() as u64);
        Self {
            segments: Cache::builder().max_capacity(cached).weigher(weigh).build(),
            reads: sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build(),
            budget: Arc::new(Semaphore::new(units)),
            buffers: Arc::default(),
            capacity: units as u64 * UNIT,
            segments_read: Arc::default(),
        }
    }

    /// What is left of the budget, in bytes, when the cache is full.
    pub(crate) fn not_cached(&self) -> u64 {
        let cached = self.segments.policy().max_capacity().unwrap_or_default() * UNIT;
        self.capacity.saturating_sub(cached)
    }

    pub(crate) fn usage(&self) -> HotUsage {
        let free = self.budget.available_permits() as u64 * UNIT;
        let segments_read = self.segments_read.load(Ordering::Relaxed);
        HotUsage { bytes: self.capacity - free, capacity: self.capacity, segments_read }
    }

    /// Whether segments of this object are to be cached: told once for each time that it is opened.
    pub(crate) fn admits(&self, key: &ObjectKey, size: u64) -> bool {
        let reads_needed = match size {
            _ if size > self.capacity / LARGEST_PART => return false,
            _ if size > self.capacity / LARGE_PART => 3,
            _ if size > LET_IN_AT_ONCE => 2,
            _ => return true,
        };
        let reads = self.reads.get(key).unwrap_or_default().saturating_add(1);
        self.reads.insert(key.clone(), reads);
        reads >= reads_needed
    }

    /// Whether the segment is in memory.
    pub(crate) fn holds(&self, key: &ObjectKey, number: u64) -> bool {
        self.segments.contains_key(&(key.clone(), number))
    }

    /// The segment, if it is in memory.
    pub(crate) async fn get(&self, key: &ObjectKey, number: u64) -> Option<Bytes> {
        self.segments.get(&(key.clone(), number)).await
    }

    /// The segment, read into memory if it is not there: once, however many ask for it. `None` where there is no room
    /// or it cannot be read: whoever reads the file next is told why.
    pub(crate) async fn get_or_read(
        &self,
        object: &ObjectKey,
        size: u64,
        number: u64,
        read: impl Future<Output = crate::Result<Vec<u8>>>,
    ) -> Option<Bytes> {
        let range = segment(number, size);
        self.segments.try_get_with((object.clone(), number), self.read(range, read)).await.ok()
    }

    async fn read(
        &self,
        range: Range<u64>,
        read: impl Future<Output = crate::Result<Vec<u8>>>,
    ) -> Result<Bytes, NotCached> {
        let charge = self.charge(range.end - range.start).await.ok_or(NotCached)?;
        let bytes = read.await.map_err(|_| NotCached)?;
        self.segments_read.fetch_add(1, Ordering::Relaxed);
        Ok(charge.hold(bytes))
    }

    /// Memory for so many bytes, if there is some.
    pub(crate) fn try_charge(&self, bytes: u64) -> Option<Charge> {
        self.budget.clone().try_acquire_many_owned(units_of(bytes)).ok().map(|permit| self.charged(permit))
    }

    fn charged(&self, permit: OwnedSemaphorePermit) -> Charge {
        Charge { _permit: permit, buffers: self.buffers.clone() }
    }

    /// A buffer for a segment of so many bytes, empty.
    pub(crate) fn buffer(&self, bytes: usize) -> Vec<u8> {
        self.buffers.take(bytes)
    }

    async fn charge(&self, bytes: u64) -> Option<Charge> {
        match self.try_charge(bytes) {
            Some(charge) => Some(charge),
            None => {
                self.settle().await;
                self.try_charge(bytes)
            }
        }
    }

    /// Gives back what was pushed out: that is done a little later otherwise.
    pub(crate) async fn settle(&self) {
        self.segments.run_pending_tasks().await;
    }

    /// Memory for so many bytes, waited for as long as this.
    pub(crate) async fn charge_within(&self, bytes: u64, patience: Duration) -> Option<Charge> {
        let charge = self.budget.clone().acquire_many_owned(units_of(bytes));
        tokio::time::timeout(patience, charge).await.ok()?.ok().map(|permit| self.charged(permit))
    }

    /// Keeps a segment that somebody has read.
    pub(crate) async fn keep(&self, key: &ObjectKey, number: u64, bytes: Bytes) {
        self.segments.insert((key.clone(), number), bytes).await;
    }

    /// Counts a segment that somebody has read.
    pub(crate) fn count(&self) {
        self.segments_read.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets a deleted object.
    pub(crate) async fn forget(&self, key: &ObjectKey, size: u64) {
        for number in 0..size.div_ceil(SEGMENT) {
            self.segments.invalidate(&(key.clone(), number)).await;
        }
    }
}

/// Which segment a byte is in.
pub(crate) fn segment_of(offset: u64) -> u64 {
    offset / SEGMENT
}

/// The bytes of a segment of an object of this size.
pub(crate) fn segment(number: u64, size: u64) -> Range<u64> {
    number * SEGMENT..((number + 1) * SEGMENT).min(size)
}

fn units_of(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}
