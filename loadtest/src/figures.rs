//! Owns the figures of a turn, in the units in which they are shown, and the median of several turns.

use std::time::Duration;

use crate::report::{Measurement, ratio};

/// What is told of a turn. The order is that of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    OperationsPerSecond,
    MegabytesPerSecond,
    MedianMilliseconds,
    Percentile99Milliseconds,
    CpuSecondsPerGigabyte,
    CpuMicrosecondsPerOperation,
    ClientCpu,
    Mebibytes,
    KibibytesPerConnection,
    StoreCpuSecondsPerGigabyte,
    StoreCpuMicrosecondsPerOperation,
    SumCpuSecondsPerGigabyte,
    SumCpuMicrosecondsPerOperation,
}

/// All figures with their headings.
pub(crate) const FIGURES: [(Figure, &str); 13] = [
    (Figure::OperationsPerSecond, "ops/s"),
    (Figure::MegabytesPerSecond, "MB/s"),
    (Figure::MedianMilliseconds, "p50 ms"),
    (Figure::Percentile99Milliseconds, "p99 ms"),
    (Figure::CpuSecondsPerGigabyte, "cpu s/GB"),
    (Figure::CpuMicrosecondsPerOperation, "cpu µs/op"),
    (Figure::ClientCpu, "client cpu"),
    (Figure::Mebibytes, "MiB"),
    (Figure::KibibytesPerConnection, "KiB/conn"),
    (Figure::StoreCpuSecondsPerGigabyte, "S3 s/GB"),
    (Figure::StoreCpuMicrosecondsPerOperation, "S3 µs/op"),
    (Figure::SumCpuSecondsPerGigabyte, "sum s/GB"),
    (Figure::SumCpuMicrosecondsPerOperation, "sum µs/op"),
];

/// One value for each figure, where there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figures([Option<f64>; FIGURES.len()]);

impl Figures {
    pub(crate) fn with(mut self, figure: Figure, value: Option<f64>) -> Self {
        self.0[figure as usize] = value;
        self
    }

    pub(crate) fn get(&self, figure: Figure) -> Option<f64> {
        self.0[figure as usize]
    }

    /// What the table shows of a window.
    pub(crate) fn of_window(window: &Measurement) -> Self {
        let seconds = window.elapsed.as_secs_f64();
        let (operations, bytes) = (window.operations as f64, window.bytes as f64);
        let server_cpu = window.server_cpu.as_secs_f64();
        let milliseconds = |percent| Some(window.latencies.percentile(percent).as_secs_f64() * 1e3);
        let per_gigabyte = ratio(server_cpu, bytes / 1e9).filter(|_| window.moves_content());
        Self::default()
            .with(Figure::OperationsPerSecond, ratio(operations, seconds))
            .with(Figure::MegabytesPerSecond, ratio(bytes / 1e6, seconds).filter(|_| window.moves_content()))
            .with(Figure::MedianMilliseconds, milliseconds(50.0))
            .with(Figure::Percentile99Milliseconds, milliseconds(99.0))
            .with(Figure::CpuSecondsPerGigabyte, per_gigabyte)
            .with(Figure::CpuMicrosecondsPerOperation, ratio(server_cpu * 1e6, operations))
            .with(Figure::ClientCpu, ratio(window.client_cpu.as_secs_f64(), seconds))
    }

    /// The same with what the object store behind the server used meanwhile, and the sum of both.
    pub(crate) fn with_store(self, window: &Measurement, store_cpu: Duration) -> Self {
        let (operations, gigabytes) = (window.operations as f64, window.bytes as f64 / 1e9);
        let (store, sum) = (store_cpu.as_secs_f64(), (store_cpu + window.server_cpu).as_secs_f64());
        let per_gigabyte = |seconds| ratio(seconds, gigabytes).filter(|_| window.moves_content());
        self.with(Figure::StoreCpuSecondsPerGigabyte, per_gigabyte(store))
            .with(Figure::StoreCpuMicrosecondsPerOperation, ratio(store * 1e6, operations))
            .with(Figure::SumCpuSecondsPerGigabyte, per_gigabyte(sum))
            .with(Figure::SumCpuMicrosecondsPerOperation, ratio(sum * 1e6, operations))
    }

    /// The median of each figure over the turns that have it.
    pub(crate) fn median(turns: &[Self]) -> Self {
        let mut medians = Self::default();
        for (figure, _) in FIGURES {
            let values = turns.iter().filter_map(|turn| turn.get(figure)).collect();
            medians = medians.with(figure, median(values));
        }
        medians
    }

    /// How fast it is, if it does something again and again or once: more is better.
    pub(crate) fn speed(&self) -> Option<f64> {
        let once = || self.get(Figure::MedianMilliseconds).and_then(|milliseconds| ratio(1e3, milliseconds));
        self.get(Figure::OperationsPerSecond).or_else(once)
    }

    /// What it costs with the object store behind it: processor time for each operation.
    pub(crate) fn whole_cost(&self) -> Option<f64> {
        self.get(Figure::SumCpuMicrosecondsPerOperation)
    }

    /// What it costs: processor time for each operation, or memory where none is counted. Less is better.
    pub(crate) fn cost(&self) -> Option<f64> {
        self.get(Figure::CpuMicrosecondsPerOperation).or(self.get(Figure::Mebibytes))
    }
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The middle value; of an even number the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return values.get(middle).copied();
    }
    let below = values.get(middle.checked_sub(1)?)?;
    Some(below.midpoint(*values.get(middle)?))
}

/// How far the slowest and the fastest turn lie apart, as a part of the median.
pub(crate) fn spread(turns: &[Figures]) -> Option<f64> {
    let speeds: Vec<f64> = turns.iter().filter_map(Figures::speed).collect();
    if speeds.len() < 2 {
        return None;
    }
    let fastest = speeds.iter().copied().fold(f64::MIN, f64::max);
    let slowest = speeds.iter().copied().fold(f64::MAX, f64::min);
    ratio(fastest - slowest, median(speeds)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn every_figure_has_a_median_of_its_own() {
        let turn =
            |speed, memory| Figures::default().with(Figure::OperationsPerSecond, speed).with(Figure::Mebibytes, memory);
        let turns = [turn(Some(1.0), None), turn(Some(3.0), Some(7.0)), turn(Some(2.0), Some(5.0))];
        assert_eq!(Figures::median(&turns), turn(Some(2.0), Some(6.0)));
        assert_eq!(spread(&turns), Some(1.0));
        assert_eq!(spread(&turns[..1]), None);
    }

    #[test]
    fn figures_stand_at_their_column() {
        for (index, (figure, _)) in FIGURES.into_iter().enumerate() {
            assert_eq!(figure as usize, index);
        }
    }
}
