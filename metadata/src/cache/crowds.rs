//! Crowds: a thousand clients that come for one thing at the same moment ask the database for it once, or twice, whatever
//! comes of it. One of them asks; the others wait, and need no connection for that.
//!
//! Nobody is given an answer that could be older than a write which it has heard of. Whoever has waited looks into the
//! cache, which knows what is still right. What is not there (it is absent, the cache is closed, the query failed) is
//! asked for once more, for all who wait: that query begins after they have come, so what it finds is as good as what
//! they would find by themselves. Who comes while it is under way waits for the next.
//!
//! One that goes away while it asks is replaced by one other. One that gets no answer for long may be stuck on a connection
//! that died without a word, while others live: then one other asks beside it, and if that gets none, after twice the
//! time one more. Never do all of them fall upon the database: when it is slow, that would make it slower for all.

use super::questions::{Asked, Key};
use crate::{BlobRecord, Error, ManifestRecord, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long one alone is asking, before another asks beside it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Who asks the database at this moment, by what they ask for.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) manifests: Crowds<ManifestRecord>,
    pub(crate) blobs: Crowds<BlobRecord>,
    /// For the size of a blob that stays.
    pub(crate) promises: Crowds<u64>,
}

impl Asking {
    /// Nobody waits longer than `longest` for others.
    pub(super) fn new(longest: Duration) -> Self {
        Self { manifests: Crowds::new(longest), blobs: Crowds::new(longest), promises: Crowds::new(longest) }
    }
}

/// Who asks what.
#[derive(Debug)]
pub(crate) struct Crowds<T> {
    by_question: Mutex<HashMap<Arc<Key>, Crowd<T>>>,
    /// How long anybody waits for others.
    longest: Duration,
}

/// Those who ask one question.
#[derive(Debug)]
struct Crowd<T> {
    members: usize,
    board: Arc<watch::Sender<Board<T>>>,
}

/// What the members of a crowd know of each other.
#[derive(Debug)]
struct Board<T> {
    /// Queries that have begun so far: the number of the last one.
    begun: u64,
    /// Those of them that have not ended.
    under_way: usize,
    /// How long the last one is waited for before another one begins.
    patience: Duration,
    patience_ends: Instant,
    /// What came of the last one that has ended, with its number.
    outcome: Option<(u64, Result<Option<T>>)>,
}

/// What one of them does next.
enum Step<T> {
    /// It has an answer.
    Take(Result<Option<T>>),
    /// It asks: this is the number of its query.
    Ask(u64),
    /// It waits for others, until then at most.
    WaitUntil(Instant),
}

impl<T: Clone> Crowds<T> {
    fn new(longest: Duration) -> Self {
        Self { by_question: Mutex::new(HashMap::new()), longest }
    }

    /// Asks together with whoever asks the same. `look` looks into the cache, once one has waited; `query`, which is not
    /// polled before it is this one's turn, asks the database.
    ///
    /// # Errors
    /// Those of a query that began after this was called, also where another has made it; [`Error::Unavailable`] where
    /// none has ended in time.
    pub(super) async fn ask(
        &self,
        asked: &Asked<'_>,
        look: impl Fn() -> Option<T>,
        query: impl Future<Output = Result<Option<T>>>,
    ) -> Result<Option<T>> {
        let member = self.join(asked);
        match member.wait(look).await {
            Waited::Answer(outcome) => outcome,
            Waited::Turn(turn) => {
                let outcome = query.await;
                turn.tell(outcome.clone());
                outcome
            }
        }
    }

    fn join(&self, asked: &Asked<'_>) -> Member<'_, T> {
        let key = Arc::new(asked.to_key());
        let mut crowds = self.lock();
        let crowd = crowds.entry(key.clone()).or_insert_with(Crowd::new);
        crowd.members += 1;
        let board = crowd.board.clone();
        let came = board.borrow().begun;
        Member { crowds: self, key, board, came }
    }
}

impl<T> Crowds<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Key>, Crowd<T>>> {
        self.by_question.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Crowd<T> {
    fn new() -> Self {
        let (begun, under_way, outcome) = (0, 0, None);
        let board = Board { begun, under_way, patience: PATIENCE, patience_ends: Instant::now(), outcome };
        Self { members: 0, board: Arc::new(watch::Sender::new(board)) }
    }
}

impl<T: Clone> Board<T> {
    /// For a member that came when so many queries had begun.
    fn next_step(&mut self, came: u64, now: Instant) -> Step<T> {
        match &self.outcome {
            Some((number, outcome)) if *number > came => Step::Take(outcome.clone()),
            _ if self.under_way > 0 && now < self.patience_ends => Step::WaitUntil(self.patience_ends),
            _ => {
                self.patience = if self.under_way == 0 { PATIENCE } else { self.patience.saturating_mul(2) };
                self.patience_ends = now + self.patience;
                self.under_way += 1;
                self.begun += 1;
                Step::Ask(self.begun)
            }
        }
    }
}

/// One of a crowd. The crowd ends with the last of them.
#[derive(Debug)]
struct Member<'a, T> {
    crowds: &'a Crowds<T>,
    key: Arc<Key>,
    board: Arc<watch::Sender<Board<T>>>,
    /// How many queries had begun when it came.
    came: u64,
}

/// What comes of waiting for others.
enum Waited<'a, T> {
    /// What they have found.
    Answer(Result<Option<T>>),
    /// It has to ask itself.
    Turn(Turn<'a, T>),
}

impl<T: Clone> Member<'_, T> {
    async fn wait(&self, look: impl Fn() -> Option<T>) -> Waited<'_, T> {
        let mut news = self.board.subscribe();
        let last_moment = Instant::now() + self.crowds.longest;
        loop {
            let until = match self.next_step() {
                Step::Take(outcome) => return Waited::Answer(outcome),
                Step::Ask(number) => return Waited::Turn(Turn { board: &self.board, number }),
                Step::WaitUntil(_) if Instant::now() >= last_moment => {
                    return Waited::Answer(Err(Error::unavailable(sqlx::Error::PoolTimedOut)));
                }
                Step::WaitUntil(until) => until.min(last_moment),
            };
            let has_ended = timeout_at(until, news.changed()).await.is_ok();
            if has_ended && let Some(found) = look() {
                return Waited::Answer(Ok(Some(found)));
            }
        }
    }

    fn next_step(&self) -> Step<T> {
        let now = Instant::now();
        let mut step = Step::WaitUntil(now);
        self.board.send_if_modified(|board| {
            step = board.next_step(self.came, now);
            // Nobody waits for what it does.
            false
        });
        step
    }
}

impl<T> Drop for Member<'_, T> {
    fn drop(&mut self) {
        let mut crowds = self.crowds.lock();
        if let Some(crowd) = crowds.get_mut(&self.key) {
            crowd.members -= 1;
            if crowd.members == 0 {
                crowds.remove(&self.key);
            }
        }
    }
}

/// A query that is under way. It ends when this is dropped, and all who wait are told.
#[derive(Debug)]
struct Turn<'a, T> {
    board: &'a watch::Sender<Board<T>>,
    number: u64,
}

impl<T> Turn<'_, T> {
    fn tell(self, outcome: Result<Option<T>>) {
        self.board.send_if_modified(|board| {
            if board.outcome.as_ref().is_none_or(|(number, _)| *number < self.number) {
                board.outcome = Some((self.number, outcome));
            }
            // They are told when this is dropped, once.
            false
        });
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.board.send_modify(|board| board.under_way -= 1);
    }
}

#[cfg(test)]
mod tests;
