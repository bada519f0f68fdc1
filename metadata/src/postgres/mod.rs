//! PostgreSQL: many replicas share it. Writes run in READ COMMITTED, take their row locks in a fixed order where they
//! can, and are run again when the database resolves a conflict against them.

mod dialect;
mod hearing;
mod notifications;

#[path = "../queries/batch.rs"]
mod batch;
#[path = "../queries/blobs.rs"]
mod blobs;
#[path = "../queries/collection.rs"]
mod collection;
#[path = "../queries/finish.rs"]
mod finish;
#[path = "../queries/manifests.rs"]
mod manifests;
#[path = "../queries/migrations.rs"]
mod migrations;
#[path = "../queries/parts.rs"]
mod parts;
#[path = "../queries/references.rs"]
mod references;
#[path = "../queries/repositories.rs"]
mod repositories;
#[path = "../queries/uploads.rs"]
mod uploads;

use crate::cache::{Cache, Change};
use crate::{ConnectOptions, Durability, Error, Result};
use batch::Batch;
use hearing::{Hearing, hearing};
use notifications::Listener;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{str::FromStr, sync::Arc, time::Duration};

type Connection = PgConnection;
type Pool = PgPool;

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

/// Leaves the stronger settings (`remote_apply`) as they are.
const BE_DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// Every statement finds its rows by an index, however many there are. The planner cannot know that of a database that
/// was empty when it planned: it would read whole tables until their statistics are made, and for ever where a plan is
/// kept. So it is not left to choose, and need not plan again for each request. Nor is there anything to compile (`jit`):
/// a scan that is forbidden and has no alternative looks dear enough for that, and takes half a second. See ADR 0011.
const PLAN_BY_INDEX: &str = "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), \
    set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false), \
    set_config('enable_mergejoin', 'off', false), set_config('jit', 'off', false)";

/// The protocol has no statement of several with parameters.
const TOGETHER: &[(&[&str], &str)] = &[];

/// One round trip, like `BEGIN` alone. The setting ends with the transaction.
const BEGIN_RELAXED: &str = "BEGIN; SET LOCAL synchronous_commit = off";

/// A connection that was idle for so long is asked whether it lives before it is used.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How often a write is run again after the database resolved a conflict against it.
const MAX_ATTEMPTS: u32 = 8;

/// A pool of connections.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: Pool,
    address: PgConnectOptions,
    cache: Cache,
    /// Where there is a cache.
    listener: Option<Arc<Listener>>,
    hearing: Hearing,
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
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .after_connect(|connection, _| Box::pin(set_up(connection)))
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| Box::pin(is_alive(connection, metadata.idle_for)))
            .connect_with(address.clone())
            .await
            .map_err(Error::Unavailable)?;
        let (hearing, questions) = hearing();
        let listener = || Arc::new(Listener::start(pool.clone(), address.clone(), cache.clone(), questions));
        let listener = cache.is_on().then(listener);
        Ok(Self { pool, address, cache, listener, hearing })
    }

    /// Where reads run.
    fn reads(&self) -> &Pool {
        &self.pool
    }

    /// A connection outside the pool, for work on the schema.
    async fn owner_connection(&self) -> Result<Connection> {
        self.address.connect().await.map_err(Error::Unavailable)
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
        loop {
            attempt += 1;
            match self.write_once(work).await {
                Err(Error::Statement(error)) if attempt < MAX_ATTEMPTS && lost_a_race(&error) => {
                    tracing::debug!(attempt, %error, "a write lost a race and runs again");
                    tokio::time::sleep(backoff(attempt)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn write_once<T: Transaction>(&self, work: &T) -> Result<T::Output> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = match T::DURABILITY {
            Durability::Durable => connection.begin().await?,
            Durability::Relaxed => connection.begin_with(BEGIN_RELAXED).await?,
        };
        let output = work.run(&mut transaction).await?;
        transaction.commit().await?;
        Ok(output)
    }

    pub(crate) async fn close(&self) {
        self.stop_listening();
        self.pool.close().await;
    }

    pub(crate) fn stop_listening(&self) {
        if let Some(listener) = &self.listener {
            listener.stop();
        }
    }
}

/// An answer is given only for what is on the disk, whatever the server's own default is; and how rows are found is not
/// left to what the server happens to know of them.
async fn set_up(connection: &mut Connection) -> sqlx::Result<()> {
    sqlx::query(BE_DURABLE).execute(&mut *connection).await?;
    sqlx::query(PLAN_BY_INDEX).execute(connection).await?;
    Ok(())
}

/// Whether a connection of the pool can be used. One that was used a moment ago is not asked: that would be one more
/// round trip for each request.
async fn is_alive(connection: &mut Connection, idle_for: Duration) -> sqlx::Result<bool> {
    if idle_for >= TRUSTED_FOR {
        connection.ping().await?;
    }
    Ok(true)
}

/// Serialisation failure, deadlock, or a foreign key that caught what another transaction had just changed: looking
/// again gives the right answer.
fn lost_a_race(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else {
        return false;
    };
    matches!(database.code().as_deref(), Some("40001" | "40P01" | "23503"))
}

/// Longer with each attempt, and never the same for two writers.
fn backoff(attempt: u32) -> Duration {
    let spread = uuid::Uuid::new_v4().as_u128() as u64 % 4_000;
    Duration::from_micros(u64::from(attempt) * 1_000 + spread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_tests::postgres::Postgres;
    use sqlx::{Executor, SqlSafeStr};

    fn statements() -> Vec<(&'static str, &'static str)> {
        let files = [
            blobs::STATEMENTS,
            collection::STATEMENTS,
            finish::STATEMENTS,
            manifests::STATEMENTS,
            parts::STATEMENTS,
            references::STATEMENTS,
            repositories::STATEMENTS,
            uploads::STATEMENTS,
            notifications::STATEMENTS,
            hearing::STATEMENTS,
        ];
        files.concat()
    }

    /// A new database, without its schema.
    async fn empty() -> Store {
        let url = Postgres::shared().create_database();
        let options =
            ConnectOptions { url, max_connections: 1, acquire_timeout: Duration::from_secs(60), cache_size: 0 };
        Store::connect(&options, Cache::new(0)).await.unwrap()
    }

    #[tokio::test]
    async fn every_statement_is_understood() {
        let store = empty().await;
        store.migrate().await.unwrap();
        let mut connection = store.owner_connection().await.unwrap();
        for (name, sql) in statements() {
            let prepared = connection.prepare(sql.into_sql_str()).await;
            assert!(prepared.is_ok(), "{name}: {:?}", prepared.err());
        }
    }

    #[tokio::test]
    async fn every_statement_finds_its_rows_by_an_index_when_there_are_none_yet() {
        let store = empty().await;
        store.migrate().await.unwrap();
        let mut connection = store.reads().acquire().await.unwrap();
        for (number, (name, sql)) in statements().into_iter().enumerate() {
            let parameters = (1..=12).take_while(|number| sql.contains(&format!("${number}"))).count();
            let values = vec!["NULL"; parameters].join(", ");
            let call = if parameters == 0 { String::new() } else { format!("({values})") };
            let prepare = format!("PREPARE s{number} AS {sql}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *connection).await.unwrap();
            let explain = format!("EXPLAIN EXECUTE s{number}{call}");
            let lines: Vec<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(explain))
                .persistent(false)
                .fetch_all(&mut *connection)
                .await
                .unwrap();
            let plan = lines.into_iter().map(|(line,)| line).collect::<Vec<_>>().join("\n");
            // The one row of how long things are promised has no other way to it.
            let scans = plan.lines().filter(|line| line.contains("Seq Scan") && !line.contains("on lifetimes"));
            assert_eq!(scans.count(), 0, "{name}:\n{plan}");
            assert!(!["Hash Join", "Merge Join", "JIT:"].iter().any(|bad| plan.contains(bad)), "{name}:\n{plan}");
        }
    }

    #[tokio::test]
    async fn commits_are_durable_on_a_server_whose_default_is_not() {
        let store = empty().await;
        let mut plain = store.owner_connection().await.unwrap();
        let show = "SHOW synchronous_commit";
        let (default,): (String,) = sqlx::query_as(show).fetch_one(&mut plain).await.unwrap();
        let (ours,): (String,) = sqlx::query_as(show).fetch_one(store.reads()).await.unwrap();
        assert_eq!((default.as_str(), ours.as_str()), ("off", "on"));
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
            assert!((least..least + Duration::from_millis(4)).contains(&backoff(attempt)));
        }
    }
}
