//! Numbers that are asked for at each look at the metrics.

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, EncodeMetric, NoLabelSet,
};
use prometheus_client::metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge};
use prometheus_client::registry::Unit;
use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where they are written.
pub(super) struct Numbers<'a>(DescriptorEncoder<'a>);

impl<'a> Numbers<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// One that only rises; `_total` is added to its name.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    /// One that only rises, for each of several things that labels tell apart.
    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// How long something took, for each of several things that labels tell apart: the sum in seconds, how many there
    /// were, and how many of them up to each bound; `_seconds` is added to its name.
    pub(super) fn histograms_of_seconds<'h, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, (f64, u64, &'h [(f64, u64)]))>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, (sum, count, buckets)) in values {
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, buckets, None)?;
        }
        Ok(())
    }

    /// One that rises and falls.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

/// A time as Prometheus counts it.
pub(super) fn seconds_of(time: SystemTime) -> i64 {
    whole_seconds(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
