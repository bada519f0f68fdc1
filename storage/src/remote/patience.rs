//! How long a reader waits for memory and for its turn at the store, all its waits together.
//!
//! It waits for whole segments first, with all who read the object; what is left of its time it waits for a little of its own.

use std::time::Duration;
use tokio::time::Instant;

/// Before the first byte: then the client can still be told to come back.
const BEFORE_FIRST_BYTE: Duration = Duration::from_secs(10);
/// Of that, what is left for a little.
const FOR_LITTLE_AT_FIRST: Duration = Duration::from_secs(2);
/// Later: all that can be told then is that the answer breaks off, which costs the client more than to wait.
const AMID_ANSWER: Duration = Duration::from_secs(40);
const FOR_LITTLE: Duration = Duration::from_secs(10);

/// What has been sent when a reader waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Nothing, not even the head of the answer.
    BeforeFirstByte,
    /// The beginning, at least of the head.
    AmidAnswer,
}

/// Until when one piece is waited for. What the store takes once it is asked does not count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// For memory for a whole segment, and the turn to ask for it.
    pub(super) segment: Instant,
    /// For memory and a turn at all.
    pub(super) little: Instant,
}

impl Patience {
    /// Of one that begins to wait now, and has waited so long for the object to be opened.
    pub(super) fn deadlines(self, waited: Duration) -> Deadlines {
        let (whole, for_little) = match self {
            Self::BeforeFirstByte => {
                (BEFORE_FIRST_BYTE.saturating_sub(waited).max(FOR_LITTLE_AT_FIRST), FOR_LITTLE_AT_FIRST)
            }
            Self::AmidAnswer => (AMID_ANSWER, FOR_LITTLE),
        };
        let now = Instant::now();
        Deadlines { segment: now + whole - for_little, little: now + whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_waited_for_the_object_counts_until_the_first_byte() {
        let now = Instant::now();
        for (waited, segment, little) in [(0, 8, 10), (5, 3, 5), (60, 0, 2)] {
            let until = Patience::BeforeFirstByte.deadlines(Duration::from_secs(waited));
            assert_eq!(
                (until.segment - now, until.little - now),
                (Duration::from_secs(segment), Duration::from_secs(little))
            );
            let until = Patience::AmidAnswer.deadlines(Duration::from_secs(waited));
            assert_eq!((until.segment - now, until.little - now), (AMID_ANSWER - FOR_LITTLE, AMID_ANSWER));
        }
    }
}
