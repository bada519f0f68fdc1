//! Owns what is told of a registry that grew: medians at each size, and their ratios to the smallest.

use serde_json::{Value, json};

use crate::figures::{Figure, Figures};
use crate::markdown;
use crate::report::{ratio, three_digits};

/// What is measured at each size, in turn.
pub(super) const OPERATIONS: [&str; 3] = ["GET by tag", "tags page", "PUT new"];

/// One window.
pub(super) struct Found {
    pub(super) size: u64,
    pub(super) operation: &'static str,
    pub(super) round: u64,
    pub(super) figures: Figures,
    pub(super) detail: Value,
}

/// One row for each operation at each size, as Markdown.
pub(super) fn table(name: &str, found: &[Found]) -> String {
    let headings = [name, "manifests", "ops/s", "p50 ms", "p99 ms", "cpu µs/op", "p50 ×", "cpu ×"];
    let mut lines = vec![headings.map(str::to_owned).to_vec()];
    let mut sizes: Vec<u64> = found.iter().map(|found| found.size).collect();
    sizes.dedup();
    for operation in OPERATIONS {
        let median = |size: u64| {
            let rounds = found.iter().filter(|found| found.operation == operation && found.size == size);
            Figures::median(&rounds.map(|found| found.figures).collect::<Vec<_>>())
        };
        let Some(smallest) = sizes.first().map(|size| median(*size)) else { continue };
        for (index, size) in sizes.iter().enumerate() {
            let here = median(*size);
            let against = |figure| ratio(here.get(figure)?, smallest.get(figure)?);
            let first = if index == 0 { operation } else { "" };
            lines.push(vec![
                first.to_owned(),
                size.to_string(),
                three_digits(here.get(Figure::OperationsPerSecond)),
                three_digits(here.get(Figure::MedianMilliseconds)),
                three_digits(here.get(Figure::Percentile99Milliseconds)),
                three_digits(here.get(Figure::CpuMicrosecondsPerOperation)),
                three_digits(against(Figure::MedianMilliseconds)),
                three_digits(against(Figure::CpuMicrosecondsPerOperation)),
            ]);
        }
    }
    markdown::table(&lines, &[0])
}

/// Every window, unrounded, in base units.
pub(super) fn json(name: &str, found: &[Found], remark: Option<&str>) -> Value {
    let windows = found.iter().map(|found| {
        let mut object = found.detail.clone();
        object["manifests"] = found.size.into();
        object["operation"] = found.operation.into();
        object["round"] = found.round.into();
        object
    });
    json!({"subject": name, "windows": windows.collect::<Vec<_>>(), "remark": remark})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(operation: &'static str, size: u64, round: u64, milliseconds: f64) -> Found {
        let figures = Figures::default()
            .with(Figure::MedianMilliseconds, Some(milliseconds))
            .with(Figure::CpuMicrosecondsPerOperation, Some(100.0));
        Found { size, operation, round, figures, detail: json!({"operations": 5}) }
    }

    #[test]
    fn ratios_are_those_of_the_medians_to_the_smallest_size() {
        let all = [
            found("GET by tag", 1000, 0, 0.5),
            found("PUT new", 1000, 0, 2.0),
            found("GET by tag", 1000, 1, 0.5),
            found("GET by tag", 10_000, 0, 0.75),
            found("PUT new", 10_000, 0, 3.0),
        ];
        let table = table("registry", &all);
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = table.lines().skip(2).map(cells).collect();
        let shown = |row: usize| [1, 2, 4, 7, 8].map(|column| rows[row][column].as_str());
        assert_eq!(shown(0), ["GET by tag", "1000", "0.500", "1.00", "1.00"]);
        assert_eq!(shown(1), ["", "10000", "0.750", "1.50", "1.00"]);
        assert_eq!(shown(4), ["PUT new", "1000", "2.00", "1.00", "1.00"]);
        assert_eq!(shown(5), ["", "10000", "3.00", "1.50", "1.00"]);
        assert!(json("registry", &all, None)["windows"][3]["manifests"] == 10_000);
    }
}
