//! Garbage collection against a model: any history of pushes, pulls, deletes, steps of the collector one by one, time that
//! goes by, replicas that end and stores that fail, and after it all that the design promises (design.md, section 5).
//!
//! A case that fails is shrunk and printed with its operations; its seed is kept in `proptest-regressions/`, which is run
//! first from then on. `MODEL_CASES` runs more of them.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod check;
mod clock;
mod expected;
#[allow(dead_code, reason = "reads fail in other tests")]
#[path = "../../../storage/tests/remote/faulty.rs"]
mod faulty;
mod ledger;
mod operation;
mod play;
mod world;

use operation::{Operation, operations};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};
use std::env;
use world::{Engine, World};

/// As many cases as the environment says, or these.
fn config(cases: u32) -> Config {
    let cases = env::var("MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    let source = Box::new(proptest::test_runner::FileFailurePersistence::WithSource("proptest-regressions"));
    Config { cases, max_shrink_iters: 2000, failure_persistence: Some(source), ..Config::default() }
}

/// Plays histories of so many operations.
fn run(engine: &Engine, cases: u32, length: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(config(cases));
    let histories = proptest::collection::vec(operations(), length).prop_map(History);
    let outcome = runner.run(&histories, |History(history)| {
        let played = runtime.block_on(async {
            let mut world = World::new(engine).await;
            let played = play::all(&mut world, &history).await;
            world.close().await;
            played
        });
        played.map_err(TestCaseError::fail)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// One operation a line, as it is printed.
#[derive(Clone)]
struct History(Vec<Operation>);

impl std::fmt::Debug for History {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, operation) in self.0.iter().enumerate() {
            writeln!(formatter, "{number:>4} {operation:?}")?;
        }
        Ok(())
    }
}

#[test]
fn one_process_on_sqlite_keeps_every_promise() {
    run(&Engine::sqlite(), 256, 200);
}

#[test]
fn three_replicas_on_postgres_keep_every_promise() {
    run(&Engine::postgres(), 16, 200);
}
