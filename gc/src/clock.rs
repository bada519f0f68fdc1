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
pub(crate) struct Clock(Arc<Mutex<Option<Seen>>>);

/// A look, by all clocks.
#[derive(Debug, Clone, Copy)]
struct Seen {
    database: SystemTime,
    ours: Instant,
    asleep: Duration,
}

impl Clock {
    /// Looks at what the database says, which it said just now.
    ///
    /// # Errors
    /// [`Error::ClockMoved`] where that is not what it would say had it gone as ours since the last look. The next look is
    /// from there on.
    pub(crate) fn look(&self, now: SystemTime) -> Result<(), Error> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asleep = asleep_since_boot();
        let last = seen.replace(Seen { database: now, ours: Instant::now(), asleep });
        let Some(last) = last else { return Ok(()) };
        let expected = last.database + last.ours.elapsed() + asleep.saturating_sub(last.asleep);
        let apart = now.duration_since(expected).unwrap_or_else(|early| early.duration());
        if apart > TOLERANCE { Err(Error::ClockMoved) } else { Ok(()) }
    }
}

/// For how long this machine has been suspended in all. Our own clock stands still meanwhile, and the database's may not: a laptop
/// that sleeps every night would never collect anything.
#[cfg(target_os = "linux")]
fn asleep_since_boot() -> Duration {
    use rustix::time::{ClockId, Timespec, clock_gettime};
    let since_boot = |clock| {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
        Duration::new(u64::try_from(tv_sec).unwrap_or_default(), u32::try_from(tv_nsec).unwrap_or_default())
    };
    let awake = since_boot(ClockId::Monotonic);
    since_boot(ClockId::Boottime).saturating_sub(awake)
}

#[cfg(not(target_os = "linux"))]
fn asleep_since_boot() -> Duration {
    Duration::ZERO
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
