//! Garbage collection against a model: any history of pushes, pulls, deletes, steps of the collector one by one, time that
//! goes by or is set wrong, replicas that end and die, stores that fail and bytes that rot, quotas, a breaker, backups and
//! restores, and after it all that the design promises (design.md, section 5).
//!
//! A history that fails is made as short as it can be and printed with its seed: `MODEL_SEED=...` plays that one again.
//! One that ends in a panic tells its seed too. `MODEL_CASES` plays more of them.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod check;
mod clock;
mod collection;
mod crash;
mod damage;
mod every_call;
mod expected;
#[allow(dead_code, reason = "other tests let reads fail in more ways")]
#[path = "../../../storage/tests/remote/faulty.rs"]
mod faulty;
mod known;
mod ledger;
mod operation;
mod play;
mod quota;
mod restore;
mod shorten;
mod steps;
mod world;

use operation::{Operation, operations};
use play::Outcome;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::{env, fmt::Write, sync::Arc, thread};
use tokio::runtime::Runtime;
use uuid::Uuid;
use world::{Engine, Limits, World};

/// Of how many operations a history is.
const LENGTH: usize = 200;

/// A number that the environment gives.
fn asked<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The history of a seed.
fn history(seed: u64) -> Vec<Operation> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    proptest::collection::vec(operations(), LENGTH).new_tree(&mut runner).unwrap().current()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Plays a history in a world of its own.
fn play(runtime: &Runtime, engine: &Arc<Engine>, history: &[Operation]) -> Outcome {
    runtime.block_on(async {
        let mut world = World::new(engine, Limits::tight()).await;
        let played = play::all(&mut world, history).await;
        world.close().await;
        played
    })
}

/// One operation a line.
fn listed(history: &[Operation]) -> String {
    history.iter().enumerate().fold(String::new(), |mut text, (number, operation)| {
        writeln!(text, "{number:>4} {operation:?}").unwrap();
        text
    })
}

/// Tells the seed of a history that ends in a panic: no outcome comes back then that could be printed with it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("MODEL_SEED={} plays it again", self.0);
        }
    }
}

/// Plays so many histories, or the one that the environment asks for.
fn run(engine: &Arc<Engine>, cases: usize) {
    let runtime = runtime();
    let seeds = match asked("MODEL_SEED") {
        Some(seed) => vec![seed],
        None => (0..asked("MODEL_CASES").unwrap_or(cases)).map(|_| Uuid::new_v4().as_u64_pair().0).collect(),
    };
    for seed in seeds {
        let history = history(seed);
        let _seed = Seed(seed);
        if let Err(why) = play(&runtime, engine, &history) {
            eprintln!("MODEL_SEED={seed}: {why}");
            let (history, why) = shorten::shorten(history, why, |history| play(&runtime, engine, history).err());
            panic!("{why}\n{}", listed(&history));
        }
    }
}

#[test]
fn one_process_on_sqlite_keeps_every_promise() {
    run(&Engine::sqlite(), 256);
}

#[test]
fn three_replicas_on_postgres_keep_every_promise() {
    run(&Engine::postgres(), 16);
}

#[test]
fn histories_that_failed_once_do_not_fail_again() {
    let runtime = runtime();
    for engine in [Engine::sqlite(), Engine::postgres()] {
        for (name, history) in known::histories() {
            play(&runtime, &engine, &history).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
}
