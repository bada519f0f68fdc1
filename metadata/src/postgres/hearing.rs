//! Waiting until every replica has heard of a change, so that whoever was told of it is not told otherwise by another
//! replica a moment later.
//!
//! Notifications come in the order of commits. So a writer asks, after its commit, whether all have heard: the question is
//! a notification too, and whoever answers it has taken the change before. Who there is to answer, the server tells: those
//! that listen, by the numbers of their processes, which their answers carry too. A replica that is stuck holds up no
//! writer for longer than [`PATIENCE`], and none at all once it has been silent for so long that it can answer nothing from
//! memory any more (`roll.rs`).

#[cfg(test)]
mod tests;

use super::notifications::ANNOUNCE;
use super::roll::{Listening, Roll};
use sqlx::postgres::{PgListener, PgNotification};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// How long a writer waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// Writers that wait to be asked for.
const QUEUE: usize = 1024;
/// The name that a connection has which listens.
pub(super) const LISTENER: &str = "longshore listener";
/// How a question and an answer begin.
const ASK: &str = "?ask ";
const HEARD: &str = "?heard ";

statements! {
    // Nobody is asked where we are alone: without a row nothing is announced. The name is that of `LISTENER`.
    ASK_OTHERS = "SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint, (SELECT announce($1)) IS NULL \
        FROM pg_stat_get_activity(NULL) WHERE application_name = 'longshore listener' AND pid <> pg_backend_pid() \
        AND datid = (SELECT oid FROM pg_database WHERE datname = current_database())";
}

/// Where writers wait.
#[derive(Debug, Clone)]
pub(super) struct Hearing(mpsc::Sender<oneshot::Sender<()>>);

/// What the one who listens is asked.
pub(super) struct Questions {
    waiting: mpsc::Receiver<oneshot::Sender<()>>,
    /// What we are called among the replicas.
    name: String,
    asked: HashMap<String, Asked>,
    next: u64,
    roll: Roll,
}

/// A question that not all have answered.
struct Asked {
    /// Who has not, by the numbers of their processes.
    awaited: HashSet<u32>,
    writers: Vec<oneshot::Sender<()>>,
    at: Instant,
}

/// Where writers wait, and what the one who listens is asked.
pub(super) fn hearing() -> (Hearing, Questions) {
    let (sender, waiting) = mpsc::channel(QUEUE);
    let name = uuid::Uuid::new_v4().simple().to_string();
    (Hearing(sender), Questions { waiting, name, asked: HashMap::new(), next: 0, roll: Roll::default() })
}

impl Hearing {
    /// Waits until all replicas have heard what was committed before.
    pub(super) async fn wait(&self) {
        let (told, heard) = oneshot::channel();
        let all = async {
            // An error is: nobody listens any more, so there is nobody to wait for.
            if let Ok(()) = self.0.send(told).await {
                heard.await.unwrap_or_default();
            }
        };
        if timeout(PATIENCE, all).await.is_err() {
            tracing::warn!(
                "not all replicas have heard of a change in time: for a moment they may answer as before it"
            );
        }
    }
}

impl Questions {
    /// The next writer that waits.
    pub(super) async fn next(&mut self) -> oneshot::Sender<()> {
        match self.waiting.recv().await {
            Some(writer) => writer,
            None => std::future::pending().await, // the store is closed: this task is about to end
        }
    }

    /// Asks for this writer, and for all others that wait, at once.
    pub(super) async fn ask(&mut self, listener: &mut PgListener, first: oneshot::Sender<()>) -> sqlx::Result<()> {
        let mut writers = vec![first];
        while let Ok(writer) = self.waiting.try_recv() {
            writers.push(writer);
        }
        self.next += 1;
        let question = format!("{}-{}", self.name, self.next);
        let others: Vec<(i32, i64, bool)> =
            sqlx::query_as(ASK_OTHERS).bind(format!("{ASK}{question}")).fetch_all(listener).await?;
        let listening = |(pid, since, _): &(i32, i64, bool)| Listening { pid: pid.unsigned_abs(), since: *since };
        let others: Vec<Listening> = others.iter().map(listening).collect();
        let awaited = self.roll.call(&others, Instant::now());
        if awaited.is_empty() {
            release(writers);
        } else {
            self.asked.insert(question, Asked { awaited, writers, at: Instant::now() });
        }
        Ok(())
    }

    /// Takes a question or an answer; a question of another replica is answered.
    pub(super) async fn take(&mut self, listener: &mut PgListener, said: &PgNotification) -> sqlx::Result<()> {
        self.roll.hear(said.process_id());
        if let Some(question) = said.payload().strip_prefix(ASK) {
            if !question.starts_with(&self.name) {
                let answer = format!("{HEARD}{question} {}", self.name);
                sqlx::query(ANNOUNCE).bind(answer).execute(listener).await?;
            }
        } else if let Some(answer) = said.payload().strip_prefix(HEARD) {
            let question = answer.split_once(' ').map_or(answer, |(question, _)| question);
            self.heard(question, said.process_id());
        }
        Ok(())
    }

    fn heard(&mut self, question: &str, pid: u32) {
        let Some(asked) = self.asked.get_mut(question) else { return };
        asked.awaited.remove(&pid);
        if asked.awaited.is_empty()
            && let Some(asked) = self.asked.remove(question)
        {
            release(asked.writers);
        }
    }

    /// Forgets questions that nobody waits for any more, and who answers none. All that was said before `until` has been
    /// taken.
    pub(super) fn tidy(&mut self, until: Instant) {
        self.asked.retain(|_, asked| asked.at.elapsed() < PATIENCE * 2);
        self.roll.leave_out(until);
    }

    /// Lets go of all who wait: we hear nothing ourselves. And so it is not known who answers.
    pub(super) fn release_all(&mut self) {
        self.roll = Roll::default();
        for (_, asked) in self.asked.drain() {
            release(asked.writers);
        }
        while let Ok(writer) = self.waiting.try_recv() {
            release(vec![writer]);
        }
    }
}

fn release(writers: Vec<oneshot::Sender<()>>) {
    for writer in writers {
        let _ = writer.send(()); // it may have lost its patience
    }
}
