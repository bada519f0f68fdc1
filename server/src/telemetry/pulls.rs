//! What pull statistics come to, for Prometheus.

use super::numbers::Numbers;
use longshore_registry::Registry;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use std::fmt;

/// The numbers of a registry.
#[derive(Debug)]
pub(crate) struct PullMetrics(pub(crate) Registry);

impl Collector for PullMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.0.pull_counts();
        let mut numbers = Numbers::new(encoder);
        numbers.counter("longshore_pull_rows_written", "Rows that pull statistics were written to", counts.written)?;
        numbers.counter(
            "longshore_pulls_dropped",
            "Pulls that were not counted, as too many waited",
            counts.dropped,
        )?;
        numbers.gauge(
            "longshore_pull_rows_waiting",
            "Manifests and tags whose pulls are not written yet",
            counts.waiting,
        )
    }
}
