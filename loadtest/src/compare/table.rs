//! Owns the table of a comparison: one row for each subject in each cell, with ratios to a base, as Markdown.

use crate::figures::{FIGURES, Figure, Figures, spread};
use crate::markdown;
use crate::report::{ratio, three_digits};

/// All turns of one subject in one cell.
pub(super) struct Row {
    pub(super) case: String,
    pub(super) connections: usize,
    pub(super) subject: String,
    pub(super) turns: Vec<Figures>,
    /// The client was the bottleneck in most turns.
    pub(super) client_bound: bool,
    /// It did what was asked for, and not less or more.
    pub(super) comparable: bool,
}

/// What the ratios of a cell are taken against: the subject that was asked for; else nginx, which shows what the
/// machine allows; else the fastest peer.
pub(super) fn base_of<'r>(rows: &[&'r Row], wanted: Option<&str>) -> Option<&'r Row> {
    let named = |name: &str| rows.iter().copied().find(|row| row.subject == name);
    let peers = rows.iter().copied().filter(|row| row.comparable && is_peer(&row.subject));
    let goodness = |row: &Row| {
        let median = Figures::median(&row.turns);
        // Where nothing is fast or slow, less memory is better.
        median.speed().or_else(|| median.cost().map(|cost| -cost)).unwrap_or(f64::MIN)
    };
    let best = peers.max_by(|one, other| goodness(one).total_cmp(&goodness(other)));
    wanted.and_then(named).or_else(|| named("nginx")).or(best).or_else(|| rows.first().copied())
}

fn is_peer(subject: &str) -> bool {
    !subject.starts_with("longshore") && !subject.starts_with("floor")
}

/// The whole table. Rows of one cell follow one another.
pub(super) fn whole(rows: &[Row], wanted_base: Option<&str>) -> String {
    let shown: Vec<(Figure, &str)> = FIGURES.into_iter().filter(|(figure, _)| is_shown(rows, *figure)).collect();
    // Only where there is an object store does the sum of two differ from the one.
    let has_store = rows.iter().any(|row| row.turns.iter().any(|turn| turn.whole_cost().is_some()));
    let mut lines = vec![headings(&shown, has_store)];
    for cell in rows.chunk_by(|row, next| row.case == next.case && row.connections == next.connections) {
        let cell: Vec<&Row> = cell.iter().collect();
        let base = base_of(&cell, wanted_base);
        let against = Against { base, floor: floor_of(&cell, base), has_store };
        for (index, row) in cell.iter().enumerate() {
            lines.push(line_of(row, index == 0, &shown, &against));
        }
    }
    markdown::table(&lines, &[0, 2])
}

/// What a row's ratios are taken against.
struct Against<'r> {
    base: Option<&'r Row>,
    floor: Option<&'r Row>,
    has_store: bool,
}

/// The limit of what can be done: our own bare server for pushes, nginx for reading where it is not the base already.
fn floor_of<'r>(cell: &[&'r Row], base: Option<&Row>) -> Option<&'r Row> {
    let named = |name: &str| cell.iter().copied().find(|row| row.subject == name);
    named("floor").or_else(|| named("nginx").filter(|_| base.is_none_or(|base| base.subject != "nginx")))
}

/// Figures of an object store are shown where there is one; all others always, so that tables can be laid side by side.
fn is_shown(rows: &[Row], figure: Figure) -> bool {
    let is_of_store = figure as usize > Figure::KibibytesPerConnection as usize;
    !is_of_store || rows.iter().any(|row| row.turns.iter().any(|turn| turn.get(figure).is_some()))
}

fn headings(shown: &[(Figure, &str)], has_store: bool) -> Vec<String> {
    let mut all = vec!["case", "c", "subject"];
    all.extend(shown.iter().map(|(_, heading)| *heading));
    all.extend(["spread", "speed ×", "cost ×"]);
    all.extend(has_store.then_some("sum ×"));
    all.push("cost × floor");
    all.into_iter().map(str::to_owned).collect()
}

fn line_of(row: &Row, is_first: bool, columns: &[(Figure, &str)], others: &Against<'_>) -> Vec<String> {
    let median = Figures::median(&row.turns);
    let shown = |figure: Option<f64>| figure.map_or_else(String::new, |figure| three_digits(Some(figure)));
    let mut cells = vec![String::new(), String::new(), row.subject.clone()];
    if is_first {
        cells[0].clone_from(&row.case);
        cells[1] = if row.connections == 0 { String::new() } else { row.connections.to_string() };
    }
    for (figure, _) in columns {
        let mark = if *figure == Figure::ClientCpu && row.client_bound { "*" } else { "" };
        cells
            .push(median.get(*figure).map_or_else(String::new, |value| format!("{}{mark}", three_digits(Some(value)))));
    }
    cells.push(spread(&row.turns).map_or_else(String::new, |spread| format!("{:.0} %", spread * 100.0)));
    let against = |other: Option<&Row>, of: fn(&Figures) -> Option<f64>| {
        let other = of(&Figures::median(&other?.turns))?;
        ratio(of(&median)?, other)
    };
    let mut ratios: Vec<fn(&Figures) -> Option<f64>> = vec![Figures::speed, Figures::cost];
    if others.has_store {
        ratios.push(Figures::whole_cost);
    }
    let is_base = others.base.is_some_and(|base| std::ptr::eq(base, row));
    cells
        .extend(ratios.into_iter().map(|of| if is_base { "base".to_owned() } else { shown(against(others.base, of)) }));
    cells.push(shown(against(others.floor, Figures::cost)));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(speed: f64, cpu: f64) -> Figures {
        Figures::default()
            .with(Figure::OperationsPerSecond, Some(speed))
            .with(Figure::MegabytesPerSecond, Some(speed * 67.1))
            .with(Figure::MedianMilliseconds, Some(1e3 / speed))
            .with(Figure::CpuMicrosecondsPerOperation, Some(cpu))
            .with(Figure::ClientCpu, Some(0.3))
    }

    fn memory(peak: f64) -> Figures {
        Figures::default().with(Figure::Mebibytes, Some(peak)).with(Figure::KibibytesPerConnection, Some(peak / 2.0))
    }

    fn row(case: &str, connections: usize, subject: &str, turns: &[Figures]) -> Row {
        let client_bound = subject == "nginx";
        Row {
            case: case.to_owned(),
            connections,
            subject: subject.to_owned(),
            turns: turns.to_vec(),
            client_bound,
            comparable: true,
        }
    }

    fn rows() -> Vec<Row> {
        vec![
            row("pull-64MiB", 16, "longshore-sqlite", &[turn(60.0, 9e3), turn(61.0, 9e3), turn(90.0, 9e3)]),
            row("pull-64MiB", 16, "nginx", &[turn(50.0, 10e3), turn(50.0, 10e3), turn(50.0, 10e3)]),
            row("pull-64MiB", 16, "distribution", &[turn(25.0, 37e3)]),
            row("push-64MiB-put", 1, "longshore-sqlite", &[turn(9.0, 90e3)]),
            row("push-64MiB-put", 1, "distribution", &[turn(5.0, 150e3)]),
            row("push-64MiB-put", 1, "docker-registry", &[turn(6.0, 140e3)]),
            row("push-64MiB-put", 1, "floor", &[turn(12.0, 80e3)]),
            row("slow-uploads", 200, "longshore-sqlite", &[memory(20.0), memory(24.0)]),
            row("slow-uploads", 200, "distribution", &[memory(80.0)]),
            row("start-up", 0, "longshore-sqlite", &[memory(20.0).with(Figure::MedianMilliseconds, Some(40.0))]),
            row("start-up", 0, "nginx", &[memory(16.0).with(Figure::MedianMilliseconds, Some(20.0))]),
        ]
    }

    #[test]
    fn the_table_is_as_it_was() {
        assert_eq!(whole(&rows(), None), include_str!("../../golden/compare.md"));
    }

    #[test]
    fn the_table_of_an_object_store_is_as_it_was() {
        let on_s3 = |speed: f64, cpu: f64, store: f64| {
            turn(speed, cpu)
                .with(Figure::StoreCpuMicrosecondsPerOperation, Some(store))
                .with(Figure::SumCpuMicrosecondsPerOperation, Some(cpu + store))
        };
        let rows = [
            row("pull-64MiB", 16, "longshore-s3", &[on_s3(60.0, 9e3, 1e3), on_s3(61.0, 9e3, 1e3)]),
            row("pull-64MiB", 16, "distribution-s3", &[on_s3(12.0, 40e3, 60e3)]),
            row("pull-64MiB", 16, "nginx", &[turn(50.0, 10e3)]),
            row("push-256MiB-put", 4, "longshore-s3", &[on_s3(2.0, 300e3, 400e3)]),
            row("push-256MiB-put", 4, "distribution-s3", &[on_s3(1.0, 600e3, 900e3)]),
        ];

        assert_eq!(whole(&rows, Some("distribution-s3")), include_str!("../../golden/compare-s3.md"));
    }

    #[test]
    fn the_base_is_the_one_asked_for_or_nginx_or_the_best_peer() {
        let rows = rows();
        let cell = |case: &str| rows.iter().filter(|row| row.case == case).collect::<Vec<_>>();
        let base = |case: &str, wanted| base_of(&cell(case), wanted).map(|row| row.subject.as_str());
        assert_eq!(base("pull-64MiB", None), Some("nginx"));
        assert_eq!(base("pull-64MiB", Some("distribution")), Some("distribution"));
        assert_eq!(base("push-64MiB-put", None), Some("docker-registry"));
        assert_eq!(base("push-64MiB-put", Some("nginx")), Some("docker-registry"));
        assert_eq!(base("slow-uploads", None), Some("distribution"));
        let mut other = row("push-64MiB-put", 1, "docker-registry", &[turn(99.0, 1e3)]);
        other.comparable = false;
        assert_eq!(base_of(&[&rows[4], &other], None).map(|row| row.subject.as_str()), Some("distribution"));
        assert_eq!(base_of(&[&rows[0]], None).map(|row| row.subject.as_str()), Some("longshore-sqlite"));
    }
}
