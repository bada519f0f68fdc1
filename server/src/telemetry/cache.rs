//! How the two caches are used, for Prometheus: the one of reads and the one of segments are asked at each look.

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
        numbers.counter("longshore_hot_cache_segments_read", "Segments read into memory", hot.segments_read)
    }
}
