//! The server killed at a hundred moments of garbage collection.
//!
//! All garbage becomes due at one moment, by the database: from then on the database is looked at, and the server is killed
//! as soon as it shows that a certain step has been committed, or after so many looks. What a killed collector leaves must be
//! consistent, and the next one must go on with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::Image;
use longshore_tests::random::Random;
use longshore_tests::server::{Options, Server};

use crate::database::{Database, Step};
use crate::eventually::eventually;
use crate::garbage::{self, REPOSITORY};
use crate::{SEED, leftovers};

const KILLS_ON_SQLITE: usize = 100;
const KILLS_ON_S3: usize = 24;
/// Tags that stay. Each moves on once in so many kills, which makes garbage too.
const TAGS: usize = 5;
/// So deep lies what is kept by something that nothing keeps: a referrer, its blobs, their bytes.
const DEPTH: usize = 8;
/// How long a step may take on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the server is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// When the database shows that this step has been at work.
    Seen(Step),
    /// After so many looks at the database: any moment.
    Looks(usize),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_is_killed_at_any_step_leaves_all_in_order_on_sqlite_and_files() {
    let mut trial = Trial::on(Backend::Sqlite, "kill -9 of a collection, on files");
    trial.run(KILLS_ON_SQLITE).await;
    leftovers::assert_none(&trial.database, &trial.server.storage_directory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_is_killed_at_any_step_leaves_all_in_order_on_postgres_and_s3() {
    Trial::on(Backend::S3, "kill -9 of a collection, on S3").run(KILLS_ON_S3).await;
}

struct Trial {
    server: Server,
    database: Database,
    random: Random,
    /// What each tag must name.
    kept: BTreeMap<String, Image>,
}

impl Trial {
    fn on(backend: Backend, purpose: &str) -> Self {
        // Most of what is there is garbage, and that is meant so.
        let server = Server::start(Options::on(backend).set("gc.interval", "20ms").set("gc.breaker", "100"));
        let database = Database::at(server.database_url());
        Self { server, database, random: Random::announced(purpose, SEED), kept: BTreeMap::new() }
    }

    async fn run(&mut self, kills: usize) {
        for kill in 1..=kills {
            let tag = format!("kept-{}", kill % TAGS);
            let image = garbage::make(&self.client(), &mut self.random, &tag).await;
            self.kept.insert(tag, image);
            let moment = self.moment(kill);
            println!("kill {kill}: {moment:?}");
            self.collect_and_kill(moment).await;
            // Before any server looks at what it left.
            self.assert_consistent();
            self.server.restart();
            self.assert_kept().await;
            self.wait_until_collected().await;
        }
        self.collect_all().await;
        self.assert_kept().await;
        self.server.kill9();
        self.assert_consistent();
        self.server.restart();
        println!("{kills} kills: {} tags are whole, and nothing else is left", self.kept.len());
    }

    fn client(&self) -> Client {
        Client::new(self.server.url())
    }

    /// Each step in turn, and every other time any moment.
    fn moment(&mut self, kill: usize) -> Moment {
        if kill.is_multiple_of(2) {
            Moment::Seen(Step::ALL[kill / 2 % Step::ALL.len()])
        } else {
            Moment::Looks(self.random.between(0, 40))
        }
    }

    async fn collect_and_kill(&mut self, moment: Moment) {
        let (step, looks) = match moment {
            Moment::Seen(step) => (step, usize::MAX),
            Moment::Looks(looks) => (Step::Objects, looks),
        };
        let mut rows = self.database.before(step).await;
        assert!(matches!(moment, Moment::Looks(_)) || rows > 0, "there is nothing for this step to do");
        self.database.age().await;
        let begun = Instant::now();
        for _ in 0..looks {
            let left = self.database.before(step).await;
            if left < rows && matches!(moment, Moment::Seen(_)) {
                break;
            }
            rows = left;
            assert!(begun.elapsed() < PATIENCE, "{step:?} has not been at work after {PATIENCE:?}");
        }
        self.server.kill9();
    }

    fn assert_consistent(&self) {
        let said = self.server.run(&["fsck", "--older-than", "0s"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    async fn assert_kept(&self) {
        let client = self.client();
        for (tag, image) in &self.kept {
            client.assert_serves(REPOSITORY, tag, image).await;
        }
    }

    /// Waits until what was due has been looked at: the collector goes on where it was killed.
    async fn wait_until_collected(&self) {
        eventually("all that was due is looked at", || async { (self.database.due().await == 0).then_some(()) }).await;
    }

    /// Lets everything go that nothing keeps, to its last byte.
    async fn collect_all(&self) {
        for _ in 0..DEPTH {
            self.database.age().await;
            self.wait_until_collected().await;
        }
        eventually("no garbage is left", || async { (self.database.garbage().await == 0).then_some(()) }).await;
    }
}
