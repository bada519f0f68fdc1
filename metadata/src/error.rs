//! What can go wrong between a registry and its database, by what the caller can do about it.

use std::sync::Arc;

/// An error of the database. That a thing is not there, or may not be deleted, is an outcome and not an error.
///
/// Clones share their cause: many may have waited for one answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The address is of no database that we speak to.
    #[error("database.url is not usable: {reason}; write sqlite:PATH or postgres://user:password@host/name")]
    Address {
        /// What is wrong with it; never the address itself, which may hold a password.
        reason: String,
    },
    /// No answer, or no free connection in time: the request may be tried again later.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The disk below the database is full: nothing was written.
    #[error("the disk below the database is full: {0}")]
    DiskFull(String),
    /// A statement failed.
    #[error("the database refused a statement")]
    Statement(#[source] Arc<sqlx::Error>),
    /// A group of writes could not be committed; the message is that of the database.
    #[error("the transaction was not committed: {0}")]
    NotCommitted(String),
    /// The namespace may not hold that much: nothing was written.
    #[error("namespace {namespace} holds {held} of {quota} bytes, and this needs {wanted} more")]
    OverQuota {
        /// Its name.
        namespace: String,
        /// How many bytes it may hold.
        quota: u64,
        /// How many it holds.
        held: u64,
        /// How many more it would.
        wanted: u64,
    },
    /// A migration failed, or the schema is newer or older than this program can work with.
    #[error("the schema cannot be brought up to date")]
    Migration(#[source] Arc<sqlx::migrate::MigrateError>),
    /// The schema is not the one that this program knows: a snapshot would lack something of it, or could not be read.
    #[error(
        "the database's schema is that of migration {database} and this program's is that of {program}: use the release \
         that the registry runs, or bring the schema up to date by longshore migrate up"
    )]
    Schema {
        /// The last migration that was applied; 0 for none.
        database: i64,
        /// The last one that this program has.
        program: i64,
    },
    /// A row holds what no write of ours can have put there.
    #[error("a row of {table} is damaged: {reason}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// SQLite's primary result code for a full disk.
const SQLITE_FULL: &str = "13";
/// Postgres's SQLSTATE for a full disk.
const POSTGRES_DISK_FULL: &str = "53100";

impl Error {
    /// [`Error::Unavailable`], of this cause.
    pub(crate) fn unavailable(cause: sqlx::Error) -> Self {
        Self::Unavailable(Arc::new(cause))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => {
                Self::unavailable(error)
            }
            sqlx::Error::Database(database) => match database.code().as_deref() {
                Some(SQLITE_FULL | POSTGRES_DISK_FULL) => Self::DiskFull(error.to_string()),
                // Class 57 (shutdown, crash), 53 (too many connections), 08 (connection).
                Some(code) if code.len() == 5 && ["57P", "533", "080"].iter().any(|class| code.starts_with(class)) => {
                    Self::unavailable(error)
                }
                _ => Self::Statement(Arc::new(error)),
            },
            _ => Self::Statement(Arc::new(error)),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Migration(Arc::new(error))
    }
}
