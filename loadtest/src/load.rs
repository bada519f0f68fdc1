//! Owns the clock: runs one case on a number of connections within its bounds, and reads the server's accounts before
//! and after.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::case::{Case, Operation, Plan, Prepared};
use crate::client::Connection;
use crate::measure::Histogram;
use crate::process::{self, ServerProcesses, Usage};
use crate::report::{CaseReport, EndedBy, Measurement, Outcome};
use crate::setup;
use crate::target::Target;

/// Operations that were begun in the window may end so much later; then they fail.
const GRACE: Duration = Duration::from_secs(180);
/// A connection gives up after so many failed operations.
const MAX_FAILURES: u64 = 5;
/// Enough for a request on the stack of a connection's thread; buffers are on the heap.
const STACK_BYTES: usize = 256 << 10;

/// Runs a case. Whatever goes wrong is told in the outcome, so that other cases still run.
pub(crate) fn run_case(case: &dyn Case, target: &Target, server: &ServerProcesses, plan: &Plan) -> CaseReport {
    let outcome = match try_case(case, target, server, plan) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed { reason: format!("{error:#}") },
    };
    CaseReport { case: case.name().to_owned(), connections: plan.connections, outcome }
}

fn try_case(case: &dyn Case, target: &Target, server: &ServerProcesses, plan: &Plan) -> Result<Outcome> {
    let operation = match prepare(case, target, plan)? {
        Prepared::Ready(operation) => operation,
        Prepared::Skipped(reason) => return Ok(Outcome::Skipped { reason }),
    };
    let remark = rehearse(operation.as_ref(), target)?;
    let measurement = run_window(operation.as_ref(), target, server, plan)?;
    audit(operation.as_ref(), target, &measurement)?;
    Ok(Outcome::Measured(Box::new(Measurement { remark, ..measurement })))
}

/// Brings the registry to the state that a case needs.
pub(crate) fn prepare(case: &dyn Case, target: &Target, plan: &Plan) -> Result<Prepared> {
    let mut connection = Connection::new(target, setup::setup_deadline());
    case.prepare(&mut connection, plan).context("cannot prepare")
}

/// Does the operation once, every byte verified. Answers what the reader of the figures should know.
pub(crate) fn rehearse(operation: &dyn Operation, target: &Target) -> Result<Option<String>> {
    let mut connection = Connection::new(target, setup::setup_deadline());
    operation.rehearse(&mut connection).context("the rehearsal failed")
}

/// Runs the window of an operation that has been prepared.
pub(crate) fn run_window(
    operation: &dyn Operation,
    target: &Target,
    server: &ServerProcesses,
    plan: &Plan,
) -> Result<Measurement> {
    let window = Window::of(operation, plan);
    let connections = open_connections(target, plan)?;
    measure(operation, connections, server, &window)
}

/// Verifies what a window without failures left behind.
pub(crate) fn audit(operation: &dyn Operation, target: &Target, measurement: &Measurement) -> Result<()> {
    if measurement.failures > 0 {
        return Ok(());
    }
    let mut connection = Connection::new(target, setup::setup_deadline());
    operation.audit(&mut connection, measurement.operations).context("the verification afterwards failed")
}

/// When to begin no more operations.
struct Window {
    time: Duration,
    operations: u64,
    /// What it means when the operations are used up.
    ended_by_operations: EndedBy,
}

impl Window {
    fn of(operation: &dyn Operation, plan: &Plan) -> Self {
        let asked = plan.operations.unwrap_or(u64::MAX);
        let available = operation.available().unwrap_or(u64::MAX);
        let ended_by_operations = if asked <= available { EndedBy::Operations } else { EndedBy::PreparedBodies };
        Self { time: plan.window, operations: asked.min(available), ended_by_operations }
    }
}

/// Opens every connection and has the server answer on it, so that none of this is in the window.
fn open_connections<'t>(target: &'t Target, plan: &Plan) -> Result<Vec<Connection<'t>>> {
    let deadline = Instant::now() + plan.window + GRACE;
    let mut connections = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        let mut connection = Connection::new(target, deadline);
        connection.open()?;
        connections.push(connection);
    }
    Ok(connections)
}

fn measure(
    operation: &dyn Operation,
    connections: Vec<Connection<'_>>,
    server: &ServerProcesses,
    window: &Window,
) -> Result<Measurement> {
    let start = Barrier::new(connections.len() + 1);
    let next_number = AtomicU64::new(0);
    let opened = connections.len() as u64;
    thread::scope(|scope| {
        let mut workers = Vec::with_capacity(connections.len());
        for connection in connections {
            let (start, next_number) = (&start, &next_number);
            let work = move || repeat_on_one_connection(operation, connection, start, next_number, window);
            // All threads must reach the barrier, so one that cannot be made ends the program instead of hanging it.
            match thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    eprintln!("longshore-loadtest: cannot start a thread for each connection: {error}");
                    std::process::exit(1);
                }
            }
        }
        let peak_was_reset = server.reset_peak();
        let before = Accounts::read(server);
        start.wait();
        let tallies: Vec<Tally> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        let after = Accounts::read(server);
        let total = Tally::sum(tallies);
        Ok(measurement(total, opened, window, &before?, &after?, peak_was_reset?))
    })
}

/// The processor time and memory of both sides, at one moment.
struct Accounts {
    server: Usage,
    client_cpu: Duration,
}

impl Accounts {
    fn read(server: &ServerProcesses) -> Result<Self> {
        // The client first: reading the server's accounts is work of the client.
        let client_cpu = process::own_cpu()?;
        Ok(Self { server: server.usage()?, client_cpu })
    }
}

/// What one connection did, or all of them.
struct Tally {
    latencies: Histogram,
    bytes: u64,
    failures: u64,
    first_failure: Option<String>,
    connects: u64,
    began: Instant,
    ended: Instant,
}

impl Tally {
    fn sum(tallies: Vec<Self>) -> Option<Self> {
        tallies.into_iter().reduce(|mut sum, tally| {
            sum.latencies.merge(&tally.latencies);
            sum.bytes += tally.bytes;
            sum.failures += tally.failures;
            sum.first_failure = sum.first_failure.or(tally.first_failure);
            sum.connects += tally.connects;
            sum.began = sum.began.min(tally.began);
            sum.ended = sum.ended.max(tally.ended);
            sum
        })
    }
}

fn repeat_on_one_connection(
    operation: &dyn Operation,
    mut connection: Connection<'_>,
    start: &Barrier,
    next_number: &AtomicU64,
    window: &Window,
) -> Tally {
    let mut repeat = operation.on_one_connection();
    let (mut latencies, mut bytes, mut failures, mut first_failure) = (Histogram::new(), 0, 0, None);
    start.wait();
    let began = Instant::now();
    let mut ended = began;
    while ended.duration_since(began) < window.time && failures < MAX_FAILURES {
        let number = next_number.fetch_add(1, Ordering::Relaxed);
        if number >= window.operations {
            break;
        }
        let result = repeat(&mut connection, number);
        let now = Instant::now();
        match result {
            Ok(moved) => {
                latencies.record(now.duration_since(ended));
                bytes += moved;
            }
            Err(error) => {
                failures += 1;
                first_failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
        ended = now;
    }
    Tally { latencies, bytes, failures, first_failure, connects: connection.connects(), began, ended }
}

fn measurement(
    total: Option<Tally>,
    opened: u64,
    window: &Window,
    before: &Accounts,
    after: &Accounts,
    peak_was_reset: bool,
) -> Measurement {
    let now = Instant::now();
    let total = total.unwrap_or_else(|| Tally {
        latencies: Histogram::new(),
        bytes: 0,
        failures: 0,
        first_failure: None,
        connects: 0,
        began: now,
        ended: now,
    });
    let used_up = total.latencies.count() + total.failures >= window.operations;
    let ended_by = match total.failures {
        0 if used_up => window.ended_by_operations,
        0 => EndedBy::Time,
        _ => EndedBy::Failures,
    };
    Measurement {
        operations: total.latencies.count(),
        bytes: total.bytes,
        failures: total.failures,
        first_failure: total.first_failure,
        reconnects: total.connects.saturating_sub(opened),
        ended_by,
        elapsed: total.ended.duration_since(total.began),
        latencies: total.latencies,
        server_cpu: after.server.cpu.saturating_sub(before.server.cpu),
        client_cpu: after.client_cpu.saturating_sub(before.client_cpu),
        resident_before_bytes: before.server.resident_bytes,
        resident_after_bytes: after.server.resident_bytes,
        peak_bytes: after.server.peak_bytes,
        peak_was_reset,
        remark: None,
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
