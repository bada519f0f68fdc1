//! A connection of the test's own into the database under test: to look where no method looks, and to do what no method
//! does.

use longshore_oci::Digest;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{PgPool, SqlitePool};
use std::str::FromStr;
use std::time::Duration;

/// The test's own connections, with foreign keys enforced as the product has them.
#[derive(Debug, Clone)]
pub(crate) enum Inside {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Does the same with the pool of whichever engine is there.
macro_rules! with_pool {
    ($inside:ident, $pool:ident => $work:expr) => {
        match $inside {
            Inside::Sqlite($pool) => $work,
            Inside::Postgres($pool) => $work,
        }
    };
}

/// A query with its numbers bound.
macro_rules! bound {
    ($query:expr, $numbers:ident) => {{
        let mut query = $query;
        for number in $numbers {
            query = query.bind(*number);
        }
        query
    }};
}

impl Inside {
    pub(crate) async fn open(url: &str) -> Self {
        if url.starts_with("sqlite:") {
            let file = SqliteConnectOptions::from_str(url).unwrap().foreign_keys(true);
            let file = file.create_if_missing(true).busy_timeout(Duration::from_secs(60));
            Self::Sqlite(SqlitePoolOptions::new().max_connections(4).connect_with(file).await.unwrap())
        } else {
            Self::Postgres(PgPool::connect(url).await.unwrap())
        }
    }

    /// Runs a statement; answers how many rows it touched.
    pub(crate) async fn execute(&self, sql: &'static str, numbers: &[i64]) -> Result<u64, sqlx::Error> {
        with_pool!(self, pool => {
            let done = bound!(sqlx::query(sql), numbers).execute(pool).await;
            done.map(|done| done.rows_affected())
        })
    }

    /// The one number that the query gives; `None` for NULL, and where there is no row.
    pub(crate) async fn number(&self, sql: &'static str, numbers: &[i64]) -> Option<i64> {
        let row: Result<Option<(Option<i64>,)>, _> =
            with_pool!(self, pool => bound!(sqlx::query_as(sql), numbers).fetch_optional(pool).await);
        row.unwrap().and_then(|(number,)| number)
    }

    /// What a query that begins with `SELECT count(*)` counts.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        self.number(sql, &[]).await.unwrap()
    }

    /// Rows of three numbers.
    pub(crate) async fn triples(&self, sql: &'static str, numbers: &[i64]) -> Vec<(i64, i64, i64)> {
        with_pool!(self, pool => bound!(sqlx::query_as(sql), numbers).fetch_all(pool).await).unwrap()
    }

    /// Rows of text.
    pub(crate) async fn texts(&self, sql: &'static str) -> Vec<String> {
        let rows: Result<Vec<(String,)>, _> = with_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await);
        rows.unwrap().into_iter().map(|(text,)| text).collect()
    }

    /// The row of a manifest, wherever it is.
    pub(crate) async fn manifest_id(&self, digest: &Digest) -> i64 {
        const BY_DIGEST: &str = "SELECT id FROM manifests WHERE digest = $1";
        let row: Result<(i64,), _> =
            with_pool!(self, pool => sqlx::query_as(BY_DIGEST).bind(digest.to_bytes()).fetch_one(pool).await);
        row.unwrap().0
    }

    /// The row of a blob.
    pub(crate) async fn blob_id(&self, digest: &Digest) -> i64 {
        const BY_DIGEST: &str = "SELECT id FROM blobs WHERE digest = $1";
        let row: Result<(i64,), _> =
            with_pool!(self, pool => sqlx::query_as(BY_DIGEST).bind(digest.to_bytes()).fetch_one(pool).await);
        row.unwrap().0
    }

    pub(crate) fn as_postgres(&self) -> &PgPool {
        match self {
            Self::Postgres(pool) => pool,
            Self::Sqlite(_) => panic!("this part of the test is for PostgreSQL"),
        }
    }
}
