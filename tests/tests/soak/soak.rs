//! A whole soak: clients for as long as it takes, then quiet, then nothing.

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_tests::client::{Client, body};
use longshore_tests::random::Random;
use longshore_tests::server::Server;
use tokio::task::JoinSet;

use crate::caller::Caller;
use crate::pool::Pool;
use crate::settled;
use crate::slot::Slot;
use crate::tally::Tally;
use crate::worker::{Common, Worker};

/// The variable that repeats a run's choices.
const SEED: &str = "LONGSHORE_SOAK_SEED";
/// The variable that says for how many events it goes on, for each test.
const EVENTS: &str = "LONGSHORE_SOAK_EVENTS";
/// Some forty seconds on two processors.
const USUAL_EVENTS: u64 = 12_000;
/// For so many events there is a pass of the collector at least.
const EVENTS_PER_CYCLE: u64 = 200;

const CLIENTS: usize = 6;
const REPOSITORIES: usize = 3;
/// Of each client in each repository.
const TAGS: usize = 4;

/// How often is looked whether it is enough.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The slowest machine, and the longest soak.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);

/// The servers, which share all that they store, and what clients know.
#[derive(Debug)]
pub(crate) struct Soak {
    replicas: Vec<Server>,
    random: Random,
    common: Arc<Common>,
    events: u64,
}

impl Soak {
    pub(crate) fn of(replicas: Vec<Server>, purpose: &str) -> Self {
        let mut random = Random::announced(purpose, SEED);
        let repositories: Vec<String> = (0..REPOSITORIES).map(|number| format!("soak/{number}")).collect();
        let tag = |number: usize| {
            let (client, rest) = (number / (REPOSITORIES * TAGS), number % (REPOSITORIES * TAGS));
            Arc::new(Slot::new(repositories[rest / TAGS].clone(), format!("of-{client}-{}", rest % TAGS)))
        };
        let slots = (0..CLIENTS * REPOSITORIES * TAGS).map(tag).collect();
        let common = Common { repositories, slots, pool: Pool::new(&mut random), tally: Arc::new(Tally::default()) };
        Self { replicas, random, common: Arc::new(common), events: wanted_events() }
    }

    pub(crate) async fn run(mut self) {
        self.work().await;
        let cycles = self.cycles().await;
        let tally = &self.common.tally;
        println!("{} events in {cycles} cycles of collection: {}", tally.events(), tally.account());
        for checked in
            ["promised blobs read", "untagged manifests read", "images pulled", "uploads left out after a HEAD"]
        {
            assert!(tally.times(checked) > 0, "no {checked}: what has been proved?");
        }
        settled::assert_whole(&self.replicas, &self.common.slots, &mut self.random).await;
        settled::assert_consistent(&mut self.replicas);
        settled::assert_empties(&mut self.replicas, &self.common.slots).await;
    }

    /// Lets the clients loose until they have done enough, and the collector too.
    async fn work(&mut self) {
        let mut working = JoinSet::new();
        for own in self.common.slots.chunks(REPOSITORIES * TAGS) {
            let doors = doors(&self.replicas);
            let caller = Caller::new(doors, self.random.fork(), Arc::clone(&self.common.tally));
            let worker = Worker::new(caller, self.random.fork(), Arc::clone(&self.common), own.to_vec());
            working.spawn(worker.work());
        }
        tokio::select! {
            () = self.enough() => {}
            ended = working.join_next() => panic!("a client stopped before it was told to: {ended:?}"),
        }
        self.common.tally.stop();
        working.join_all().await;
    }

    async fn enough(&self) {
        let begun = Instant::now();
        while self.common.tally.events() < self.events || self.cycles().await < self.events / EVENTS_PER_CYCLE {
            assert!(begun.elapsed() < PATIENCE, "it is not over after {PATIENCE:?}");
            tokio::time::sleep(LOOK_EVERY).await; // clients work meanwhile: how far they are is looked at again
        }
    }

    /// Passes of collection that came to their end, of all replicas.
    async fn cycles(&self) -> u64 {
        let mut cycles = 0;
        for door in doors(&self.replicas) {
            let metrics = body(door.get("/metrics").await).await;
            let metrics = String::from_utf8(metrics).expect("metrics are text");
            let passes = metrics.lines().find_map(|line| line.strip_prefix("longshore_gc_passes_total "));
            let passes = passes.and_then(|passes| passes.parse::<u64>().ok());
            cycles += passes.expect("the passes are counted");
        }
        cycles
    }
}

/// A client for each replica.
pub(crate) fn doors(replicas: &[Server]) -> Vec<Client> {
    replicas.iter().map(|replica| Client::new(replica.url())).collect()
}

fn wanted_events() -> u64 {
    let Ok(given) = env::var(EVENTS) else { return USUAL_EVENTS };
    given.parse().unwrap_or_else(|error| panic!("{EVENTS}={given}: {error}"))
}
