//! Whether the database's clock goes as ours does. Leases are times by the database's clock: where that is moved, all of
//! them end at once, or not for ever.

use crate::Error;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// So far apart may they go between two looks.
const TOLERANCE: Duration = Duration::from_secs(15 * 60);

/// What was seen of the database's clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<Mutex<Option<(SystemTime, Instant)>>>);

impl Clock {
    /// Looks at what the database says, which it said just now.
    ///
    /// # Errors
    /// [`Error::ClockMoved`] where that is not what it would say had it gone as ours since the last look. The next look is
    /// from there on.
    pub(crate) fn look(&self, now: SystemTime) -> Result<(), Error> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.replace((now, Instant::now()));
        let Some((then, at)) = last else { return Ok(()) };
        let expected = then + at.elapsed();
        let apart = now.duration_since(expected).unwrap_or_else(|early| early.duration());
        if apart > TOLERANCE { Err(Error::ClockMoved) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_goes_as_ours_is_trusted_and_one_that_jumps_is_not() {
        let (clock, begin) = (Clock::default(), SystemTime::UNIX_EPOCH + HOUR * 1_000_000);
        assert!(clock.look(begin).is_ok());
        tokio::time::advance(HOUR).await;
        assert!(clock.look(begin + HOUR).is_ok());
        assert!(matches!(clock.look(begin + HOUR * 2), Err(Error::ClockMoved)), "forward");
        assert!(clock.look(begin + HOUR * 2).is_ok(), "from there on");
        assert!(matches!(clock.look(begin + HOUR), Err(Error::ClockMoved)), "back");
        tokio::time::advance(HOUR).await;
        assert!(matches!(clock.look(begin + HOUR), Err(Error::ClockMoved)), "it stood still");
    }
}
