//! Owns what is told of a stampede: a table for people and JSON for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::memory::Sample;
use super::readers::{Crowd, Outcome};
use super::{Passed, Usage};
use crate::figures::{mebibytes, median};
use crate::markdown;
use crate::report::{ratio, three_digits};

/// One crowd and what came of it.
pub(super) struct Stampede {
    pub(super) round: u16,
    /// How many were read, and the size of each.
    pub(super) blobs: u64,
    pub(super) blob_bytes: u64,
    pub(super) crowd: Crowd,
    pub(super) outcome: Outcome,
    pub(super) passed: Passed,
    /// Of the server alone, before and after.
    pub(super) memory: (Usage, Usage),
    pub(super) samples: Vec<Sample>,
    /// What it was to keep within, if that is known.
    pub(super) budget_bytes: Option<u64>,
    pub(super) peak_was_reset: bool,
    /// With its database.
    pub(super) server_cpu: Duration,
}

impl Stampede {
    /// How often each blob was read of the object store.
    fn backend_reads(&self) -> Option<f64> {
        ratio(self.passed.received_bytes as f64, (self.blobs * self.blob_bytes) as f64)
    }

    fn peak_bytes(&self) -> u64 {
        self.memory.1.peak_bytes
    }

    /// Negative where it stayed below.
    fn over_budget_bytes(&self) -> Option<f64> {
        self.budget_bytes.map(|budget| self.peak_bytes() as f64 - budget as f64)
    }

    fn seconds(&self, percent: f64) -> f64 {
        self.outcome.times.percentile(percent).as_secs_f64()
    }

    fn per_gigabyte(&self) -> Option<f64> {
        let bytes = self.outcome.bytes + self.outcome.slow_bytes;
        ratio(self.server_cpu.as_secs_f64(), bytes as f64 / 1e9)
    }
}

/// One row for each crowd, as Markdown, and what failed below it.
pub(super) fn table(subject: &str, found: &[Stampede]) -> String {
    let headings = [
        subject,
        "slow",
        "blobs",
        "MiB",
        "s",
        "MB/s",
        "p50 s",
        "p99 s",
        "max s",
        "store ×",
        "S3 GETs",
        "idle MiB",
        "peak MiB",
        "over budget",
        "cpu s/GB",
        "slow MB/s",
        "failed",
    ];
    let mut lines = vec![headings.map(str::to_owned).to_vec()];
    lines.extend(found.iter().map(line_of));
    let mut text = markdown::table(&lines, &[]);
    let mut remarks: Vec<String> = found.iter().flat_map(remarks_of).collect();
    remarks.extend(effect_of_slow(found));
    if !remarks.is_empty() {
        text.push_str(&format!("\n{}\n", remarks.join("\n")));
    }
    text
}

fn line_of(stampede: &Stampede) -> Vec<String> {
    let outcome = &stampede.outcome;
    let elapsed = outcome.elapsed.as_secs_f64();
    let whole = |bytes: f64| format!("{:.0}", bytes / f64::from(1 << 20));
    vec![
        stampede.crowd.fast.to_string(),
        stampede.crowd.slow.to_string(),
        stampede.blobs.to_string(),
        three_digits(Some(mebibytes(stampede.blob_bytes))),
        three_digits(Some(elapsed)),
        three_digits(ratio(outcome.bytes as f64 / 1e6, elapsed)),
        three_digits(Some(stampede.seconds(50.0))),
        three_digits(Some(stampede.seconds(99.0))),
        three_digits(Some(outcome.times.max().as_secs_f64())),
        three_digits(stampede.backend_reads()),
        stampede.passed.gets.to_string(),
        whole(stampede.memory.0.resident_bytes as f64),
        whole(stampede.peak_bytes() as f64),
        stampede.over_budget_bytes().map_or_else(|| "-".to_owned(), whole),
        three_digits(stampede.per_gigabyte()),
        three_digits(ratio(outcome.slow_bytes as f64 / 1e6, elapsed).filter(|_| stampede.crowd.slow > 0)),
        outcome.failures.to_string(),
    ]
}

fn remarks_of(stampede: &Stampede) -> Vec<String> {
    let mut remarks = Vec::new();
    let crowd = format!("- round {}, {} fast, {} slow", stampede.round + 1, stampede.crowd.fast, stampede.crowd.slow);
    if let Some(failure) = &stampede.outcome.first_failure {
        remarks.push(format!("{crowd}: {} failed, the first: {failure}", stampede.outcome.failures));
    }
    if !stampede.peak_was_reset {
        remarks.push(format!("{crowd}: peak memory is the one since the server began"));
    }
    remarks
}

/// What slow readers cost the fast ones: the medians of all rounds with them over those without.
fn effect_of_slow(found: &[Stampede]) -> Option<String> {
    let medians = |with_slow: bool, percent| {
        let rounds = found.iter().filter(|stampede| (stampede.crowd.slow > 0) == with_slow);
        median(rounds.map(|stampede| stampede.seconds(percent)).collect())
    };
    let times = |percent| Some(three_digits(ratio(medians(true, percent)?, medians(false, percent)?)));
    let (p50, p99) = (times(50.0)?, times(99.0)?);
    Some(format!("- beside slow readers, fast ones take {p50} × as long (p50), {p99} × (p99)"))
}

/// Everything, unrounded, in base units.
pub(super) fn json(subject: &str, processors: usize, found: &[Stampede]) -> Value {
    json!({"subject": subject, "processors": processors, "stampedes": found.iter().map(json_of).collect::<Vec<_>>()})
}

fn json_of(stampede: &Stampede) -> Value {
    let outcome = &stampede.outcome;
    let samples = stampede.samples.iter().map(|sample| json!([sample.at.as_secs_f64(), sample.resident_bytes]));
    json!({
        "round": stampede.round,
        "fast_readers": stampede.crowd.fast,
        "slow_readers": stampede.crowd.slow,
        "slow_bytes_per_second": stampede.crowd.slow_bytes_per_second,
        "verified_readers": stampede.crowd.verified.min(stampede.crowd.fast),
        "blobs": stampede.blobs,
        "blob_bytes": stampede.blob_bytes,
        "elapsed_seconds": outcome.elapsed.as_secs_f64(),
        "bytes": outcome.bytes,
        "slow_bytes": outcome.slow_bytes,
        "bytes_per_second": ratio(outcome.bytes as f64, outcome.elapsed.as_secs_f64()),
        "reader_seconds": {
            "mean": outcome.times.mean().as_secs_f64(),
            "p50": stampede.seconds(50.0),
            "p90": stampede.seconds(90.0),
            "p99": stampede.seconds(99.0),
            "max": outcome.times.max().as_secs_f64(),
        },
        "store_received_bytes": stampede.passed.received_bytes,
        "store_sent_bytes": stampede.passed.sent_bytes,
        "store_gets": stampede.passed.gets,
        "store_bytes_per_blob_byte": stampede.backend_reads(),
        "server_idle_bytes": stampede.memory.0.resident_bytes,
        "server_peak_bytes": stampede.peak_bytes(),
        "server_peak_was_reset": stampede.peak_was_reset,
        "server_resident_after_bytes": stampede.memory.1.resident_bytes,
        "server_resident_samples": samples.collect::<Vec<_>>(),
        "budget_bytes": stampede.budget_bytes,
        "over_budget_bytes": stampede.over_budget_bytes(),
        "server_cpu_seconds": stampede.server_cpu.as_secs_f64(),
        "server_cpu_seconds_per_gb": stampede.per_gigabyte(),
        "failures": outcome.failures,
        "first_failure": outcome.first_failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Histogram;

    fn stampede(slow: usize, seconds: u64, failures: u64) -> Stampede {
        let mut times = Histogram::new();
        (1..=10).for_each(|reader| times.record(Duration::from_secs(seconds * reader / 10)));
        let usage =
            |mebibytes: u64| Usage { peak_bytes: mebibytes << 20, resident_bytes: mebibytes << 20, ..Usage::default() };
        Stampede {
            round: 0,
            blobs: 1,
            blob_bytes: 1 << 30,
            crowd: Crowd { fast: 10, slow, slow_bytes_per_second: 1 << 20, verified: 1, receive_buffer: 1 << 18 },
            outcome: Outcome {
                times,
                elapsed: Duration::from_secs(seconds),
                bytes: 10 << 30,
                slow_bytes: slow as u64 * (seconds << 20),
                failures,
                first_failure: (failures > 0).then(|| "status 503".to_owned()),
            },
            passed: Passed { received_bytes: (1 << 30) + 4096, sent_bytes: 500, gets: 128, gets_from_start: 1 },
            memory: (usage(20), usage(560)),
            samples: vec![Sample { at: Duration::from_millis(200), resident_bytes: 300 << 20 }],
            budget_bytes: Some(512 << 20),
            peak_was_reset: true,
            server_cpu: Duration::from_secs(2),
        }
    }

    #[test]
    fn the_table_is_as_it_was() {
        let found = [stampede(0, 10, 0), stampede(1, 20, 2)];

        assert_eq!(table("longshore-s3", &found), include_str!("../../golden/stampede.md"));
    }

    #[test]
    fn the_json_is_as_it_was() {
        let text = format!("{:#}\n", json("longshore-s3", 2, &[stampede(1, 20, 2)]));

        assert_eq!(text, include_str!("../../golden/stampede.json"));
    }
}
