//! Owns the latency histogram: bounded memory whatever the number of values, percentiles with a known error.

use std::time::Duration;

/// Sub-buckets to each power of two, as a power of two: 128 of them, so a bucket is at most 1/128 (0.8 %) wide.
const PRECISION_BITS: u32 = 7;
const SUB_BUCKETS: usize = 1 << PRECISION_BITS;
/// Values below `SUB_BUCKETS` have a bucket each; every further power of two of a `u64` has `SUB_BUCKETS` more.
const BUCKETS: usize = SUB_BUCKETS * (u64::BITS - PRECISION_BITS + 1) as usize;

/// Durations in nanoseconds, counted in logarithmic buckets: 58 KiB for any number of values.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    sum_nanoseconds: u128,
    max_nanoseconds: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0, sum_nanoseconds: 0, max_nanoseconds: 0 }
    }

    /// Counts one duration. Beyond 584 years it counts as 584 years.
    pub(crate) fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket_of(nanoseconds)] += 1;
        self.total += 1;
        self.sum_nanoseconds += u128::from(nanoseconds);
        self.max_nanoseconds = self.max_nanoseconds.max(nanoseconds);
    }

    /// Adds what another connection has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.sum_nanoseconds += other.sum_nanoseconds;
        self.max_nanoseconds = self.max_nanoseconds.max(other.max_nanoseconds);
    }

    /// How many durations were counted.
    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// The longest duration, exact. Zero if there is none.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanoseconds)
    }

    /// The arithmetic mean, exact. Zero if there is none.
    pub(crate) fn mean(&self) -> Duration {
        let mean = self.sum_nanoseconds.checked_div(u128::from(self.total)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The smallest duration that at least `percent` of all do not exceed, rounded up by less than 1/128.
    /// Zero if there is none.
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        let rank = rank_of(percent, self.total);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return Duration::from_nanos(upper_edge_of(bucket).min(self.max_nanoseconds));
            }
        }
        Duration::ZERO
    }
}

/// The one-based rank of a percentile among `total` sorted values (nearest rank).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and total, both below 2^52 here"
)]
fn rank_of(percent: f64, total: u64) -> u64 {
    let rank = (percent / 100.0 * total as f64).ceil();
    (rank as u64).clamp(1, total.max(1))
}

fn bucket_of(nanoseconds: u64) -> usize {
    let Some(exponent) = nanoseconds.checked_ilog2().filter(|exponent| *exponent >= PRECISION_BITS) else {
        return nanoseconds as usize;
    };
    let shift = exponent - PRECISION_BITS;
    // The leading one is worth SUB_BUCKETS itself, so buckets follow one another without a gap.
    (nanoseconds >> shift) as usize + SUB_BUCKETS * shift as usize
}

/// The largest value that `bucket_of` puts into this bucket.
fn upper_edge_of(bucket: usize) -> u64 {
    if bucket < 2 * SUB_BUCKETS {
        return bucket as u64;
    }
    let shift = (bucket / SUB_BUCKETS - 1) as u32;
    let leading = (bucket % SUB_BUCKETS + SUB_BUCKETS) as u64;
    (leading << shift) | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact_percentile(sorted: &[u64], percent: f64) -> u64 {
        sorted[rank_of(percent, sorted.len() as u64) as usize - 1]
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        let histogram = Histogram::new();
        assert_eq!(histogram.percentile(50.0), Duration::ZERO);
        assert_eq!(histogram.max(), Duration::ZERO);
        assert_eq!(histogram.mean(), Duration::ZERO);
    }

    #[test]
    fn the_largest_value_has_the_last_bucket() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_edge_of(BUCKETS - 1), u64::MAX);
        let mut histogram = Histogram::new();
        histogram.record(Duration::MAX);
        assert_eq!(histogram.max(), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn one_slow_value_in_a_hundred_is_the_maximum_and_not_p99() {
        let mut histogram = Histogram::new();
        for _ in 0..99 {
            histogram.record(Duration::from_nanos(100));
        }
        histogram.record(Duration::from_secs(1));
        assert_eq!(histogram.percentile(99.0), Duration::from_nanos(100));
        assert_eq!(histogram.percentile(100.0), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn every_value_lies_in_its_bucket(value in any::<u64>()) {
            let bucket = bucket_of(value);
            prop_assert!(value <= upper_edge_of(bucket));
            prop_assert!(bucket == 0 || value > upper_edge_of(bucket - 1));
        }

        #[test]
        fn percentiles_are_within_a_128th_of_the_exact_ones(
            values in proptest::collection::vec((0u32..40).prop_flat_map(|bits| 0u64..=(1 << bits)), 1..500),
            percent in 0.0f64..=100.0,
        ) {
            let mut histogram = Histogram::new();
            for value in &values {
                histogram.record(Duration::from_nanos(*value));
            }
            let mut sorted = values;
            sorted.sort_unstable();
            let exact = exact_percentile(&sorted, percent);
            let reported = histogram.percentile(percent).as_nanos() as u64;
            prop_assert!(reported >= exact, "{reported} < {exact}");
            prop_assert!(reported - exact <= exact / 128, "{reported} is too far above {exact}");
        }

        #[test]
        fn merging_equals_recording_everything_in_one(
            left in proptest::collection::vec(any::<u32>(), 0..100),
            right in proptest::collection::vec(any::<u32>(), 0..100),
        ) {
            let (mut merged, mut other, mut whole) = (Histogram::new(), Histogram::new(), Histogram::new());
            for value in &left {
                merged.record(Duration::from_nanos(u64::from(*value)));
                whole.record(Duration::from_nanos(u64::from(*value)));
            }
            for value in &right {
                other.record(Duration::from_nanos(u64::from(*value)));
                whole.record(Duration::from_nanos(u64::from(*value)));
            }
            merged.merge(&other);
            prop_assert_eq!(&merged.counts, &whole.counts);
            prop_assert_eq!(merged.count(), whole.count());
            prop_assert_eq!(merged.mean(), whole.mean());
            prop_assert_eq!(merged.max(), whole.max());
        }
    }
}
