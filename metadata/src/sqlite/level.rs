//! At which level of `synchronous` the writer's transactions run.
//!
//! FULL: a commit waits until the log is on the disk. NORMAL: it does not, and the log stays in order all the same, so
//! that a later commit at FULL takes what came before it to the disk too. The level cannot change inside a transaction,
//! and SQLite sets it when the pragma is compiled, not when it runs: such a statement must never come from a cache.

use super::{Connection, folding::checkpoint};
use crate::{Durability, Error, Result};
use std::time::{Duration, Instant};

/// How long a log in doubt is waited for, if it is in use.
const PATIENCE: Duration = Duration::from_secs(5);

/// At which level the writer's connection is. It rests at FULL.
#[derive(Debug)]
pub(super) struct Level {
    /// As far as is known: whatever fails on the way to FULL leaves NORMAL here, so that the next group sets it again.
    set: Durability,
    /// What the open transaction asks for.
    open: Durability,
    /// A commit has failed, and maybe its fsync: see [`Level::trust_the_log_again`].
    is_log_in_doubt: bool,
}

impl Level {
    /// That of a connection which was opened with FULL.
    pub(super) const fn at_rest() -> Self {
        Self { set: Durability::Durable, open: Durability::Durable, is_log_in_doubt: false }
    }

    /// Begins a transaction whose commit is at least as durable as this. Where it fails there is none.
    pub(super) async fn begin(&mut self, connection: &mut Connection, wanted: Durability) -> Result<()> {
        if self.is_log_in_doubt {
            self.trust_the_log_again(connection).await?;
        }
        self.open = wanted;
        let begun = match (wanted, self.set) {
            (Durability::Durable, Durability::Durable) => cached("BEGIN IMMEDIATE", connection).await,
            (Durability::Durable, Durability::Relaxed) => {
                uncached("PRAGMA synchronous = FULL; BEGIN IMMEDIATE", connection).await
            }
            (Durability::Relaxed, _) => {
                self.set = Durability::Relaxed;
                uncached("PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE", connection).await
            }
        };
        match begun {
            Ok(()) => self.set = wanted,
            Err(_) => self.roll_back(connection).await,
        }
        begun
    }

    /// Commits the open transaction, and rests. Where it fails, nothing of it was written.
    pub(super) async fn commit(&mut self, connection: &mut Connection) -> Result<()> {
        let committed = match self.open {
            Durability::Durable => cached("COMMIT", connection).await,
            Durability::Relaxed => uncached("COMMIT; PRAGMA synchronous = FULL", connection).await,
        };
        match &committed {
            Ok(()) => self.set = Durability::Durable,
            Err(failure) => {
                // Where the disk was full it was not the fsync that failed, and there may be no room to fold the log.
                self.is_log_in_doubt |= !matches!(failure, Error::DiskFull(_));
                self.roll_back(connection).await;
            }
        }
        committed
    }

    /// Undoes the open transaction, if SQLite has not done so by itself, and rests.
    pub(super) async fn roll_back(&mut self, connection: &mut Connection) {
        // Fails where SQLite has rolled back already, which is what is wanted.
        let _ = cached("ROLLBACK", connection).await;
        if self.set == Durability::Relaxed && uncached("PRAGMA synchronous = FULL", connection).await.is_ok() {
            self.set = Durability::Durable;
        }
    }

    /// Begins the log anew, after what is committed has gone into the database file.
    ///
    /// An fsync that fails may be followed by one that succeeds without the pages of the first: Linux tells the error
    /// once and takes them for written. They may be those of relaxed commits, without which nothing after them in the
    /// log is read again.
    async fn trust_the_log_again(&mut self, connection: &mut Connection) -> Result<()> {
        let begun = Instant::now();
        while is_log_in_use(connection).await? {
            if begun.elapsed() > PATIENCE {
                return Err(Error::NotCommitted("the log is in doubt after a failed commit, and in use".into()));
            }
            // SQLite itself waits for readers, but not for a fold on another connection, and has no call that does.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.is_log_in_doubt = false;
        Ok(())
    }
}

/// Folds the whole log and has it begun anew; true where something else keeps that from being done.
async fn is_log_in_use(connection: &mut Connection) -> Result<bool> {
    let (is_busy, ..) = checkpoint("PRAGMA wal_checkpoint(RESTART)", connection).await?;
    Ok(is_busy != 0)
}

async fn cached(sql: &'static str, connection: &mut Connection) -> Result<()> {
    sqlx::query(sql).execute(connection).await?;
    Ok(())
}

/// Runs statements in one hand-over, compiled for this once.
async fn uncached(sql: &'static str, connection: &mut Connection) -> Result<()> {
    sqlx::raw_sql(sql).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{ConnectOptions as _, Row as _, sqlite::SqliteConnectOptions, sqlite::SqliteJournalMode};

    #[tokio::test]
    async fn a_log_in_doubt_is_begun_anew_before_the_next_group() {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteConnectOptions::new().filename(folder.path().join("longshore.db")).create_if_missing(true);
        let mut connection = file.journal_mode(SqliteJournalMode::Wal).connect().await.unwrap();
        cached("CREATE TABLE things (thing)", &mut connection).await.unwrap();
        let mut level = Level { is_log_in_doubt: true, ..Level::at_rest() };
        level.begin(&mut connection, Durability::Durable).await.unwrap();
        cached("INSERT INTO things VALUES (1)", &mut connection).await.unwrap();
        level.commit(&mut connection).await.unwrap();
        assert!(!level.is_log_in_doubt);
        // What is in the log now is only what came after.
        let passive = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut connection).await.unwrap();
        assert_eq!(passive.get::<i64, _>(1), 1, "pages in the log");
    }
}
