//! Owns what is told of registries whose garbage was collected.

use std::time::Duration;

use serde_json::{Value, json};

use super::{PHASES, milliseconds};
use crate::markdown;
use crate::measure::Histogram;
use crate::report::three_digits;

/// One registry.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) deletes_per_second: f64,
    /// Of the requests of readers, in each of [`PHASES`].
    pub(super) latencies: Vec<Histogram>,
    /// From the last delete until nothing was left, while it was read.
    pub(super) collected_after: Option<Duration>,
    /// For how long it answered nobody.
    pub(super) downtime: Option<Duration>,
}

/// What is printed and written.
pub(super) struct Told {
    pub(super) text: String,
    pub(super) json: Value,
}

impl Told {
    /// A table, and remarks below it.
    pub(super) fn with_remarks(lines: &[Vec<String>], remarks: &[String], json: Value) -> Self {
        let mut text = markdown::table(lines, &[0]);
        if !remarks.is_empty() {
            text.push('\n');
        }
        remarks.iter().for_each(|remark| text.push_str(&format!("- {remark}\n")));
        Self { text, json }
    }

    /// One row for each registry.
    pub(super) fn of_all(found: &[Found], remarks: &[String]) -> Self {
        let mut headings = vec!["registry".to_owned(), "deletes/s".to_owned()];
        for phase in PHASES {
            headings.extend(["p50", "p99", "max"].map(|figure| format!("{phase} {figure} ms")));
        }
        headings.extend(["gone after s", "downtime s"].map(str::to_owned));
        let mut lines = vec![headings];
        lines.extend(found.iter().map(Found::line));
        let registries: Vec<Value> = found.iter().map(Found::json).collect();
        Self::with_remarks(&lines, remarks, json!({"registries": registries, "remarks": remarks}))
    }
}

impl Found {
    fn line(&self) -> Vec<String> {
        let mut line = vec![self.name.clone(), three_digits(Some(self.deletes_per_second))];
        line.extend(self.latencies.iter().flat_map(figures));
        let seconds = |duration: Option<Duration>| three_digits(duration.map(|duration| duration.as_secs_f64()));
        line.extend([seconds(self.collected_after), seconds(self.downtime)]);
        line
    }

    fn json(&self) -> Value {
        let phases = PHASES.iter().zip(&self.latencies).map(|(phase, latencies)| {
            let mut told = latencies_as_json(latencies);
            told["beside"] = (*phase).into();
            told
        });
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        json!({
            "registry": self.name,
            "deletes_per_second": self.deletes_per_second,
            "reads": phases.collect::<Vec<_>>(),
            "collected_after_seconds": seconds(self.collected_after),
            "downtime_seconds": seconds(self.downtime),
        })
    }
}

/// Median, 99th percentile and maximum, as a table shows them; nothing of what did not happen.
pub(super) fn figures(latencies: &Histogram) -> [String; 3] {
    [50.0, 99.0, 100.0].map(|percent| three_digits((latencies.count() > 0).then(|| milliseconds(latencies, percent))))
}

/// The same, in seconds.
pub(super) fn latencies_as_json(latencies: &Histogram) -> Value {
    json!({
        "requests": latencies.count(),
        "p50_seconds": latencies.percentile(50.0).as_secs_f64(),
        "p99_seconds": latencies.percentile(99.0).as_secs_f64(),
        "max_seconds": latencies.max().as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_is_not_told() {
        let mut quick = Histogram::new();
        quick.record(Duration::from_millis(2));
        let found = Found {
            name: "registry".to_owned(),
            deletes_per_second: 1234.0,
            latencies: vec![quick.clone(), quick, Histogram::new()],
            collected_after: None,
            downtime: Some(Duration::from_secs(22)),
        };
        let told = Told::of_all(&[found], &["a remark".to_owned()]);
        let row = told.text.lines().nth(2).unwrap();
        let cells: Vec<&str> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!((cells.len(), cells[0], cells[2], cells[8]), (13, "registry", "2.00", "-"));
        assert!(cells[12] == "22.0" && told.text.ends_with("- a remark\n"), "{}", told.text);
        assert!(told.json["registries"][0]["collected_after_seconds"].is_null());
    }
}
