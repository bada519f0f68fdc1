//! Which upload sessions are being written in this process: one request each, so that no two append to one object.
//! (Between processes the fence in the database decides.)

use longshore_metadata::UploadId;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;

/// The sessions that are being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenSessions(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    writing: Mutex<HashSet<UploadId>>,
    emptied: Notify,
}

/// The right to write a session; given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    id: UploadId,
    sessions: OpenSessions,
}

impl OpenSessions {
    /// Takes the session for this request, unless another one has it.
    pub(crate) fn enter(&self, id: UploadId) -> Option<Turn> {
        let entered = self.writing().insert(id);
        entered.then(|| Turn { id, sessions: self.clone() })
    }

    /// Waits until none is being written.
    pub(crate) async fn settle(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.writing().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn writing(&self) -> std::sync::MutexGuard<'_, HashSet<UploadId>> {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut writing = self.sessions.writing();
        writing.remove(&self.id);
        if writing.is_empty() {
            self.sessions.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_writer_at_a_time() {
        let sessions = OpenSessions::default();
        let id = UploadId::random();
        let turn = sessions.enter(id);
        assert!(turn.is_some());
        assert!(sessions.enter(id).is_none());
        drop(turn);
        assert!(sessions.enter(id).is_some());
    }

    #[tokio::test]
    async fn settling_waits_for_the_last_writer() {
        let sessions = OpenSessions::default();
        let turn = sessions.enter(UploadId::random());
        let settled = tokio::spawn({
            let sessions = sessions.clone();
            async move { sessions.settle().await }
        });
        tokio::task::yield_now().await;
        assert!(!settled.is_finished());
        drop(turn);
        settled.await.unwrap();
    }
}
