//! Whether the cache may answer: only while this process hears of every change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Open until a moment of the monotonic clock. So the gate closes by itself when the one who keeps it open is stuck.
#[derive(Debug)]
pub(super) struct Gate {
    /// Rises when everything that is kept becomes invalid at once.
    opening: AtomicU64,
    /// In nanoseconds since `start`; 0 while it is closed.
    until: AtomicU64,
    start: Instant,
}

impl Gate {
    pub(super) fn closed() -> Self {
        Self { opening: AtomicU64::new(0), until: AtomicU64::new(0), start: Instant::now() }
    }

    /// Nanoseconds of the monotonic clock.
    pub(super) fn now(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }

    /// The number of this opening, if it is open. What was kept in an earlier one is dead.
    ///
    /// The gate first, its number second: who finds it open and is then held up while it closes and opens again gets the
    /// new number, and what was kept before does not fit it.
    pub(super) fn opening(&self) -> Option<u64> {
        let until = self.until.load(Ordering::Acquire);
        // Saves a look at the clock where the gate is open for good.
        let is_open = until == u64::MAX || self.now() < until;
        is_open.then(|| self.opening.load(Ordering::Acquire))
    }

    /// Opens it anew: whatever was kept before is dead before anybody is let through.
    pub(super) fn open(&self, duration: Duration) {
        self.close();
        self.forget();
        self.until.store(self.end(duration), Ordering::Release);
    }

    /// Keeps it open, if it was not closed. By its one keeper only.
    pub(super) fn stay_open(&self, duration: Duration) {
        if self.until.load(Ordering::Acquire) != 0 {
            self.until.store(self.end(duration), Ordering::Release);
        }
    }

    pub(super) fn close(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Whatever was kept is dead.
    pub(super) fn forget(&self) {
        self.opening.fetch_add(1, Ordering::AcqRel);
    }

    fn end(&self, duration: Duration) -> u64 {
        nanoseconds(self.start.elapsed().saturating_add(duration))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
