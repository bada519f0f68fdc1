//! Owns what is told at the end: a table for people and JSON for programs, from the same figures.
//!
//! README.md says what every column means. GB and MB are 10^9 and 10^6 bytes, MiB are 2^20.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::measure::Histogram;

/// Below this many bytes an operation is a matter of requests, and its cost per GB says nothing.
const BYTES_WORTH_A_RATE: u64 = 64 << 10;

/// Everything that one call of `longshore-loadtest run` found.
pub(crate) struct Report {
    pub(crate) target: String,
    pub(crate) pids: Vec<u32>,
    /// Processors that client and server share.
    pub(crate) processors: usize,
    pub(crate) cases: Vec<CaseReport>,
}

/// One case on one number of connections.
pub(crate) struct CaseReport {
    pub(crate) case: String,
    pub(crate) connections: usize,
    pub(crate) outcome: Outcome,
}

/// What came of a case.
pub(crate) enum Outcome {
    Measured(Box<Measurement>),
    Skipped { reason: String },
    Failed { reason: String },
}

/// The figures of one window.
pub(crate) struct Measurement {
    /// Operations that succeeded.
    pub(crate) operations: u64,
    /// Content that they moved, without heads.
    pub(crate) bytes: u64,
    pub(crate) failures: u64,
    pub(crate) first_failure: Option<String>,
    /// Connections opened anew within the window.
    pub(crate) reconnects: u64,
    pub(crate) ended_by: EndedBy,
    /// From the first operation's beginning to the last one's end.
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Histogram,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
    pub(crate) resident_before_bytes: u64,
    pub(crate) resident_after_bytes: u64,
    pub(crate) peak_bytes: u64,
    /// False: the peak is the one since the server began.
    pub(crate) peak_was_reset: bool,
    pub(crate) remark: Option<String>,
}

/// Why no further operation was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndedBy {
    Time,
    Operations,
    PreparedBodies,
    Failures,
}

impl EndedBy {
    fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Operations => "operations",
            Self::PreparedBodies => "prepared bodies used up",
            Self::Failures => "failures",
        }
    }
}

impl Report {
    /// Whether a case failed or an operation in it.
    pub(crate) fn has_failures(&self) -> bool {
        self.cases.iter().any(|case| match &case.outcome {
            Outcome::Measured(measurement) => measurement.failures > 0,
            Outcome::Skipped { .. } => false,
            Outcome::Failed { .. } => true,
        })
    }

    /// The table, with remarks below it.
    pub(crate) fn to_table(&self) -> String {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        let mut remarks = Vec::new();
        for case in &self.cases {
            rows.push(self.row_of(case));
            remarks.extend(self.remarks_of(case));
        }
        let pids: Vec<String> = self.pids.iter().map(ToString::to_string).collect();
        let pids = pids.join(", ");
        let mut text = format!("{} (pid {pids}), {} processors\n\n", self.target, self.processors);
        write_aligned(&mut text, &rows);
        if !remarks.is_empty() {
            text.push('\n');
        }
        for remark in remarks {
            text.push_str(&remark);
            text.push('\n');
        }
        text
    }

    /// The same figures, unrounded, in base units.
    pub(crate) fn to_json(&self) -> Value {
        let cases: Vec<Value> = self.cases.iter().map(|case| self.json_of(case)).collect();
        json!({"target": self.target, "pids": self.pids, "processors": self.processors, "cases": cases})
    }

    fn row_of(&self, case: &CaseReport) -> [String; HEADINGS.len()] {
        let mut row = [const { String::new() }; HEADINGS.len()];
        row[0].clone_from(&case.case);
        row[1] = case.connections.to_string();
        match &case.outcome {
            Outcome::Measured(measurement) => {
                let client_bound = measurement.is_client_bound(case.connections, self.processors);
                for (cell, figure) in row[2..].iter_mut().zip(figures_of(measurement, client_bound)) {
                    *cell = figure;
                }
            }
            Outcome::Skipped { .. } => row[2] = "skipped".to_owned(),
            Outcome::Failed { .. } => row[2] = "FAILED".to_owned(),
        }
        row
    }

    fn remarks_of(&self, case: &CaseReport) -> Vec<String> {
        let mut remarks = Vec::new();
        match &case.outcome {
            Outcome::Skipped { reason } => remarks.push(format!("skipped: {reason}")),
            Outcome::Failed { reason } => remarks.push(format!("FAILED: {reason}")),
            Outcome::Measured(measurement) => {
                remarks.extend(measurement.remark.clone());
                if let Some(failure) = &measurement.first_failure {
                    remarks.push(format!("{} operations failed, the first: {failure}", measurement.failures));
                }
                if measurement.ended_by == EndedBy::PreparedBodies {
                    remarks.push("ended before its time: the prepared bodies were used up".to_owned());
                }
                if measurement.reconnects > 0 {
                    remarks.push(format!("the server closed {} connections", measurement.reconnects));
                }
                if !measurement.peak_was_reset {
                    remarks.push("peak memory is the one since the server began".to_owned());
                }
                if measurement.is_client_bound(case.connections, self.processors) {
                    remarks.push("* the client was the bottleneck: the server can do more than this".to_owned());
                }
            }
        }
        for remark in &mut remarks {
            *remark = format!("{} c{}: {remark}", case.case, case.connections);
        }
        remarks
    }

    fn json_of(&self, case: &CaseReport) -> Value {
        let mut object = match &case.outcome {
            Outcome::Measured(measurement) => {
                let mut object = measurement.to_json();
                object["client_bound"] = measurement.is_client_bound(case.connections, self.processors).into();
                object
            }
            Outcome::Skipped { reason } => json!({"outcome": "skipped", "reason": reason}),
            Outcome::Failed { reason } => json!({"outcome": "failed", "reason": reason}),
        };
        object["case"] = case.case.as_str().into();
        object["connections"] = case.connections.into();
        object
    }
}

impl Measurement {
    /// The client kept more than half of the processors busy that it could use, and more than the server did.
    pub(crate) fn is_client_bound(&self, connections: usize, processors: usize) -> bool {
        let usable = connections.min(processors) as f64;
        let (server, client) = (self.server_cpu.as_secs_f64(), self.client_cpu.as_secs_f64());
        client > server && client > 0.5 * usable * self.elapsed.as_secs_f64()
    }

    /// Whether operations move so much that a cost per byte says something.
    pub(crate) fn moves_content(&self) -> bool {
        self.bytes >= BYTES_WORTH_A_RATE.saturating_mul(self.operations.max(1))
    }

    /// All figures, unrounded, in base units.
    pub(crate) fn to_json(&self) -> Value {
        let latency = |percent| self.latencies.percentile(percent).as_secs_f64();
        json!({
            "outcome": "measured",
            "operations": self.operations,
            "bytes": self.bytes,
            "failures": self.failures,
            "first_failure": self.first_failure,
            "reconnects": self.reconnects,
            "ended_by": self.ended_by.name(),
            "remark": self.remark,
            "elapsed_seconds": self.elapsed.as_secs_f64(),
            "operations_per_second": ratio(self.operations as f64, self.elapsed.as_secs_f64()),
            "bytes_per_second": ratio(self.bytes as f64, self.elapsed.as_secs_f64()),
            "latency_seconds": {
                "mean": self.latencies.mean().as_secs_f64(),
                "p50": latency(50.0),
                "p90": latency(90.0),
                "p99": latency(99.0),
                "max": self.latencies.max().as_secs_f64(),
            },
            "server_cpu_seconds": self.server_cpu.as_secs_f64(),
            "server_cpu_seconds_per_gb": ratio(self.server_cpu.as_secs_f64(), self.bytes as f64 / 1e9),
            "server_cpu_seconds_per_operation": ratio(self.server_cpu.as_secs_f64(), self.operations as f64),
            "client_cpu_seconds": self.client_cpu.as_secs_f64(),
            "server_resident_before_bytes": self.resident_before_bytes,
            "server_resident_after_bytes": self.resident_after_bytes,
            "server_peak_bytes": self.peak_bytes,
            "server_peak_was_reset": self.peak_was_reset,
        })
    }
}

const HEADINGS: [&str; 16] = [
    "case",
    "c",
    "ops",
    "ops/s",
    "MB/s",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "max ms",
    "cpu s/GB",
    "cpu µs/op",
    "server cpu",
    "client cpu",
    "rss MiB",
    "peak MiB",
    "failed",
];

/// The columns from the third on.
fn figures_of(measurement: &Measurement, client_bound: bool) -> [String; HEADINGS.len() - 2] {
    let seconds = measurement.elapsed.as_secs_f64();
    let server_cpu = measurement.server_cpu.as_secs_f64();
    let (operations, bytes) = (measurement.operations as f64, measurement.bytes as f64);
    let latency = |duration: Duration| three_digits(Some(duration.as_secs_f64() * 1e3));
    let mark = if client_bound { "*" } else { "" };
    let cores = |cpu: Duration| three_digits(ratio(cpu.as_secs_f64(), seconds));
    [
        measurement.operations.to_string(),
        three_digits(ratio(operations, seconds)),
        three_digits(ratio(bytes / 1e6, seconds)),
        latency(measurement.latencies.percentile(50.0)),
        latency(measurement.latencies.percentile(90.0)),
        latency(measurement.latencies.percentile(99.0)),
        latency(measurement.latencies.max()),
        three_digits(ratio(server_cpu, bytes / 1e9).filter(|_| measurement.moves_content())),
        three_digits(ratio(server_cpu * 1e6, operations)),
        cores(measurement.server_cpu),
        format!("{}{mark}", cores(measurement.client_cpu)),
        format!("{}-{}", mebibytes(measurement.resident_before_bytes), mebibytes(measurement.resident_after_bytes)),
        mebibytes(measurement.peak_bytes).to_string(),
        measurement.failures.to_string(),
    ]
}

fn mebibytes(bytes: u64) -> u64 {
    (bytes + (1 << 19)) >> 20
}

/// None where there is nothing to divide by.
pub(crate) fn ratio(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| dividend / divisor)
}

/// Three digits are more than such a measurement can promise.
pub(crate) fn three_digits(figure: Option<f64>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(figure) if figure >= 99.95 => format!("{figure:.0}"),
        Some(figure) if figure >= 9.995 => format!("{figure:.1}"),
        Some(figure) if figure >= 0.9995 => format!("{figure:.2}"),
        Some(figure) => format!("{figure:.3}"),
    }
}

/// The first column flush left, figures flush right, no spaces at the end of a line.
fn write_aligned<const COLUMNS: usize>(text: &mut String, rows: &[[String; COLUMNS]]) {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = String::new();
        for (index, (width, cell)) in widths.iter().zip(row).enumerate() {
            // Writing into a String cannot fail.
            let _ = if index == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
