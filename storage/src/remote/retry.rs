//! When a request of our own is sent again that failed by no fault of its own: as often and as long as the crates do it
//! with theirs.

use super::connect::{MAX_RETRIES, RETRY_TIMEOUT};
use reqwest::StatusCode;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// What is waited before the first repetition, at most; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The longest `Retry-After` that is kept to.
const LONGEST_ASKED: Duration = Duration::from_secs(30);

/// How many attempts at requests to one store have failed in passing.
#[derive(Debug, Clone, Default)]
pub(super) struct Retried(Arc<AtomicU64>);

impl Retried {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The repetitions of one request.
#[derive(Debug)]
pub(super) struct Retries {
    begun: Instant,
    count: usize,
}

impl Retries {
    /// Before the request is sent for the first time.
    pub(super) fn begin() -> Self {
        Self { begun: Instant::now(), count: 0 }
    }

    /// How long to wait before it is sent again; none where that has been tried for long enough. `asked`: what the store
    /// has asked for.
    pub(super) fn next_pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let pause =
            (FIRST_PAUSE * 2_u32.saturating_pow(u32::try_from(self.count).unwrap_or(u32::MAX))).min(LONGEST_PAUSE);
        // Not the same for two that failed together.
        let spread = uuid::Uuid::new_v4().as_u128() % 1000;
        let pause = pause / 2 + pause.mul_f64(spread as f64 / 2000.0);
        let pause = pause.max(asked.unwrap_or_default().min(LONGEST_ASKED));
        self.count += 1;
        (self.count <= MAX_RETRIES && self.begun.elapsed() + pause <= RETRY_TIMEOUT).then_some(pause)
    }
}

/// Whether this answer says that the request may succeed later.
pub(super) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_bound_and_end() {
        let mut retries = Retries::begin();
        let pauses: Vec<_> = std::iter::from_fn(|| retries.next_pause(None)).collect();
        assert_eq!(pauses.len(), MAX_RETRIES);
        let mut most = FIRST_PAUSE;
        for pause in pauses {
            assert!((most / 2..=most).contains(&pause), "{pause:?} of {most:?}");
            most = (most * 2).min(LONGEST_PAUSE);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_asks_for_is_kept_to_within_bounds() {
        let mut retries = Retries::begin();
        assert_eq!(retries.next_pause(Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(retries.next_pause(Some(Duration::from_secs(86_400))), Some(LONGEST_ASKED));
        assert!(retries.next_pause(Some(Duration::ZERO)).unwrap() >= FIRST_PAUSE);
        tokio::time::advance(RETRY_TIMEOUT - Duration::from_secs(1)).await;
        assert_eq!(retries.next_pause(Some(Duration::from_secs(2))), None, "it has been tried for long enough");
    }

    #[test]
    fn only_passing_trouble_is_tried_again() {
        for (status, expected) in
            [(408, true), (429, true), (500, true), (503, true), (504, true), (400, false), (403, false), (404, false)]
        {
            assert_eq!(is_passing(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
