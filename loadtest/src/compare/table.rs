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
    let mut lines = vec![headings()];
    for cell in rows.chunk_by(|row, next| row.case == next.case && row.connections == next.connections) {
        let cell: Vec<&Row> = cell.iter().collect();
        let base = base_of(&cell, wanted_base);
        let floor = cell.iter().copied().find(|row| row.subject == "floor");
        for (index, row) in cell.iter().enumerate() {
            lines.push(line_of(row, index == 0, base, floor));
        }
    }
    markdown::table(&lines, &[0, 2])
}

fn headings() -> Vec<String> {
    let figures = FIGURES.iter().map(|(_, heading)| *heading);
    let all =
        ["case", "c", "subject"].into_iter().chain(figures).chain(["spread", "speed ×", "cost ×", "cost × floor"]);
    all.map(str::to_owned).collect()
}

fn line_of(row: &Row, is_first: bool, base: Option<&Row>, floor: Option<&Row>) -> Vec<String> {
    let median = Figures::median(&row.turns);
    let shown = |figure: Option<f64>| figure.map_or_else(String::new, |figure| three_digits(Some(figure)));
    let mut cells = vec![String::new(), String::new(), row.subject.clone()];
    if is_first {
        cells[0].clone_from(&row.case);
        cells[1] = if row.connections == 0 { String::new() } else { row.connections.to_string() };
    }
    for (figure, _) in FIGURES {
        let mark = if figure == Figure::ClientCpu && row.client_bound { "*" } else { "" };
        cells.push(median.get(figure).map_or_else(String::new, |value| format!("{}{mark}", three_digits(Some(value)))));
    }
    cells.push(spread(&row.turns).map_or_else(String::new, |spread| format!("{:.0} %", spread * 100.0)));
    let against = |other: Option<&Row>, of: fn(&Figures) -> Option<f64>| {
        let other = of(&Figures::median(&other?.turns))?;
        ratio(of(&median)?, other)
    };
    if base.is_some_and(|base| std::ptr::eq(base, row)) {
        cells.extend(["base".to_owned(), "base".to_owned()]);
    } else {
        cells.extend([shown(against(base, Figures::speed)), shown(against(base, Figures::cost))]);
    }
    cells.push(shown(against(floor, Figures::cost)));
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
