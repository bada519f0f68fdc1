//! A database whose clock stands still until the test moves it.

use sqlx::{PgPool, SqlitePool, sqlite::SqliteConnectOptions};
use std::{str::FromStr, time::Duration};

/// What the clock says when a test begins.
pub(crate) const BEGIN: Duration = Duration::from_secs(1_800_000_000);

/// As the database has it.
fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap()
}

/// The test's own connection to the database.
#[derive(Debug)]
pub(crate) enum Clock {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Clock {
    pub(crate) async fn open(url: &str) -> Self {
        if url.starts_with("sqlite:") {
            let file = SqliteConnectOptions::from_str(url).unwrap().busy_timeout(Duration::from_secs(60));
            // Whether the test's own moves of the clock survive a power cut is nobody's concern.
            let file = file.synchronous(sqlx::sqlite::SqliteSynchronous::Off);
            let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(file).await;
            Self::Sqlite(pool.unwrap())
        } else {
            Self::Postgres(PgPool::connect(url).await.unwrap())
        }
    }

    /// Runs a statement with one number, if it has a place for one.
    async fn run(&self, sql: &'static str, number: Option<i64>) {
        match self {
            Self::Sqlite(pool) => {
                let query = sqlx::query(sql);
                let query = if let Some(number) = number { query.bind(number) } else { query };
                query.execute(pool).await.unwrap();
            }
            Self::Postgres(pool) => {
                let query = sqlx::query(sql);
                let query = if let Some(number) = number { query.bind(number) } else { query };
                query.execute(pool).await.unwrap();
            }
        }
    }

    /// Stops the clock.
    pub(crate) async fn stop(&self) {
        self.run("CREATE TABLE stopped_clock (now BIGINT NOT NULL)", None).await;
        self.run("INSERT INTO stopped_clock (now) VALUES ($1)", Some(micros(BEGIN))).await;
        match self {
            Self::Sqlite(pool) => {
                let mut transaction = pool.begin().await.unwrap();
                for sql in ["DROP VIEW clock", "CREATE VIEW clock AS SELECT now FROM stopped_clock"] {
                    sqlx::query(sql).execute(&mut *transaction).await.unwrap();
                }
                transaction.commit().await.unwrap();
            }
            Self::Postgres(_) => {
                self.run("CREATE OR REPLACE VIEW clock AS SELECT now FROM stopped_clock", None).await;
            }
        }
    }

    /// From now on it says this. Nobody knows of any other time.
    pub(crate) async fn begin_at(&self, now: Duration) {
        self.set(now).await;
        self.run("UPDATE gc_state SET window_began = (SELECT now FROM clock) WHERE id = 1", None).await;
        self.was_watched().await;
    }

    /// It says this.
    pub(crate) async fn set(&self, now: Duration) {
        self.run("UPDATE stopped_clock SET now = $1", Some(micros(now))).await;
    }

    /// Collectors have looked at it all the time until now.
    pub(crate) async fn was_watched(&self) {
        self.run("UPDATE gc_state SET seen_at = (SELECT now FROM clock) WHERE id = 1", None).await;
    }

    /// What a query counts.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        match self {
            Self::Sqlite(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
        }
    }

    /// The keys of all objects that a row names.
    pub(crate) async fn keys(&self) -> Vec<String> {
        const KEYS: &str = "SELECT key FROM objects ORDER BY key";
        match self {
            Self::Sqlite(pool) => sqlx::query_scalar(KEYS).fetch_all(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_scalar(KEYS).fetch_all(pool).await.unwrap(),
        }
    }

    /// The digests of blobs that have their bytes in their rows, with these.
    pub(crate) async fn in_rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        const IN_ROWS: &str = "SELECT digest, inline FROM blobs WHERE inline IS NOT NULL";
        match self {
            Self::Sqlite(pool) => sqlx::query_as(IN_ROWS).fetch_all(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_as(IN_ROWS).fetch_all(pool).await.unwrap(),
        }
    }

    /// Gives a blob that has its bytes in its row others.
    pub(crate) async fn spoil(&self, digest: &[u8], bytes: &[u8]) {
        const SPOIL: &str = "UPDATE blobs SET inline = $2 WHERE digest = $1 AND inline IS NOT NULL";
        match self {
            Self::Sqlite(pool) => drop(sqlx::query(SPOIL).bind(digest).bind(bytes).execute(pool).await.unwrap()),
            Self::Postgres(pool) => drop(sqlx::query(SPOIL).bind(digest).bind(bytes).execute(pool).await.unwrap()),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
