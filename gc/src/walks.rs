//! When this process last went over all of something: a pass comes every minute, and some things are looked at by the hour
//! or the day.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// When the last walk was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Walks(Arc<Mutex<Option<Instant>>>);

impl Walks {
    /// Whether it is time for another one, so long after the last.
    pub(crate) fn is_time(&self, interval: Duration) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = last.is_none_or(|last| last.elapsed() >= interval);
        if is_time {
            *last = Some(Instant::now());
        }
        is_time
    }
}
