//! The one writer of a SQLite database, with group commit.
//!
//! All writes that wait when the disk is free share one COMMIT, so one fsync; a group of nothing but relaxed writes
//! does without. A write is answered only after that COMMIT. Each hand-over to the thread that runs SQLite costs as
//! much as a small statement, so the statements around the writes are few: there are savepoints only in a group that
//! has failed once.

use super::{Connection, Transaction, folding::Folding, level::Level};
use crate::cache::{Announcement, Cache};
use crate::{Durability, Error, Result};
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
    /// Runs the statements; again from the start where the group was undone. An error says what to tell the others of
    /// its group if they fall with it.
    fn run<'a>(&'a mut self, connection: &'a mut Connection) -> BoxFuture<'a, Result<()>>;

    /// Answers the caller, after the commit that it shares has ended.
    fn answer(self: Box<Self>, committed: &Result<()>);

    /// What the caller was promised.
    fn durability(&self) -> Durability;

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

    fn durability(&self) -> Durability {
        T::DURABILITY
    }
}

/// Ends the writer once all that was queued before it is committed.
struct Stop;

impl Job for Stop {
    fn run<'a>(&'a mut self, _: &'a mut Connection) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn answer(self: Box<Self>, _: &Result<()>) {}

    fn durability(&self) -> Durability {
        Durability::Durable
    }

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
    /// Takes over a connection whose settings are those of [`super::assert_durable`].
    pub(super) fn start(connection: Connection, folding: Folding, cache: Cache) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let jobs = Jobs { queue: jobs, left: None };
        let groups = Groups { connection, level: Level::at_rest(), jobs, folding };
        let task = tokio::spawn(groups.write_all());
        Self { queue, task: Arc::new(Mutex::new(Some(task))), cache }
    }

    pub(super) async fn run<T: Transaction>(&self, work: T) -> Result<T::Output> {
        let (reply, answer) = oneshot::channel();
        let announcement = self.cache.announce(work.changes());
        let job = Box::new(Write { work, output: None, announcement, reply });
        self.queue.send(job).await.map_err(|_| Error::unavailable(sqlx::Error::PoolClosed))?;
        answer.await.map_err(|_| Error::unavailable(sqlx::Error::WorkerCrashed))?
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

/// What is waiting to be written.
struct Jobs {
    queue: mpsc::Receiver<Box<dyn Job>>,
    /// Taken from the queue, and not of the group that was open then.
    left: Option<Box<dyn Job>>,
}

impl Jobs {
    /// The first job of a group, once there is one; `None` when there will be no more.
    async fn wait(&mut self) -> Option<Box<dyn Job>> {
        match self.left.take() {
            Some(job) => Some(job),
            None => self.queue.recv().await,
        }
    }

    /// Puts into the group what is waiting and may be in it. A group is as durable as the most demanding of its
    /// writes, but that cannot change once it has begun.
    fn join(&mut self, group: &mut Group, has_begun: bool) {
        while group.jobs.len() < MAX_GROUP && !group.has_stop() && self.left.is_none() {
            let Ok(job) = self.queue.try_recv() else { return };
            if has_begun && group.durability == Durability::Relaxed && job.durability() == Durability::Durable {
                self.left = Some(job);
            } else {
                group.push(job);
            }
        }
    }
}

/// Writes that share a transaction.
struct Group {
    jobs: Vec<Box<dyn Job>>,
    durability: Durability,
}

impl Group {
    fn of(first: Box<dyn Job>) -> Self {
        Self { durability: first.durability(), jobs: vec![first] }
    }

    fn push(&mut self, job: Box<dyn Job>) {
        if job.durability() == Durability::Durable {
            self.durability = Durability::Durable;
        }
        self.jobs.push(job);
    }

    fn has_stop(&self) -> bool {
        self.jobs.last().is_some_and(|job| job.is_stop())
    }
}

/// Whether a write that fails takes the others of its group with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Savepoints {
    /// It does: then all of them are run again with savepoints.
    None,
    /// Each write is in one.
    EachWrite,
}

struct Groups {
    connection: Connection,
    level: Level,
    jobs: Jobs,
    folding: Folding,
}

impl Groups {
    async fn write_all(mut self) {
        while let Some(first) = self.jobs.wait().await {
            let mut group = Group::of(first);
            self.jobs.join(&mut group, false);
            let outcome = self.write(&mut group).await;
            match &outcome {
                Ok(()) => self.folding.count(group.jobs.len()),
                Err(error) => tracing::error!(%error, writes = group.jobs.len(), "a group of writes was not committed"),
            }
            let stop = group.has_stop();
            for job in group.jobs {
                job.answer(&outcome);
            }
            if stop {
                break;
            }
        }
        self.folding.end().await;
        let _ = self.connection.close().await;
    }

    /// Commits the group. If one of its writes fails, all are run again without it: that is rare, and so the many that
    /// do not fail need no savepoints.
    async fn write(&mut self, group: &mut Group) -> Result<()> {
        if self.attempt(group, Savepoints::None).await.is_err() {
            self.attempt(group, Savepoints::EachWrite).await?;
        }
        self.level.commit(&mut self.connection).await
    }

    /// Runs the group in a transaction that stays open; none does if it fails.
    async fn attempt(&mut self, group: &mut Group, savepoints: Savepoints) -> Result<()> {
        self.level.begin(&mut self.connection, group.durability).await?;
        let outcome = self.run(group, savepoints).await;
        if outcome.is_err() {
            self.level.roll_back(&mut self.connection).await;
        }
        outcome
    }

    /// Runs the writes of the group, which grows by what arrives meanwhile.
    async fn run(&mut self, group: &mut Group, savepoints: Savepoints) -> Result<()> {
        let mut next = 0;
        while next < group.jobs.len() {
            let job = &mut group.jobs[next];
            match savepoints {
                Savepoints::None => job.run(&mut self.connection).await?,
                Savepoints::EachWrite => run_in_savepoint(&mut self.connection, &mut **job).await?,
            }
            next += 1;
            self.jobs.join(group, true);
        }
        Ok(())
    }
}

/// Undoes a write that fails. An error is that of the group.
async fn run_in_savepoint(connection: &mut Connection, job: &mut dyn Job) -> Result<()> {
    sqlx::query("SAVEPOINT job").execute(&mut *connection).await?;
    if let Err(failure) = job.run(connection).await
        && sqlx::query("ROLLBACK TO job").execute(&mut *connection).await.is_err()
    {
        // SQLite has undone the whole group by itself, as it may when the disk is full.
        return Err(failure);
    }
    sqlx::query("RELEASE job").execute(&mut *connection).await?;
    Ok(())
}
