//! Golden tests of the report.

use super::*;

fn measurement() -> Measurement {
    let mut latencies = Histogram::new();
    for milliseconds in 1..=100 {
        latencies.record(Duration::from_millis(milliseconds));
    }
    Measurement {
        operations: 100,
        bytes: 100 << 26,
        failures: 0,
        first_failure: None,
        reconnects: 0,
        ended_by: EndedBy::Time,
        elapsed: Duration::from_secs(2),
        latencies,
        server_cpu: Duration::from_millis(1340),
        client_cpu: Duration::from_millis(950),
        resident_before_bytes: 20 << 20,
        resident_after_bytes: 31 << 20,
        peak_bytes: 40 << 20,
        peak_was_reset: true,
        remark: None,
    }
}

fn report() -> Report {
    let case = |case: &str, connections, outcome| CaseReport { case: case.to_owned(), connections, outcome };
    let measured = |measurement| Outcome::Measured(Box::new(measurement));
    let client_bound = Measurement { client_cpu: Duration::from_millis(2500), ..measurement() };
    let small = Measurement {
        bytes: 100 << 10,
        ended_by: EndedBy::PreparedBodies,
        reconnects: 3,
        peak_was_reset: false,
        remark: Some("the registry answered 7 names where 100 were asked for".to_owned()),
        ..measurement()
    };
    let broken = Measurement {
        operations: 0,
        bytes: 0,
        failures: 5,
        first_failure: Some("GET /v2/: status 500 where 200 was expected".to_owned()),
        ended_by: EndedBy::Failures,
        elapsed: Duration::ZERO,
        latencies: Histogram::new(),
        ..measurement()
    };
    Report {
        target: "http://127.0.0.1:5000".to_owned(),
        pids: vec![4242, 4243],
        processors: 2,
        cases: vec![
            case("pull-64MiB", 1, measured(measurement())),
            case("pull-64MiB", 16, measured(client_bound)),
            case("pull-1KiB", 16, measured(small)),
            case("push-1GiB-put", 16, Outcome::Skipped { reason: "would push at least 16 GiB".to_owned() }),
            case("tags-first", 1, Outcome::Failed { reason: "cannot prepare: refused".to_owned() }),
            case("api-version", 1, measured(broken)),
        ],
    }
}

#[test]
fn the_table_is_as_it_was() {
    assert_eq!(report().to_table(), include_str!("../golden/report.txt"));
}

#[test]
fn the_json_is_as_it_was() {
    assert_eq!(format!("{:#}\n", report().to_json()), include_str!("../golden/report.json"));
}

#[test]
fn figures_have_three_digits() {
    let shown = [(None, "-"), (Some(0.0), "0.000"), (Some(0.12345), "0.123"), (Some(0.9999), "1.00")];
    let more = [(Some(9.999), "10.0"), (Some(12.34), "12.3"), (Some(99.96), "100"), (Some(54_321.5), "54322")];
    for (figure, text) in shown.into_iter().chain(more) {
        assert_eq!(three_digits(figure), text);
    }
}

#[test]
fn failures_are_noticed() {
    let mut report = report();
    assert!(report.has_failures());
    report.cases.truncate(4);
    assert!(!report.has_failures(), "a skipped case is no failure");
}
