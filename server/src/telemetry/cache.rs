//! How the two caches are used, for Prometheus: the one of reads and the one of segments are asked at each look.

use longshore_metadata::Metadata;
use longshore_storage::Storage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::{counter::ConstCounter, gauge::ConstGauge};
use std::fmt;

/// The numbers of both handles.
#[derive(Debug)]
pub(crate) struct CacheMetrics {
    pub(crate) reads: Metadata,
    pub(crate) segments: Storage,
}

impl Collector for CacheMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (usage, hot) = (self.reads.cache_usage(), self.segments.hot_usage());
        let gauge = |number: u64| ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
        let mut write = |name: &str, help: &str, metric: &dyn Encode| metric.encode_as(&mut encoder, name, help);
        write("cache_hits", "Reads that were answered from memory", &ConstCounter::new(usage.hits))?;
        write("cache_misses", "Reads that the database was asked for", &ConstCounter::new(usage.misses))?;
        write("cache_entries", "Answers that are kept", &gauge(usage.entries))?;
        write("cache_bytes", "What they take, with what it costs to keep them", &gauge(usage.bytes))?;
        write(
            "cache_open",
            "Whether memory may answer: not while replicas are not heard",
            &gauge(usage.is_open.into()),
        )?;
        write("hot_cache_bytes", "Memory of segments of objects", &gauge(hot.bytes))?;
        write("hot_cache_capacity_bytes", "What hot_cache_bytes never exceeds", &gauge(hot.capacity))?;
        write("hot_cache_segments_read", "Segments read into memory", &ConstCounter::new(hot.segments_read))
    }
}

/// A metric of any kind.
trait Encode {
    fn encode_as(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

impl<M: EncodeMetric> Encode for M {
    fn encode_as(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        let name = format!("longshore_{name}");
        self.encode(encoder.encode_descriptor(&name, help, None, self.metric_type())?)
    }
}
