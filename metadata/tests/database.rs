//! A database of a test's own, on either engine, whose clock stands still until the test moves it.

use crate::inside::Inside;
use longshore_metadata::{ConnectOptions, Lifetimes, Metadata};
use longshore_tests::postgres::Postgres;
use std::time::Duration;
use tempfile::TempDir;

/// What the clock says when a test begins, in microseconds.
pub(crate) const BEGIN: i64 = 1_800_000_000_000_000;
/// How long an acknowledged blob is promised to stay.
pub(crate) const PROMISE: Duration = Duration::from_secs(24 * 3600);
/// How long a change waits for review.
pub(crate) const REVIEW_DELAY: Duration = Duration::from_secs(600);
/// The smallest step of the clock.
pub(crate) const TICK: Duration = Duration::from_micros(1);

/// A database under test.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) metadata: Metadata,
    pub(crate) inside: Inside,
    pub(crate) empty: Empty,
}

/// A database without a schema.
#[derive(Debug)]
pub(crate) struct Empty {
    pub(crate) url: String,
    /// Removed with the test.
    _folder: Option<TempDir>,
}

impl Empty {
    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite:{}", folder.path().join("longshore.db").display());
        Self { url, _folder: Some(folder) }
    }

    pub(crate) fn postgres() -> Self {
        // Deadlocks are found after 20 ms instead of a second: some tests make them on purpose.
        let url = format!("{}?options[deadlock_timeout]=20ms", Postgres::shared().create_database());
        Self::at(url)
    }

    /// At an address, whatever there is.
    pub(crate) fn at(url: String) -> Self {
        Self { url, _folder: None }
    }

    /// Opens it as a process of the product would.
    pub(crate) async fn connect(&self) -> Metadata {
        connect(&self.url).await
    }

    /// The same, with a cache of so many bytes.
    pub(crate) async fn connect_with_cache(&self, cache_size: u64) -> Metadata {
        connect_with_cache(&self.url, cache_size).await
    }
}

/// Opens the database as a process of the product would, but without a cache: tests ask what the database holds, and
/// change it and its clock behind the product's back. What the cache adds is for `cache.rs`.
pub(crate) async fn connect(url: &str) -> Metadata {
    connect_with_cache(url, 0).await
}

async fn connect_with_cache(url: &str, cache_size: u64) -> Metadata {
    let acquire_timeout = Duration::from_secs(60);
    let options = ConnectOptions { url: url.to_owned(), max_connections: 10, acquire_timeout, cache_size };
    Metadata::connect(&options).await.unwrap()
}

impl Database {
    pub(crate) async fn sqlite() -> Self {
        Self::of(Empty::sqlite()).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::of(Empty::postgres()).await
    }

    async fn of(empty: Empty) -> Self {
        let metadata = empty.connect().await;
        metadata.migrate().await.unwrap();
        metadata
            .set_lifetimes(Lifetimes {
                promise: PROMISE,
                review_delay: REVIEW_DELAY,
                object_delay: Duration::ZERO,
                undo: Duration::ZERO,
            })
            .await
            .unwrap();
        let inside = Inside::open(&empty.url).await;
        stop_clock(&inside).await;
        Self { metadata, inside, empty }
    }

    /// A second process on the same database.
    pub(crate) async fn another_process(&self) -> Metadata {
        self.empty.connect().await
    }

    /// Lets time go by.
    pub(crate) async fn advance(&self, duration: Duration) {
        let moved = self.inside.execute("UPDATE stopped_clock SET now = now + $1", &[micros(duration)]).await;
        assert_eq!(moved.unwrap(), 1);
    }

    /// What the database's clock says.
    pub(crate) async fn now(&self) -> i64 {
        self.inside.number("SELECT now FROM clock", &[]).await.unwrap()
    }
}

/// A duration as the database counts it.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}

/// Replaces the view that everything in the database takes its time from.
async fn stop_clock(inside: &Inside) {
    inside.execute("CREATE TABLE stopped_clock (now BIGINT NOT NULL)", &[]).await.unwrap();
    inside.execute("INSERT INTO stopped_clock (now) VALUES ($1)", &[BEGIN]).await.unwrap();
    match inside {
        Inside::Postgres(_) => {
            inside.execute("CREATE OR REPLACE VIEW clock AS SELECT now FROM stopped_clock", &[]).await.unwrap();
        }
        Inside::Sqlite(pool) => {
            let mut transaction = pool.begin().await.unwrap();
            for sql in ["DROP VIEW clock", "CREATE VIEW clock AS SELECT now FROM stopped_clock"] {
                sqlx::query(sql).execute(&mut *transaction).await.unwrap();
            }
            transaction.commit().await.unwrap();
        }
    }
}
