//! A tag that one client writes and all others read, and what it must name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::content::Content;

/// A tag of a repository.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) repository: String,
    pub(crate) tag: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Rises whenever a change begins.
    version: u64,
    /// None while a change is under way, and while the tag is not there.
    held: Option<(Arc<Content>, Vec<Arc<Content>>)>,
}

/// What a tag names, as far as its client was told.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    version: u64,
    pub(crate) content: Arc<Content>,
    pub(crate) referrers: Vec<Arc<Content>>,
}

impl Slot {
    pub(crate) fn new(repository: String, tag: String) -> Self {
        Self { repository, tag, state: Mutex::default() }
    }

    /// What the tag names, if that is certain.
    pub(crate) fn held(&self) -> Option<Held> {
        let state = self.lock();
        let (content, referrers) = state.held.clone()?;
        Some(Held { version: state.version, content, referrers })
    }

    /// Before a request that changes the tag: from now on nobody knows what it names. Answers what it did.
    pub(crate) fn begin(&self) -> Option<Held> {
        let held = self.held();
        let mut state = self.lock();
        state.version += 1;
        state.held = None;
        held
    }

    /// After the answer: what the tag names from now on.
    pub(crate) fn settle(&self, content: Arc<Content>) {
        self.lock().held = Some((content, Vec::new()));
    }

    /// The change was refused.
    pub(crate) fn restore(&self, held: Option<Held>) {
        self.lock().held = held.map(|held| (held.content, held.referrers));
    }

    /// Something refers to what the tag names.
    pub(crate) fn add_referrer(&self, referrer: Arc<Content>) {
        if let Some((_, referrers)) = &mut self.lock().held {
            referrers.push(referrer);
        }
    }

    /// Whether a change has begun since.
    pub(crate) fn has_changed_since(&self, held: &Held) -> bool {
        self.lock().version != held.version
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
