//! How fast garbage is collected: after each batch the collector rests in proportion to how long that took. A database that
//! is busy makes batches slow, and so the collector slower still.

use std::time::Duration;
use tokio::time::Instant;

/// It never rests longer than this: a batch that hung says nothing about the next.
const LONGEST: Duration = Duration::from_secs(10);

/// The share of the time that the collector works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Of a hundred; 100 never rests.
    share: u8,
}

impl Pace {
    pub(crate) fn new(share: u8) -> Self {
        Self { share: share.clamp(1, 100) }
    }

    /// Rests after work that began then.
    pub(crate) async fn rest(self, began: Instant) {
        let rest = self.rest_after(began.elapsed());
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
    }

    fn rest_after(self, worked: Duration) -> Duration {
        (worked * u32::from(100 - self.share) / u32::from(self.share)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_works_for_its_share_of_the_time() {
        let worked = Duration::from_millis(20);
        let rests = |share| Pace::new(share).rest_after(worked).as_millis();
        assert_eq!([rests(100), rests(50), rests(20), rests(1)], [0, 20, 80, 1980]);
        assert_eq!(Pace::new(1).rest_after(Duration::from_secs(60)), LONGEST);
    }
}
