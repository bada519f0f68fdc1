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

use crate::cache::{Cache, Change};
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

    /// What others may have read that is another, or gone, after this. What is only added needs no mention.
    fn changes(&self) -> Vec<Change> {
        Vec::new()
    }
}

impl Store {
    pub(crate) async fn connect(options: &ConnectOptions, cache: Cache) -> Result<Self> {
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
        // This process owns the database: nobody else changes what it has read.
        cache.open();
        Ok(Self { pool, writer: Writer::start(connection, cache), file })
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

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{Executor, SqlSafeStr};

    /// A new database with its schema, in a folder that is removed at the end.
    async fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("longshore.db").display());
        let options =
            ConnectOptions { url, max_connections: 2, acquire_timeout: Duration::from_secs(60), cache_size: 0 };
        let store = Store::connect(&options, Cache::new(0)).await.unwrap();
        store.migrate().await.unwrap();
        (store, folder)
    }

    #[tokio::test]
    async fn every_statement_is_understood() {
        let (store, _folder) = store().await;
        let mut connection = store.owner_connection().await.unwrap();
        let files = [
            blobs::STATEMENTS,
            collection::STATEMENTS,
            manifests::STATEMENTS,
            references::STATEMENTS,
            repositories::STATEMENTS,
            uploads::STATEMENTS,
        ];
        for (name, sql) in files.concat() {
            let prepared = (&mut connection).prepare(sql.into_sql_str()).await;
            assert!(prepared.is_ok(), "{name}: {:?}", prepared.err());
        }
    }

    /// The settings of the connection that the writer has, asked in a write of its own.
    struct AskSettings;

    impl Transaction for AskSettings {
        type Output = ();

        async fn run(&self, connection: &mut Connection) -> Result<()> {
            assert_durable(connection).await
        }
    }

    #[tokio::test]
    async fn the_writer_is_durable() {
        let (store, _folder) = store().await;
        store.write(AskSettings).await.unwrap();
    }

    #[tokio::test]
    async fn settings_that_would_lose_writes_are_refused() {
        let (store, _folder) = store().await;
        let weaker =
            [store.file.clone().synchronous(SqliteSynchronous::Normal), store.file.clone().foreign_keys(false)];
        for options in weaker {
            let refused = assert_durable(&mut options.connect().await.unwrap()).await;
            assert!(matches!(refused, Err(Error::Address { .. })), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let (store, _folder) = store().await;
        let written = sqlx::query("DELETE FROM repositories").execute(store.reads()).await;
        assert!(written.unwrap_err().to_string().contains("readonly"));
    }
}
