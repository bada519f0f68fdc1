//! How the caches are used, for Prometheus: the one of reads and those of segments are asked at each look.

use super::numbers::Numbers;
use longshore_metadata::Metadata;
use longshore_storage::Storage;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use std::fmt;

/// The numbers of both handles.
#[derive(Debug)]
pub(crate) struct CacheMetrics {
    pub(crate) reads: Metadata,
    pub(crate) segments: Storage,
}

impl Collector for CacheMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (usage, hot) = (self.reads.cache_usage(), self.segments.hot_usage());
        let mut numbers = Numbers::new(encoder);
        let lost = self.reads.lost_races();
        let about = "Writes that a foreign key kept from what another one had just made wrong, and that ran again";
        numbers.counter("longshore_database_races_saved_by_foreign_key", about, lost.foreign_key)?;
        let about = "Writes that the database ended as they and another one waited for each other, and that ran again";
        numbers.counter("longshore_database_deadlocks", about, lost.lock_order)?;
        numbers.counter("longshore_cache_hits", "Reads that were answered from memory", usage.hits)?;
        numbers.counter("longshore_cache_misses", "Reads that the database was asked for", usage.misses)?;
        numbers.gauge("longshore_cache_entries", "Answers that are kept", usage.entries)?;
        numbers.gauge("longshore_cache_bytes", "What they take, with what it costs to keep them", usage.bytes)?;
        let is_open = u32::from(usage.is_open);
        numbers.gauge(
            "longshore_cache_open",
            "Whether memory may answer: not while replicas are not heard",
            is_open,
        )?;
        numbers.gauge("longshore_hot_cache_bytes", "Memory of segments of objects", hot.bytes)?;
        numbers.gauge("longshore_hot_cache_capacity_bytes", "What hot_cache_bytes never exceeds", hot.capacity)?;
        numbers.counter("longshore_hot_cache_segments_read", "Segments read into memory", hot.segments_read)?;
        if let Some(verified) = self.segments.verified_usage() {
            let about = "Objects in memory and on the local disk that were hashed, and were what their digest says";
            numbers.counter("longshore_object_cache_verified", about, verified.objects)?;
            let about = "Objects there that were not, and segments that came damaged later: dropped, and fetched again";
            numbers.counter("longshore_object_cache_damaged", about, verified.damaged)?;
        }
        let Some(disk) = self.segments.disk_usage() else { return Ok(()) };
        numbers.gauge("longshore_disk_cache_bytes", "Segments of objects on a local disk", disk.bytes)?;
        numbers.gauge("longshore_disk_cache_capacity_bytes", "What disk_cache_bytes never exceeds", disk.capacity)?;
        numbers.counter("longshore_disk_cache_hits", "Segments read from the disk", disk.hits)?;
        numbers.counter("longshore_disk_cache_misses", "Segments read from the object store", disk.misses)?;
        numbers.counter("longshore_disk_cache_corrupt", "Segments that were damaged on the disk", disk.corrupt)?;
        let about = "Segments that the disk was too slow to take";
        numbers.counter("longshore_disk_cache_dropped_writes", about, disk.dropped_writes)?;
        numbers.counter("longshore_disk_cache_errors", "Reads and writes that failed or were late", disk.errors)?;
        let about = "Whether the disk is used: not until its folder is looked through, nor for a while after it failed";
        numbers.gauge("longshore_disk_cache_on", about, u32::from(disk.is_on))
    }
}
