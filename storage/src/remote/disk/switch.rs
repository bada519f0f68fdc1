//! Turns a disk off that fails, for a while.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// For how long at first, and at most: doubled each time that it fails again at once.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(16 * 60);

/// Whether something may be tried.
#[derive(Debug)]
pub(super) struct Switch {
    /// So many failures in a row turn it off.
    tolerance: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    /// Set by what turned it off, until something goes well again.
    off_until: Option<Instant>,
    pause: Duration,
}

impl Switch {
    pub(super) fn new(tolerance: u32) -> Self {
        Self { tolerance, state: Mutex::new(State { failures: 0, off_until: None, pause: PAUSE }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_on(&self) -> bool {
        self.state().off_until.is_none_or(|until| until <= Instant::now())
    }

    /// Something went well: but what began before it was turned off says nothing of now.
    pub(super) fn went_well(&self) {
        let mut state = self.state();
        if state.off_until.is_none_or(|until| until <= Instant::now()) {
            *state = State { failures: 0, off_until: None, pause: PAUSE };
        }
    }

    /// Something failed. Answers for how long it is off, if this is what turned it off.
    pub(super) fn failed(&self) -> Option<Duration> {
        let mut state = self.state();
        let now = Instant::now();
        match state.off_until {
            Some(until) if until > now => return None,
            Some(_) => state.pause = (state.pause * 2).min(LONGEST_PAUSE),
            None => {
                state.failures += 1;
                if state.failures < self.tolerance {
                    return None;
                }
            }
        }
        state.off_until = Some(now + state.pause);
        Some(state.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_turn_it_off_for_longer_and_longer() {
        let switch = Switch::new(3);
        assert_eq!([switch.failed(), switch.failed()], [None, None]);
        switch.went_well();
        assert_eq!([switch.failed(), switch.failed()], [None, None], "they are counted anew");
        assert!(switch.is_on());
        assert_eq!(switch.failed(), Some(PAUSE));
        assert!(!switch.is_on());
        assert_eq!(switch.failed(), None, "it is off");
        switch.went_well();
        assert!(!switch.is_on(), "that had begun before");
        advance(PAUSE).await;
        assert!(switch.is_on());
        assert_eq!(switch.failed(), Some(PAUSE * 2), "one failure is enough now");
        for _ in 0..8 {
            advance(LONGEST_PAUSE).await;
            switch.failed();
        }
        advance(LONGEST_PAUSE).await;
        assert!(switch.is_on(), "never longer than that");
        switch.went_well();
        assert_eq!(switch.failed(), None, "all is as at first");
    }
}
