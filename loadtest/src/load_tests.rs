//! Tests of the bounds: an operation that needs no server, on connections that are never opened.

use anyhow::bail;

use super::*;
use crate::case::Repeated;

/// Moves 10 bytes; every number that is a multiple of `failing` fails.
struct Counting {
    available: Option<u64>,
    failing: Option<u64>,
}

impl Operation for Counting {
    fn available(&self) -> Option<u64> {
        self.available
    }

    fn rehearse(&self, _connection: &mut Connection<'_>) -> Result<Option<String>> {
        Ok(None)
    }

    fn on_one_connection(&self) -> Repeated<'_> {
        Box::new(|_connection, number| {
            if self.failing.is_some_and(|failing| number.is_multiple_of(failing)) {
                bail!("number {number}");
            }
            Ok(10)
        })
    }
}

fn run(operation: &Counting, operations: Option<u64>, window: Duration) -> Measurement {
    let target = Target::parse("http://127.0.0.1:1", None).unwrap();
    let plan = Plan { connections: 4, window, operations, push_budget_bytes: 0 };
    let far = Instant::now() + Duration::from_secs(60);
    let connections = (0..4).map(|_| Connection::new(&target, far)).collect();
    let server = ServerProcesses::new(vec![std::process::id()]).unwrap();
    measure(operation, connections, &server, &Window::of(operation, &plan)).unwrap()
}

#[test]
fn a_case_ends_after_the_operations_that_were_asked_for() {
    let operation = Counting { available: Some(2000), failing: None };
    let measurement = run(&operation, Some(1000), Duration::from_secs(600));
    assert_eq!((measurement.operations, measurement.bytes), (1000, 10_000));
    assert_eq!(measurement.latencies.count(), 1000);
    assert_eq!(measurement.ended_by, EndedBy::Operations);
    assert!(measurement.resident_before_bytes > 0);
}

#[test]
fn a_case_ends_when_what_was_prepared_is_used_up() {
    let operation = Counting { available: Some(7), failing: None };
    let measurement = run(&operation, None, Duration::from_secs(600));
    assert_eq!(measurement.operations, 7);
    assert_eq!(measurement.ended_by, EndedBy::PreparedBodies);
}

#[test]
fn a_case_ends_with_its_time() {
    let operation = Counting { available: None, failing: None };
    let measurement = run(&operation, None, Duration::from_millis(20));
    assert!(measurement.operations > 0);
    assert!(measurement.elapsed >= Duration::from_millis(20));
    assert_eq!(measurement.ended_by, EndedBy::Time);
}

#[test]
fn failures_are_counted_apart_and_end_a_connection_that_only_fails() {
    let some = run(&Counting { available: None, failing: Some(50) }, Some(60), Duration::from_secs(600));
    assert_eq!((some.operations, some.failures), (58, 2));
    assert_eq!(some.first_failure.as_deref().map(|text| text.starts_with("number ")), Some(true));
    assert_eq!(some.ended_by, EndedBy::Failures);

    let all = run(&Counting { available: None, failing: Some(1) }, None, Duration::from_secs(600));
    assert_eq!((all.operations, all.failures), (0, 4 * MAX_FAILURES));
}
