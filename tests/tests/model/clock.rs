//! A database whose clock stands still until the test moves it.

use sqlx::{AssertSqlSafe, Executor as _, PgPool, SqlitePool, sqlite::SqliteConnectOptions};
use std::{str::FromStr, time::Duration};

/// What the clock says when a test begins, in microseconds.
pub(crate) const BEGIN: i64 = 1_800_000_000_000_000;

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

    async fn run(&self, sql: String) {
        match self {
            Self::Sqlite(pool) => drop(pool.execute(AssertSqlSafe(sql)).await.unwrap()),
            Self::Postgres(pool) => drop(pool.execute(AssertSqlSafe(sql)).await.unwrap()),
        }
    }

    /// Stops the clock.
    pub(crate) async fn stop(&self) {
        self.run("CREATE TABLE stopped_clock (now BIGINT NOT NULL)".to_owned()).await;
        self.run(format!("INSERT INTO stopped_clock (now) VALUES ({BEGIN})")).await;
        match self {
            Self::Sqlite(pool) => {
                let mut transaction = pool.begin().await.unwrap();
                for sql in ["DROP VIEW clock", "CREATE VIEW clock AS SELECT now FROM stopped_clock"] {
                    sqlx::query(sql).execute(&mut *transaction).await.unwrap();
                }
                transaction.commit().await.unwrap();
            }
            Self::Postgres(_) => {
                self.run("CREATE OR REPLACE VIEW clock AS SELECT now FROM stopped_clock".to_owned()).await;
            }
        }
    }

    /// Lets time go by.
    pub(crate) async fn advance(&self, duration: Duration) {
        self.run(format!("UPDATE stopped_clock SET now = now + {}", duration.as_micros())).await;
    }

    /// How many rows a table has.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
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

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
