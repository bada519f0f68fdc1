//! SQLite: one process, one file. One writer with group commit, separate readers, WAL, `synchronous=FULL`: what was
//! acknowledged survives kill -9 and power loss.

mod dialect;
mod folding;
mod level;
#[cfg(test)]
mod plans;
mod together;
mod writer;

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
use crate::{ConnectOptions, Durability, Error, Result};
use batch::Batch;
use folding::Folding;
pub(crate) use migrations::newest_migration;
pub(crate) use restore::Restore;
pub(crate) use snapshot::Snapshot;
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::PathBuf, str::FromStr, time::Duration};
use together::TOGETHER;
use writer::Writer;

type Connection = SqliteConnection;

/// What can take the last write from SQLite takes this process, and so every writer that holds a fence: none is left to
/// meet another one with the same number.
const FENCE_DURABILITY: Durability = Durability::Relaxed;

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

/// The writer folds the log itself when it has so many pages (64 MiB), inside a commit. Nearly all of it is in the
/// database by then, see [`folding`]; what this bounds is the log's length.
const LOG_PAGES: &str = "16000";

/// What the writer may keep of the database in memory, in -KiB: indexes by digest are hit at random, and what is not
/// here is read again for each write. The readers keep SQLite's own 2 MiB each: there are many of them.
const WRITER_CACHE: &str = "-8192";

/// What a transaction that lasts may keep of the database in memory, in -KiB: one that fills it finds its indexes there.
const LONG_CACHE: &str = "-65536";

/// All that the transaction reads is of one moment. It makes nobody wait; but the log cannot begin anew before its end.
const BEGIN_SNAPSHOT: &str = "BEGIN";

/// Nobody else writes until the database is filled.
const BEGIN_RESTORE: &str = "BEGIN IMMEDIATE";

/// New rows take numbers after those that are there, whoever gave them.
const AFTER_RESTORE: &[&str] = &[];

/// The file that a URL of SQLite names.
pub(crate) fn file_of(url: &str) -> Option<PathBuf> {
    let options = url.starts_with("sqlite:").then(|| SqliteConnectOptions::from_str(url).ok()).flatten()?;
    Some(options.get_filename().to_owned())
}

/// Runs a read on one of the connections. Its twin in `postgres/connections.rs` has more to do.
macro_rules! read {
    ($connections:expr, $connection:ident => $query:expr) => {{
        let mut held = $connections.acquire().await?;
        let $connection = &mut *held;
        $query
    }};
}

use read;

/// The writer, and a pool of readers.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// Those that read.
    connections: SqlitePool,
    writer: Writer,
    file: SqliteConnectOptions,
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
        let writer = file.clone().pragma("wal_autocheckpoint", LOG_PAGES).pragma("cache_size", WRITER_CACHE);
        let mut connection = writer.connect().await.map_err(Error::unavailable)?;
        assert_durable(&mut connection).await?;
        let folding = Folding::start(file.connect().await.map_err(Error::unavailable)?);
        let connections = SqlitePoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            // There is no network that could take one away.
            .test_before_acquire(false)
            .connect_with(file.clone().pragma("query_only", "ON"))
            .await
            .map_err(Error::unavailable)?;
        // This process owns the database: nobody else changes what it has read.
        cache.open();
        Ok(Self { connections, writer: Writer::start(connection, folding, cache), file })
    }

    /// A connection beside the writer, for work on the schema.
    async fn owner_connection(&self) -> Result<Connection> {
        self.file.clone().connect().await.map_err(Error::unavailable)
    }

    /// A connection beside the writer, for a transaction that lasts.
    async fn long_connection(&self) -> Result<Connection> {
        Ok(self.file.clone().pragma("cache_size", LONG_CACHE).connect().await?)
    }

    async fn write<T: Transaction>(&self, work: T) -> Result<T::Output> {
        self.writer.run(work).await
    }

    pub(crate) async fn close(&self) {
        self.writer.close().await;
        self.connections.close().await;
    }
}

/// The settings that the promises rest on, as SQLite reports them rather than as we asked for them.
async fn assert_durable(connection: &mut Connection) -> Result<()> {
    let foreign_keys: i64 = ask("PRAGMA foreign_keys", connection).await?;
    let synchronous: i64 = ask("PRAGMA synchronous", connection).await?;
    let journal: String = ask("PRAGMA journal_mode", connection).await?;
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

/// Asks for a setting. Not by a statement from the cache: SQLite writes the answer into it when it compiles it.
async fn ask<T>(pragma: &'static str, connection: &mut Connection) -> Result<T>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + Unpin,
{
    Ok(sqlx::query_scalar(pragma).persistent(false).fetch_one(connection).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new database with its schema, in a folder that is removed at the end.
    pub(super) async fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("longshore.db").display());
        let options =
            ConnectOptions { url, max_connections: 2, acquire_timeout: Duration::from_secs(60), cache_size: 0 };
        let store = Store::connect(&options, Cache::new(0, Duration::ZERO)).await.unwrap();
        store.migrate().await.unwrap();
        (store, folder)
    }

    /// What is made anew, or by other rows.
    const NOT_IN_SNAPSHOTS: [&str; 14] = [
        "damaged_manifests",
        "gc_queue",
        "gc_state",
        "jobs",
        "lifetimes",
        "namespace_usage",
        "retention_looks",
        "scrub_state",
        "store_mark",
        "upload_parts",
        "uploads",
        "upstream_state",
        "usage",
        "usage_changes",
    ];
    const NOT_OF_TOMBSTONES: [&str; 3] = ["not_before", "attempts", "claimed_until"];
    /// No upload goes on after a restore.
    const NOT_OF_OBJECTS: [&str; 1] = ["tail_crc"];

    /// Whoever adds a column decides whether a backup holds it. (The other engine has the same.)
    #[tokio::test]
    async fn every_column_is_in_a_snapshot_or_left_out_on_purpose() {
        let (store, _folder) = store().await;
        let columns = "SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c \
            WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> '_sqlx_migrations'";
        let columns: Vec<(String, String)> = sqlx::query_as(columns).fetch_all(&store.connections).await.unwrap();
        assert!(columns.len() > 80, "{columns:?}");
        for (table, column) in columns {
            let is_left_out = NOT_IN_SNAPSHOTS.contains(&table.as_str())
                || table == "tombstones" && NOT_OF_TOMBSTONES.contains(&column.as_str())
                || table == "objects" && NOT_OF_OBJECTS.contains(&column.as_str());
            if is_left_out {
                continue;
            }
            for statements in [snapshot::STATEMENTS, restore::STATEMENTS] {
                let found = statements.iter().find(|(name, _)| *name == table.to_uppercase());
                let mut words =
                    found.map_or("", |(_, sql)| *sql).split(|letter: char| !letter.is_alphanumeric() && letter != '_');
                assert!(
                    words.any(|word| word == column),
                    "{table}.{column} is not in snapshots: put it there and raise SNAPSHOT_FORMAT, or leave it out here"
                );
            }
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

    /// Answers the level that its group runs at; or fails, if it is told to.
    struct AskLevel<const RELAXED: bool> {
        fails: bool,
    }

    impl<const RELAXED: bool> Transaction for AskLevel<RELAXED> {
        type Output = i64;

        const DURABILITY: Durability = if RELAXED { Durability::Relaxed } else { Durability::Durable };

        async fn run(&self, connection: &mut Connection) -> Result<i64> {
            if self.fails {
                return Err(Error::NotCommitted("as it was told".into()));
            }
            ask("PRAGMA synchronous", connection).await
        }
    }

    const FULL: i64 = 2;
    const NORMAL: i64 = 1;

    #[tokio::test]
    async fn relaxed_writes_do_not_wait_for_the_disk_and_durable_ones_do() {
        let (store, _folder) = store().await;
        for _ in 0..3 {
            assert_eq!(store.write(AskLevel::<true> { fails: false }).await.unwrap(), NORMAL);
            assert_eq!(store.write(AskLevel::<true> { fails: false }).await.unwrap(), NORMAL);
            assert_eq!(store.write(AskLevel::<false> { fails: false }).await.unwrap(), FULL);
            assert_eq!(store.write(AskLevel::<false> { fails: false }).await.unwrap(), FULL);
        }
        // Between groups too, and after a group that was undone.
        assert!(store.write(AskLevel::<true> { fails: true }).await.is_err());
        assert_eq!(store.write(AskLevel::<false> { fails: false }).await.unwrap(), FULL);
    }

    #[tokio::test]
    async fn a_durable_write_is_durable_in_whatever_company() {
        let (store, _folder) = store().await;
        let mut gate = store.owner_connection().await.unwrap();
        for round in 0..20 {
            // While this is open the writer waits to begin, and what follows lines up behind its first group.
            let open = gate.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let relaxed = futures_util::future::join_all(
                (0..20).map(|number| store.write(AskLevel::<true> { fails: (number + round) % 7 == 0 })),
            );
            let durable =
                futures_util::future::join_all((0..20).map(|_| store.write(AskLevel::<false> { fails: false })));
            let again = futures_util::future::join_all((0..20).map(|_| store.write(AskLevel::<true> { fails: false })));
            let opened = async {
                tokio::task::yield_now().await;
                open.commit().await.unwrap();
            };
            let (relaxed, durable, again, ()) = tokio::join!(relaxed, durable, again, opened);
            for level in durable {
                assert_eq!(level.unwrap(), FULL, "a durable write was told of a commit that did not wait");
            }
            for level in relaxed.into_iter().flatten().chain(again.into_iter().flatten()) {
                assert!([NORMAL, FULL].contains(&level));
            }
        }
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
        let written = sqlx::query("DELETE FROM repositories").execute(&store.connections).await;
        assert!(written.unwrap_err().to_string().contains("readonly"));
    }
}
