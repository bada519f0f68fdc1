//! SQLite: one process, one file. One writer with group commit, separate readers, WAL, `synchronous=FULL`: what was
//! acknowledged survives kill -9 and power loss.

mod dialect;
mod writer;

#[path = "../queries/blobs.rs"]
mod blobs;
#[path = "../queries/collection.rs"]
mod collection;
#[path = "../queries/manifests.rs"]
mod manifests;
#[path = "../queries/migrations.rs"]
mod migrations;
#[path = "../queries/references.rs"]
mod references;
#[path = "../queries/repositories.rs"]
mod repositories;
#[path = "../queries/uploads.rs"]
mod uploads;

use crate::{ConnectOptions, Error, Result};
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{str::FromStr, time::Duration};
use writer::Writer;

type Connection = SqliteConnection;
type Pool = SqlitePool;

/// The migrations of this engine, embedded. Those of a newer release, which another replica has applied, are left be.
fn migrator() -> sqlx::migrate::Migrator {
    let mut migrator = sqlx::migrate!("../migrations/sqlite");
    migrator.set_ignore_missing(true);
    migrator
}

/// All in one writing transaction: SQLite has no advisory lock, and sqlx takes none.
async fn apply_migrations(connection: &mut Connection) -> Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    migrator().run(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// The writer, and a pool of readers.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: Pool,
    writer: Writer,
    file: SqliteConnectOptions,
}

/// A write of several statements that stand or fall together.
trait Transaction: Send + Sync + 'static {
    type Output: Send + 'static;

    fn run(&self, connection: &mut Connection) -> impl Future<Output = Result<Self::Output>> + Send;
}

impl Store {
    pub(crate) async fn connect(options: &ConnectOptions) -> Result<Self> {
        let file = SqliteConnectOptions::from_str(&options.url)
            .map_err(|error| Error::Address { reason: error.to_string() })?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(256);
        if file.get_filename().as_os_str().is_empty() || options.url.contains(":memory:") {
            return Err(Error::Address { reason: "a registry needs a file, not a database in memory".into() });
        }
        let mut connection = file.clone().connect().await.map_err(Error::Unavailable)?;
        assert_durable(&mut connection).await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(file.clone().pragma("query_only", "ON"))
            .await
            .map_err(Error::Unavailable)?;
        Ok(Self { pool, writer: Writer::start(connection), file })
    }

    /// Where reads run.
    fn reads(&self) -> &Pool {
        &self.pool
    }

    /// A connection beside the writer, for work on the schema.
    async fn owner_connection(&self) -> Result<Connection> {
        self.file.clone().connect().await.map_err(Error::Unavailable)
    }

    async fn write<T: Transaction>(&self, work: T) -> Result<T::Output> {
        self.writer.run(work).await
    }

    pub(crate) async fn close(&self) {
        self.writer.close().await;
        self.pool.close().await;
    }
}

/// The settings that the promises rest on, as SQLite reports them rather than as we asked for them.
async fn assert_durable(connection: &mut Connection) -> Result<()> {
    let (foreign_keys,): (i64,) = sqlx::query_as("PRAGMA foreign_keys").fetch_one(&mut *connection).await?;
    let (synchronous,): (i64,) = sqlx::query_as("PRAGMA synchronous").fetch_one(&mut *connection).await?;
    let (journal,): (String,) = sqlx::query_as("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
    if foreign_keys == 1 && synchronous == 2 && journal == "wal" {
        return Ok(());
    }
    Err(Error::Address {
        reason: format!(
            "SQLite runs with foreign_keys={foreign_keys}, synchronous={synchronous}, journal_mode={journal} instead of 1, \
             2 (FULL), wal: is the file on a file system without shared memory?"
        ),
    })
}
