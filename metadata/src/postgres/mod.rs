//! PostgreSQL: many replicas share it. Writes run in READ COMMITTED, take their row locks in a fixed order where they
//! can, and are run again when the database resolves a conflict against them.

mod connections;
mod dialect;
mod hearing;
mod notifications;
#[cfg(test)]
mod plans;
mod roll;
mod sequences;
mod statistics;

#[path = "../queries/batch.rs"]
mod batch;
#[path = "../queries/blobs.rs"]
mod blobs;
#[path = "../queries/collection.rs"]
mod collection;
#[path = "../queries/contents.rs"]
mod contents;
#[path = "../queries/damage.rs"]
mod damage;
#[path = "../queries/finish.rs"]
mod finish;
#[path = "../queries/garbage.rs"]
mod garbage;
#[path = "../queries/history.rs"]
mod history;
#[path = "../queries/inventory.rs"]
mod inventory;
#[path = "../queries/manifests.rs"]
mod manifests;
#[path = "../queries/migrations.rs"]
mod migrations;
#[path = "../queries/old_blobs.rs"]
mod old_blobs;
#[path = "../queries/old_grants.rs"]
mod old_grants;
#[path = "../queries/old_manifests.rs"]
mod old_manifests;
#[path = "../queries/parts.rs"]
mod parts;
#[path = "../queries/preview.rs"]
mod preview;
#[path = "../queries/pulls.rs"]
mod pulls;
#[path = "../queries/references.rs"]
mod references;
#[path = "../queries/repositories.rs"]
mod repositories;
#[path = "../queries/restore.rs"]
mod restore;
#[path = "../queries/retention.rs"]
mod retention;
#[path = "../queries/reviews.rs"]
mod reviews;
#[path = "../queries/scrub.rs"]
mod scrub;
#[path = "../queries/snapshot.rs"]
mod snapshot;
#[path = "../queries/store_mark.rs"]
mod store_mark;
#[path = "../queries/uploads.rs"]
mod uploads;
#[path = "../queries/usage.rs"]
mod usage;

use crate::cache::{Cache, Change};
use crate::{ConnectOptions, Durability, Error, LostRaces, Result};
use batch::Batch;
use connections::{Connections, read};
use hearing::{Hearing, hearing};
pub(crate) use migrations::newest_migration;
use notifications::Listener;
pub(crate) use restore::Restore;
use sequences::AFTER_RESTORE;
pub(crate) use snapshot::Snapshot;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use statistics::Statistics;
use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

type Connection = PgConnection;

/// A writer outlives a crash of the database server. Its fence must not be given away for a second time.
const FENCE_DURABILITY: Durability = Durability::Durable;

/// The migrations of this engine, embedded. Those of a newer release, which another replica has applied, are left be.
fn migrator() -> sqlx::migrate::Migrator {
    let mut migrator = sqlx::migrate!("../migrations/postgres");
    migrator.set_ignore_missing(true);
    migrator
}

/// Under the advisory lock that sqlx takes; each migration is a transaction of its own.
async fn apply_migrations(connection: &mut Connection) -> Result<()> {
    Ok(migrator().run(connection).await?)
}

/// The protocol has no statement of several with parameters.
const TOGETHER: &[(&[&str], &str)] = &[];

/// One round trip, like `BEGIN` alone. The setting ends with the transaction.
const BEGIN_RELAXED: &str = "BEGIN; SET LOCAL synchronous_commit = off";

/// All that the transaction reads is of one moment, and it may wait for whoever takes what it reads. It makes nobody wait.
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0";

/// Whoever would write something waits until the database is filled; and who would have a table analyzed, whose rows nobody
/// sees yet, does not.
const BEGIN_RESTORE: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0; \
    LOCK TABLE repositories, objects, blobs, repository_blobs, manifests, manifest_blobs, manifest_children, \
    manifest_absent_blobs, tags, tag_history, deleted_manifests, damaged_blobs, users, tokens, grants, tombstones, audit_log, \
    gc_queue, usage_changes IN SHARE ROW EXCLUSIVE MODE";

/// How often a write is run again after the database resolved a conflict against it.
const MAX_ATTEMPTS: u32 = 12;

/// A pool of connections.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    connections: Connections,
    address: PgConnectOptions,
    cache: Cache,
    /// Where there is a cache.
    listener: Option<Arc<Listener>>,
    hearing: Hearing,
    statistics: Arc<Statistics>,
    races: Arc<Races>,
}

/// A write of several statements that stand or fall together. Taken by reference: it may run more than once.
trait Transaction: Send + Sync + 'static {
    type Output: Send + 'static;

    /// What its answer promises.
    const DURABILITY: Durability = Durability::Durable;

    fn run(&self, connection: &mut Connection) -> impl Future<Output = Result<Self::Output>> + Send;

    /// What others may have read that is another, or gone, after this. What is only added needs no mention.
    fn changes(&self) -> Vec<Change> {
        Vec::new()
    }
}

impl Store {
    pub(crate) async fn connect(options: &ConnectOptions, cache: Cache) -> Result<Self> {
        let address = PgConnectOptions::from_str(&options.url)
            .map_err(|error| Error::Address { reason: error.to_string() })?
            .application_name("longshore");
        let connections = Connections::open(options, address.clone()).await?;
        let (hearing, questions) = hearing();
        let listener = || Arc::new(Listener::start(connections.clone(), address.clone(), cache.clone(), questions));
        let listener = cache.is_on().then(listener);
        let statistics = Arc::new(Statistics::start(connections.clone()));
        Ok(Self { connections, address, cache, listener, hearing, statistics, races: Arc::default() })
    }

    /// A connection outside the pool, for work on the schema.
    async fn owner_connection(&self) -> Result<Connection> {
        self.address.connect().await.map_err(Error::unavailable)
    }

    /// A connection outside the pool, for a transaction that lasts.
    async fn long_connection(&self) -> Result<Connection> {
        let mut connection = self.owner_connection().await?;
        connections::set_up(&mut connection).await?;
        Ok(connection)
    }

    async fn write<T: Transaction>(&self, work: T) -> Result<T::Output> {
        // Dropped at the end of this function, so after the commit and before the answer. Where the outcome is not known
        // (the caller has gone away, or the connection, in the middle of a commit), nobody was told that it is done; if
        // it comes to be done yet, the commit brings its notification.
        let changes = work.changes();
        // Where we hear nothing ourselves, we cannot know what others hear.
        let is_heard_of = !changes.is_empty() && self.cache.is_open();
        let _announcement = self.cache.announce(changes);
        let outcome = self.write_again_and_again(&work).await;
        if is_heard_of && outcome.is_ok() {
            self.hearing.wait().await;
        }
        outcome
    }

    async fn write_again_and_again<T: Transaction>(&self, work: &T) -> Result<T::Output> {
        let mut attempt = 0;
        let mut patience = self.connections.patience();
        loop {
            attempt += 1;
            match self.write_once(work).await {
                Ok(output) => return Ok(output),
                Err(Failed::BeforeCommit(error)) if patience.bears(&error) => {}
                Err(Failed::BeforeCommit(Error::Statement(error)) | Failed::InCommit(Error::Statement(error)))
                    if attempt < MAX_ATTEMPTS && self.races.count(&error) =>
                {
                    tracing::debug!(attempt, %error, "a write lost a race and runs again");
                    tokio::time::sleep(backoff(attempt)).await;
                }
                Err(Failed::BeforeCommit(error) | Failed::InCommit(error)) => return Err(error),
            }
        }
    }

    async fn write_once<T: Transaction>(&self, work: &T) -> std::result::Result<T::Output, Failed> {
        let mut connection = self.connections.acquire().await?;
        let mut transaction = match T::DURABILITY {
            Durability::Durable => connection.begin().await?,
            Durability::Relaxed => connection.begin_with(BEGIN_RELAXED).await?,
        };
        let output = work.run(&mut transaction).await?;
        transaction.commit().await.map_err(|error| Failed::InCommit(error.into()))?;
        Ok(output)
    }

    pub(crate) fn lost_races(&self) -> LostRaces {
        let [foreign_key, lock_order] =
            [&self.races.foreign_key, &self.races.lock_order].map(|count| count.load(Ordering::Relaxed));
        LostRaces { foreign_key, lock_order }
    }

    pub(crate) async fn close(&self) {
        self.stop_listening();
        self.statistics.stop();
        self.connections.pool.close().await;
    }

    pub(crate) fn stop_listening(&self) {
        if let Some(listener) = &self.listener {
            listener.stop();
        }
    }
}

/// How far a write came that failed.
enum Failed {
    /// Nothing of it is there.
    BeforeCommit(Error),
    /// Where the connection was lost, nobody knows.
    InCommit(Error),
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::BeforeCommit(error.into())
    }
}

/// How many writes lost a race, see [`LostRaces`].
#[derive(Debug, Default)]
struct Races {
    foreign_key: AtomicU64,
    lock_order: AtomicU64,
}

impl Races {
    /// Counts what was lost by serialisation failure, deadlock, or a foreign key that caught what another transaction had
    /// just changed: looking again gives the right answer. False for any other error.
    fn count(&self, error: &sqlx::Error) -> bool {
        let sqlx::Error::Database(database) = error else {
            return false;
        };
        let lost = match database.code().as_deref() {
            Some("23503") => &self.foreign_key,
            Some("40001" | "40P01") => &self.lock_order,
            _ => return false,
        };
        lost.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// Longer with each attempt, and never the same for two writers. The span in which they come back doubles, up to an eighth of
/// a second: where a dozen meet at the same rows, a few milliseconds would have them meet again.
fn backoff(attempt: u32) -> Duration {
    let span = 4_000 << (attempt - 1).min(5);
    let spread = uuid::Uuid::new_v4().as_u128() as u64 % span;
    Duration::from_micros(u64::from(attempt) * 1_000 + spread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_tests::postgres::Postgres;

    /// A new database, without its schema.
    pub(super) async fn empty() -> Store {
        let url = Postgres::shared().create_database();
        let options =
            ConnectOptions { url, max_connections: 1, acquire_timeout: Duration::from_secs(60), cache_size: 0 };
        Store::connect(&options, Cache::new(0, Duration::ZERO)).await.unwrap()
    }

    #[tokio::test]
    async fn commits_are_durable_on_a_server_whose_default_is_not() {
        let store = empty().await;
        let mut plain = store.owner_connection().await.unwrap();
        let show = "SHOW synchronous_commit";
        let (default,): (String,) = sqlx::query_as(show).fetch_one(&mut plain).await.unwrap();
        let (ours,): (String,) = sqlx::query_as(show).fetch_one(&store.connections.pool).await.unwrap();
        assert_eq!((default.as_str(), ours.as_str()), ("off", "on"));
    }

    /// No index has to be written when pulls are counted, as long as there is room in the row's page.
    #[tokio::test]
    async fn pull_statistics_are_heap_only() {
        let store = empty().await;
        store.migrate().await.unwrap();
        let mut transaction = store.connections.pool.begin().await.unwrap();
        let rows = "INSERT INTO repositories (name, created_at) VALUES ('app', 0); \
            INSERT INTO manifests (repository_id, digest, media_type, body, size, pushed_at) \
            SELECT id, 'd', 'text', 'b', 1, 0 FROM repositories; \
            INSERT INTO tags (repository_id, name, manifest_id, updated_at) \
            SELECT repository_id, 'latest', id, 0 FROM manifests";
        sqlx::raw_sql(rows).execute(&mut *transaction).await.unwrap();
        for (statement, table, row) in [
            (pulls::RECORD_OF_MANIFESTS, "manifests", r#"[["app", "64", 1, 0]]"#),
            (pulls::RECORD_OF_TAGS, "tags", r#"[["app", "latest", 0]]"#),
        ] {
            let hot = "SELECT pg_stat_get_xact_tuples_hot_updated($1::regclass)";
            let count = || sqlx::query_scalar::<_, i64>(hot).bind(table);
            let before = count().fetch_one(&mut *transaction).await.unwrap();
            sqlx::query(statement).bind(row).execute(&mut *transaction).await.unwrap();
            assert_eq!(count().fetch_one(&mut *transaction).await.unwrap() - before, 1, "{table}");
        }
    }

    struct AskSetting<const RELAXED: bool>;

    impl<const RELAXED: bool> Transaction for AskSetting<RELAXED> {
        type Output = String;

        const DURABILITY: Durability = if RELAXED { Durability::Relaxed } else { Durability::Durable };

        async fn run(&self, connection: &mut Connection) -> Result<String> {
            Ok(sqlx::query_scalar("SHOW synchronous_commit").fetch_one(connection).await?)
        }
    }

    #[tokio::test]
    async fn relaxed_writes_do_not_wait_for_the_disk_and_durable_ones_do() {
        let store = empty().await;
        for _ in 0..2 {
            assert_eq!(store.write(AskSetting::<true>).await.unwrap(), "off");
            assert_eq!(store.write(AskSetting::<false>).await.unwrap(), "on");
        }
    }

    #[test]
    fn attempts_are_spread_and_wait_longer_each_time() {
        for attempt in 1..MAX_ATTEMPTS {
            let least = Duration::from_millis(attempt.into());
            let span = Duration::from_millis(4 * 2_u64.pow((attempt - 1).min(5)));
            assert!((least..least + span).contains(&backoff(attempt)));
        }
    }
}
