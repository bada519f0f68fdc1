//! How much has been done, and whether that is enough.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What all clients together have done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    events: AtomicU64,
    deeds: Mutex<BTreeMap<&'static str, u64>>,
    is_enough: AtomicBool,
}

impl Tally {
    /// A request was answered.
    pub(crate) fn event(&self) {
        self.events.fetch_add(1, Ordering::SeqCst);
    }

    /// How many requests were answered.
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::SeqCst)
    }

    /// Something was done.
    pub(crate) fn did(&self, deed: &'static str) {
        *self.deeds.lock().unwrap_or_else(PoisonError::into_inner).entry(deed).or_default() += 1;
    }

    /// How often it was done.
    pub(crate) fn times(&self, deed: &str) -> u64 {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).get(deed).copied().unwrap_or_default()
    }

    /// Tells the clients to come to an end.
    pub(crate) fn stop(&self) {
        self.is_enough.store(true, Ordering::SeqCst);
    }

    /// Whether clients shall come to an end.
    pub(crate) fn is_enough(&self) -> bool {
        self.is_enough.load(Ordering::SeqCst)
    }

    /// All deeds, in a line.
    pub(crate) fn account(&self) -> String {
        let deeds = self.deeds.lock().unwrap_or_else(PoisonError::into_inner);
        deeds.iter().map(|(deed, times)| format!("{times} {deed}")).collect::<Vec<_>>().join(", ")
    }
}
