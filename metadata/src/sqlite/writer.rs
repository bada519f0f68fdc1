//! The one writer of a SQLite database, with group commit.
//!
//! Each write runs in a savepoint of its own; all that wait when the disk is free share one COMMIT, so one fsync. A
//! write is answered only after that COMMIT.

use super::{Connection, Transaction};
use crate::cache::{Announcement, Cache};
use crate::{Error, Result};
use futures_util::future::BoxFuture;
use sqlx::Connection as _;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

/// The most writes that share one commit: bounds how long the first of them waits.
const MAX_GROUP: usize = 256;
/// Writes that may wait in line before callers wait to get in line.
const QUEUE: usize = 1024;

/// A handle on the writer's task.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
    cache: Cache,
}

/// One queued write, whatever it is.
trait Job: Send {
    /// Runs the statements. An error says what to tell the others of its group if they fall with it.
    fn run<'a>(&'a mut self, connection: &'a mut Connection) -> BoxFuture<'a, Result<()>>;

    /// Answers the caller, after the commit that it shares has ended.
    fn answer(self: Box<Self>, committed: &Result<()>);

    /// Asks the writer to end instead of running anything.
    fn is_stop(&self) -> bool {
        false
    }
}

struct Write<T: Transaction> {
    work: T,
    output: Option<Result<T::Output>>,
    /// Made before the answer; and if there never is one, when the job is dropped, which is after its last statement.
    announcement: Announcement,
    reply: oneshot::Sender<Result<T::Output>>,
}

impl<T: Transaction> Job for Write<T> {
    fn run<'a>(&'a mut self, connection: &'a mut Connection) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let output = self.output.insert(self.work.run(connection).await);
            output.as_ref().map(|_| ()).map_err(share)
        })
    }

    fn answer(self: Box<Self>, committed: &Result<()>) {
        let answer = match (self.output, committed) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(output)), Ok(())) => Ok(output),
            (_, Err(failure)) => Err(share(failure)),
            (None, Ok(())) => Err(Error::NotCommitted("the write was not run".into())),
        };
        drop(self.announcement);
        // A caller that has gone away does not want the answer.
        let _ = self.reply.send(answer);
    }
}

/// Ends the writer once all that was queued before it is committed.
struct Stop;

impl Job for Stop {
    fn run<'a>(&'a mut self, _: &'a mut Connection) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn answer(self: Box<Self>, _: &Result<()>) {}

    fn is_stop(&self) -> bool {
        true
    }
}

/// A failure, told to each of those who shared the transaction.
fn share(failure: &Error) -> Error {
    match failure {
        Error::DiskFull(reason) => Error::DiskFull(reason.clone()),
        other => Error::NotCommitted(other.to_string()),
    }
}

impl Writer {
    pub(super) fn start(connection: Connection, cache: Cache) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let task = tokio::spawn(write_groups(connection, jobs));
        Self { queue, task: Arc::new(Mutex::new(Some(task))), cache }
    }

    pub(super) async fn run<T: Transaction>(&self, work: T) -> Result<T::Output> {
        let (reply, answer) = oneshot::channel();
        let announcement = self.cache.announce(work.changes());
        let job = Box::new(Write { work, output: None, announcement, reply });
        self.queue.send(job).await.map_err(|_| Error::Unavailable(sqlx::Error::PoolClosed))?;
        answer.await.map_err(|_| Error::Unavailable(sqlx::Error::WorkerCrashed))?
    }

    /// Commits what is queued, then closes the connection, which also folds the log into the database file.
    pub(super) async fn close(&self) {
        if self.queue.send(Box::new(Stop)).await.is_ok()
            && let Some(task) = self.task.lock().await.take()
        {
            let _ = task.await;
        }
    }
}

async fn write_groups(mut connection: Connection, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = jobs.recv().await {
        let mut group = vec![first];
        let outcome = write_group(&mut connection, &mut group, &mut jobs).await;
        if let Err(error) = &outcome {
            tracing::error!(%error, writes = group.len(), "a group of writes was not committed");
            // Fails where SQLite has already rolled back by itself, which is what is wanted.
            let _ = sqlx::query("ROLLBACK").execute(&mut connection).await;
        }
        let stop = group.iter().any(|job| job.is_stop());
        for job in group {
            job.answer(&outcome);
        }
        if stop {
            break;
        }
    }
    let _ = connection.close().await;
}

/// Runs the group, which grows by what arrives meanwhile, and commits it.
async fn write_group(
    connection: &mut Connection,
    group: &mut Vec<Box<dyn Job>>,
    jobs: &mut mpsc::Receiver<Box<dyn Job>>,
) -> Result<()> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let mut next = 0;
    while next < group.len() {
        sqlx::query("SAVEPOINT job").execute(&mut *connection).await?;
        if let Err(failure) = group[next].run(connection).await
            && sqlx::query("ROLLBACK TO job").execute(&mut *connection).await.is_err()
        {
            // SQLite has undone the whole group by itself, as it may when the disk is full.
            return Err(failure);
        }
        sqlx::query("RELEASE job").execute(&mut *connection).await?;
        next += 1;
        if next == group.len()
            && next < MAX_GROUP
            && !group[next - 1].is_stop()
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}
