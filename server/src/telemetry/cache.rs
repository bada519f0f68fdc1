//! How the cache of reads is used, for Prometheus: asked of the database's handle at each look.

use longshore_metadata::Metadata;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::{counter::ConstCounter, gauge::ConstGauge};
use std::fmt;

/// The numbers of one handle.
#[derive(Debug)]
pub(crate) struct CacheMetrics(pub(crate) Metadata);

impl Collector for CacheMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let usage = self.0.cache_usage();
        let gauge = |number: u64| ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
        let mut write = |name: &str, help: &str, metric: &dyn Encode| metric.encode_as(&mut encoder, name, help);
        write("hits", "Reads that were answered from memory", &ConstCounter::new(usage.hits))?;
        write("misses", "Reads that the database was asked for", &ConstCounter::new(usage.misses))?;
        write("entries", "Answers that are kept", &gauge(usage.entries))?;
        write("bytes", "What they take, with what it costs to keep them", &gauge(usage.bytes))?;
        write("open", "Whether memory may answer: not while replicas are not heard", &gauge(usage.is_open.into()))
    }
}

/// A metric of any kind.
trait Encode {
    fn encode_as(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

impl<M: EncodeMetric> Encode for M {
    fn encode_as(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        let name = format!("longshore_cache_{name}");
        self.encode(encoder.encode_descriptor(&name, help, None, self.metric_type())?)
    }
}
