//! Turns at the database: a thousand clients that come for one thing at the same moment ask for it once.
//!
//! Nobody is given an answer that another has asked for: that could be older than a write which it has heard of. Whoever
//! has waited looks into the cache, which knows what is still right.

use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

/// Questions that are asked at the same time; more than a pool has connections.
const TURNS: usize = 256;
/// Who has waited for so long asks without a turn: where the database is slow, one should not wait for the other.
const PATIENCE: Duration = Duration::from_millis(500);

/// Who is asking.
#[derive(Debug)]
pub(super) struct Turns(Box<[Mutex<()>]>);

/// The turn of one question. Others of the same turn wait.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _held: Option<MutexGuard<'a, ()>>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self((0..TURNS).map(|_| Mutex::new(())).collect())
    }

    /// Waits until nobody asks the same; answers whether anybody did. (Some other questions share the turn.)
    pub(super) async fn take(&self, hash: u64) -> (Turn<'_>, bool) {
        let turn = &self.0[(hash % TURNS as u64) as usize];
        match turn.try_lock() {
            Ok(guard) => (Turn { _held: Some(guard) }, false),
            Err(_) => (Turn { _held: timeout(PATIENCE, turn.lock()).await.ok() }, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn the_same_question_waits_and_others_do_not() {
        let turns = Arc::new(Turns::new());
        let (first, has_waited) = turns.take(7).await;
        assert!(!has_waited);
        let (_other, has_waited) = turns.take(8).await;
        assert!(!has_waited);
        let again = turns.clone();
        let second = tokio::spawn(async move { again.take(7).await.1 });
        tokio::task::yield_now().await;
        drop(first);
        assert!(second.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long() {
        let turns = Turns::new();
        let _stuck = turns.take(7).await;
        let (turn, has_waited) = turns.take(7).await;
        assert!(has_waited && turn._held.is_none());
    }
}
