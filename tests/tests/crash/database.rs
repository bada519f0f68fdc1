//! A look into the server's database, beside the server.

use sqlx::{Connection, PgConnection, SqliteConnection};

/// The database of a server.
#[derive(Debug)]
pub(crate) struct Database(String);

/// An object as the database has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub(crate) struct Object {
    /// `objects/` and the name.
    pub(crate) key: String,
    /// In bytes.
    pub(crate) size: i64,
    /// `pending` while it is written, then `live`.
    pub(crate) state: String,
}

/// Runs a query on either kind of database, on a connection of its own.
macro_rules! on_either {
    ($url:expr, $query:expr, $method:ident) => {
        if $url.starts_with("sqlite:") {
            let mut connection = SqliteConnection::connect($url).await.expect("the database can be opened");
            let outcome = $query.$method(&mut connection).await.expect("the statement is right");
            connection.close().await.expect("the connection can be closed");
            outcome
        } else {
            let mut connection = PgConnection::connect($url).await.expect("the database can be reached");
            let outcome = $query.$method(&mut connection).await.expect("the statement is right");
            connection.close().await.expect("the connection can be closed");
            outcome
        }
    };
}

impl Database {
    pub(crate) fn at(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// Every object, in the order of the keys.
    pub(crate) async fn objects(&self) -> Vec<Object> {
        on_either!(&self.0, sqlx::query_as("SELECT key, size, state FROM objects ORDER BY key"), fetch_all)
    }

    /// How many upload sessions are open.
    pub(crate) async fn sessions(&self) -> i64 {
        on_either!(&self.0, sqlx::query_scalar("SELECT count(*) FROM uploads"), fetch_one)
    }

    /// How many objects wait for their deletion.
    pub(crate) async fn tombstones(&self) -> i64 {
        on_either!(&self.0, sqlx::query_scalar("SELECT count(*) FROM tombstones"), fetch_one)
    }

    /// Lets every upload session expire, and every claim of a collector that died: as if days had gone by.
    pub(crate) async fn let_time_pass(&self) {
        const EXPIRE: &str = "UPDATE uploads SET expires_at = 0 RETURNING expires_at";
        const RELEASE: &str = "UPDATE tombstones SET claimed_until = 0 RETURNING claimed_until";
        let _expired: Vec<i64> = on_either!(&self.0, sqlx::query_scalar(EXPIRE), fetch_all);
        let _released: Vec<i64> = on_either!(&self.0, sqlx::query_scalar(RELEASE), fetch_all);
    }
}
