//! The server killed at a hundred points of pushes.

use std::sync::Arc;

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::postgres::{Durability, Postgres};
use longshore_tests::random::Random;
use longshore_tests::server::{Options, Server};
use tokio::task::JoinSet;

use crate::database::Database;
use crate::fuse::Fuse;
use crate::ledger::Ledger;
use crate::pusher::Pusher;
use crate::{KIB, MIB, SEED, leftovers, made_up};

const KILLS_ON_SQLITE: usize = 70;
const KILLS_ON_POSTGRES: usize = 35;
/// Clients that push at a time; half of them into the same repository.
const PUSHERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_pushes_survive_kill9_on_sqlite() {
    Trial::on(Options::on(Backend::Sqlite)).run(KILLS_ON_SQLITE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_pushes_survive_kill9_on_postgres() {
    let postgres = Postgres::start(Durability::Full);
    let options = Options::on(Backend::Postgres).set("database.url", &postgres.create_database());
    Trial::on(options).run(KILLS_ON_POSTGRES).await;
}

struct Trial {
    server: Server,
    ledger: Arc<Ledger>,
    pushers: Vec<Pusher>,
    random: Random,
}

impl Trial {
    fn on(options: Options) -> Self {
        // The collector is always at work, so that it is killed at it as well.
        let server = Server::start(options.set("gc.interval", "50ms").set("gc.object_delay", "0s"));
        let mut random = Random::announced("kill -9", SEED);
        let ledger = Arc::new(Ledger::default());
        let pushers = (0..PUSHERS)
            .map(|number| Pusher::new(number, &server, Arc::clone(&ledger), random.fork()))
            .collect::<Vec<_>>();
        Self { server, ledger, pushers, random }
    }

    async fn run(mut self, kills: usize) {
        for kill in 1..=kills {
            let fuse = Fuse::random(&mut self.random);
            println!("kill {kill}: {fuse:?}");
            self.push_and_kill(fuse).await;
            self.server.restart();
            self.ledger.settle(&self.client()).await;
            self.push_again().await;
        }
        self.end_as_if_days_later().await;
        println!("{kills} kills: {} blobs, manifests and tags acknowledged and served", self.ledger.acknowledged());
    }

    fn client(&self) -> Client {
        Client::new(self.server.url())
    }

    /// Lets all clients push until the fuse blows, and kills the server.
    async fn push_and_kill(&mut self, fuse: Fuse) {
        let fuse = Arc::new(fuse);
        let shared = vec![made_up::layer(&mut self.random, 3 * KIB), made_up::layer(&mut self.random, MIB)];
        let mut pushing = JoinSet::new();
        for mut pusher in self.pushers.drain(..) {
            pusher.connect(&self.server, &fuse);
            pushing.spawn(pusher.push_until_death(shared.clone()));
        }
        let client = self.client();
        tokio::select! {
            () = fuse.blown() => {}
            ended = pushing.join_next() => panic!("a client stopped before the server was killed: {ended:?}"),
        }
        for _ in 0..fuse.questions {
            client.get("/healthz").await;
        }
        fuse.kill();
        self.server.kill9();
        self.pushers = pushing.join_all().await;
    }

    /// Repeats every push that was cut off; nothing may go wrong now.
    async fn push_again(&mut self) {
        let mut pushing = JoinSet::new();
        for mut pusher in self.pushers.drain(..) {
            pusher.connect(&self.server, &Arc::new(Fuse::never()));
            pushing.spawn(async move {
                pusher.push_again().await;
                pusher
            });
        }
        self.pushers = pushing.join_all().await;
        self.ledger.settle(&self.client()).await;
    }

    /// Everything that was ever acknowledged is there when all sessions have expired, and nothing else is.
    async fn end_as_if_days_later(&mut self) {
        let database = Database::at(self.server.database_url());
        assert!(database.sessions().await > 0, "no kill has left a session behind: what is there to collect?");
        self.server.kill9();
        database.let_time_pass().await;
        self.server.restart();
        leftovers::assert_none(&database, &self.server.storage_directory()).await;
        self.ledger.settle_all(&self.client()).await;
    }
}
