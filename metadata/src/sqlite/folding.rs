//! Folding the log into the database file, on a connection of its own, while the writer goes on.
//!
//! Left to itself SQLite folds inside a commit that makes the log too long, and everybody waits for two fsyncs and a
//! write of each page that has changed. A fold beside the writer ("passive") takes no lock that a write needs; what came
//! since is left to the next one. Only with nothing left to fold does SQLite begin the log at its start again,
//! which under load never happens by itself: for that the writer still folds, rarely, and then only the last moments.

use super::Connection;
use crate::Result;
use sqlx::Connection as _;
use tokio::{sync::mpsc, task::JoinHandle};

/// After so many writes the log is folded: each takes some ten pages of it, together about 4 MiB.
const WRITES: usize = 100;

/// The task that folds, as the writer sees it.
pub(super) struct Folding {
    /// Holds one wish: more than one while a fold goes on would say the same.
    wishes: mpsc::Sender<()>,
    task: JoinHandle<usize>,
    writes: usize,
}

impl Folding {
    pub(super) fn start(connection: Connection) -> Self {
        let (wishes, wished) = mpsc::channel(1);
        Self { wishes, task: tokio::spawn(fold_when_wished(connection, wished)), writes: 0 }
    }

    /// So many writes were committed.
    pub(super) fn count(&mut self, writes: usize) {
        self.writes += writes;
        if self.writes >= WRITES {
            self.writes = 0;
            // Where there is a wish already, it is heard after the fold that goes on now.
            let _ = self.wishes.try_send(());
        }
    }

    /// Waits for the fold that goes on, and for one that is wished for; then the connection is closed. Answers how many
    /// folds there were.
    pub(super) async fn end(self) -> usize {
        drop(self.wishes);
        self.task.await.unwrap_or(0)
    }
}

async fn fold_when_wished(mut connection: Connection, mut wished: mpsc::Receiver<()>) -> usize {
    let mut folds = 0;
    while wished.recv().await.is_some() {
        match fold(&mut connection).await {
            Ok(_) => folds += 1,
            // No write rests on this. Where it was the disk that failed, the writer's next fsync says so as well: it has
            // a descriptor of its own.
            Err(error) => tracing::warn!(%error, "the database's log could not be folded"),
        }
    }
    let _ = connection.close().await;
    folds
}

/// Folds what can be folded without making anybody wait. Answers how many pages the log has, and how many of them are
/// in the database file now.
async fn fold(connection: &mut Connection) -> Result<(i64, i64)> {
    let (_, pages, folded) = checkpoint("PRAGMA wal_checkpoint(PASSIVE)", connection).await?;
    Ok((pages, folded))
}

/// Runs a checkpoint of any kind. Answers 1 if something kept it from its end, and as [`fold`].
pub(super) async fn checkpoint(pragma: &'static str, connection: &mut Connection) -> Result<(i64, i64, i64)> {
    Ok(sqlx::query_as(pragma).persistent(false).fetch_one(connection).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions, sqlite::SqliteJournalMode};

    #[tokio::test]
    async fn the_log_is_folded_while_the_writer_has_a_transaction_open() {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteConnectOptions::new().filename(folder.path().join("longshore.db")).create_if_missing(true);
        let file = file.journal_mode(SqliteJournalMode::Wal);
        let mut writer = file.connect().await.unwrap();
        let mut beside = file.connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE things (thing); INSERT INTO things VALUES (1)").execute(&mut writer).await.unwrap();
        let open = writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let (pages, folded) = fold(&mut beside).await.unwrap();
        assert!(pages > 0);
        assert_eq!(folded, pages);
        open.rollback().await.unwrap();
    }

    #[tokio::test]
    async fn a_hundred_writes_are_one_wish_and_the_end_waits_for_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteConnectOptions::new().filename(folder.path().join("longshore.db")).create_if_missing(true);
        let mut writer = file.clone().journal_mode(SqliteJournalMode::Wal).connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE things (thing)").execute(&mut writer).await.unwrap();
        let mut folding = Folding::start(file.connect().await.unwrap());
        for _ in 0..WRITES - 1 {
            folding.count(1);
        }
        assert_eq!(folding.end().await, 0);
        let mut folding = Folding::start(file.connect().await.unwrap());
        // Nothing runs in between, so that all of these are there before the first fold begins.
        for _ in 0..10 * WRITES {
            folding.count(1);
        }
        assert_eq!(folding.end().await, 1);
    }
}
