//! Waiting until every replica has heard of a change, so that whoever was told of it is not told otherwise by another
//! replica a moment later.
//!
//! Notifications come in the order of commits. So a writer asks, after its commit, whether all have heard: the question is
//! a notification too, and whoever answers it has taken the change before. Who there is to answer, the server tells: those
//! that listen. A replica that is stuck holds up no writer for longer than [`PATIENCE`]; what it may answer from memory is
//! bounded anyway.

use super::notifications::ANNOUNCE;
use sqlx::postgres::PgListener;
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
    // Nobody is asked where we are alone. The name is that of `LISTENER`.
    ASK_ALL = "WITH listening AS (SELECT count(*) AS replicas FROM pg_stat_get_activity(NULL) \
            WHERE application_name = 'longshore listener' \
            AND datid = (SELECT oid FROM pg_database WHERE datname = current_database())) \
        SELECT replicas, (SELECT announce($1) WHERE replicas > 1) IS NULL FROM listening";
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
}

/// A question that not all have answered.
struct Asked {
    replicas: usize,
    heard: HashSet<String>,
    writers: Vec<oneshot::Sender<()>>,
    at: Instant,
}

pub(super) fn hearing() -> (Hearing, Questions) {
    let (sender, waiting) = mpsc::channel(QUEUE);
    let name = uuid::Uuid::new_v4().simple().to_string();
    (Hearing(sender), Questions { waiting, name, asked: HashMap::new(), next: 0 })
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
        let asked = sqlx::query_as(ASK_ALL).bind(format!("{ASK}{question}")).fetch_one(listener).await?;
        let (replicas, _): (i64, bool) = asked;
        if replicas > 1 {
            let replicas = usize::try_from(replicas).unwrap_or_default();
            self.asked.insert(question, Asked { replicas, heard: HashSet::new(), writers, at: Instant::now() });
        } else {
            release(writers);
        }
        Ok(())
    }

    /// Takes a question or an answer; a question is answered.
    pub(super) async fn take(&mut self, listener: &mut PgListener, payload: &str) -> sqlx::Result<()> {
        if let Some(question) = payload.strip_prefix(ASK) {
            let answer = format!("{HEARD}{question} {}", self.name);
            sqlx::query(ANNOUNCE).bind(answer).execute(listener).await?;
        } else if let Some((question, replica)) = payload.strip_prefix(HEARD).and_then(|text| text.split_once(' ')) {
            self.heard(question, replica);
        }
        Ok(())
    }

    fn heard(&mut self, question: &str, replica: &str) {
        let Some(asked) = self.asked.get_mut(question) else { return };
        asked.heard.insert(replica.to_owned());
        if asked.heard.len() >= asked.replicas
            && let Some(asked) = self.asked.remove(question)
        {
            release(asked.writers);
        }
    }

    /// Forgets questions that nobody waits for any more.
    pub(super) fn tidy(&mut self) {
        self.asked.retain(|_, asked| asked.at.elapsed() < PATIENCE * 2);
    }

    /// Lets go of all who wait: we hear nothing ourselves.
    pub(super) fn release_all(&mut self) {
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
