//! How fast objects are read again: as slowly as the period lets, so that clients do not notice.

use super::{ScrubRules, Scrubber};
use crate::Error;
use longshore_metadata::ScrubClaim;
use std::time::Duration;
use tokio::time::Instant;

/// A small registry is read in minutes rather than in a month: what is damaged is known sooner.
const LEAST: u64 = 4 * 1024 * 1024;
/// What was not used is not saved up for longer than this.
const SAVED_UP: Duration = Duration::from_secs(1);

/// It is worked out again after such a part of the period, for clients push while objects are read; and not after less than an
/// hour, for all that is left is added up.
const PART: u32 = 30;
const LEAST_PART: Duration = Duration::from_secs(3600);
/// Objects whose sizes are read together.
const PAGE: u32 = 1000;

/// Bytes a second.
#[derive(Debug)]
pub(super) struct Rate {
    bytes: u64,
    /// When it was worked out.
    since: Instant,
    /// For so long it holds.
    holds: Duration,
    /// When the next bytes may be read.
    next: Instant,
}

impl Rate {
    /// The rate at which what is left of a round is read in four fifths of the time that is left of its period: the rest is
    /// for times in which nobody reads.
    pub(super) fn of(rules: ScrubRules, round: &ScrubClaim) -> Self {
        let gone = round.began.and_then(|began| round.now.duration_since(began).ok()).unwrap_or_default();
        let (bytes, time) = (round.total.saturating_sub(round.done), rules.period.saturating_sub(gone));
        let needed = bytes / (time.as_secs() * 4 / 5).max(1);
        let now = Instant::now();
        let bytes = needed.max(LEAST).min(rules.rate).max(1);
        Self { bytes, since: now, holds: (rules.period / PART).max(LEAST_PART), next: now }
    }

    /// Whether it is time to work it out again.
    pub(super) fn is_old(&self) -> bool {
        self.since.elapsed() >= self.holds
    }

    /// Waits until so many more bytes may be read.
    pub(super) async fn turn(&mut self, bytes: u64) {
        let now = Instant::now();
        tokio::time::sleep_until(self.next).await; // this wait is the rate
        let begun = self.next.max(now.checked_sub(SAVED_UP).unwrap_or(now));
        self.next = begun + Duration::from_secs_f64(bytes as f64 / self.bytes as f64);
    }
}

impl Scrubber {
    /// The rate for a round that has come so far, by what is left of it now: it has grown since it began, or shrunk.
    pub(super) async fn rate_of(&self, round: &ScrubClaim) -> Result<Rate, Error> {
        let total = round.done.saturating_add(self.left_after(round.last).await?);
        Ok(Rate::of(self.rules, &ScrubClaim { total, ..round.clone() }))
    }

    /// The bytes of all objects after this one.
    pub(super) async fn left_after(&self, mut last: i64) -> Result<u64, Error> {
        let mut left = 0;
        loop {
            let objects = self.metadata.objects_after(last, PAGE).await?;
            let Some(object) = objects.last() else { return Ok(left) };
            last = object.number;
            left += objects.iter().map(|object| object.size).sum::<u64>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_metadata::RowsRead;
    use std::time::SystemTime;

    const MIB: u64 = 1024 * 1024;
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A round that has begun so long ago.
    fn round(total: u64, done: u64, ago: Duration) -> ScrubClaim {
        let began = SystemTime::UNIX_EPOCH + DAY;
        ScrubClaim {
            claim: 1,
            last: 0,
            total,
            done,
            rows: RowsRead::All,
            began: Some(began),
            finished: None,
            now: began + ago,
        }
    }

    fn rate(period: Duration, most: u64, total: u64) -> u64 {
        Rate::of(ScrubRules { period, rate: most }, &round(total, 0, Duration::ZERO)).bytes
    }

    #[tokio::test]
    async fn all_is_read_within_the_period_unless_that_were_too_fast() {
        assert_eq!(rate(DAY, 100 * MIB, 0), LEAST);
        let total = 864_000 * MIB;
        assert_eq!(rate(DAY, 100 * MIB, total), total / (24 * 3600 * 4 / 5));
        assert_eq!(rate(DAY, 5 * MIB, total), 5 * MIB);
        assert_eq!(rate(DAY, MIB, 0), MIB);
    }

    #[tokio::test]
    async fn what_is_left_of_a_round_is_read_in_the_time_that_is_left() {
        let rate = |done, ago, most| {
            let rules = ScrubRules { period: 30 * DAY, rate: most };
            Rate::of(rules, &round(8_640_000 * MIB, done, ago)).bytes
        };
        let day = DAY.as_secs();
        assert_eq!(rate(0, Duration::ZERO, 100 * MIB), 8_640_000 * MIB / (24 * day));
        assert_eq!(rate(0, 20 * DAY, 100 * MIB), 8_640_000 * MIB / (8 * day), "nobody has read for 20 days");
        assert_eq!(rate(0, 20 * DAY, 9 * MIB), 9 * MIB, "that were too fast");
        assert_eq!(rate(4_320_000 * MIB, 20 * DAY, 100 * MIB), 4_320_000 * MIB / (8 * day));
        assert_eq!(rate(4_320_000 * MIB, 30 * DAY, 100 * MIB), 100 * MIB, "the period is over");
        assert_eq!(rate(9_000_000 * MIB, 20 * DAY, 100 * MIB), LEAST, "it has grown since it began");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_worked_out_again_after_a_part_of_the_period_and_not_all_the_time() {
        for (period, holds) in [(30 * DAY, DAY), (DAY, LEAST_PART), (Duration::ZERO, LEAST_PART)] {
            let rate = Rate::of(ScrubRules { period, rate: MIB }, &round(0, 0, Duration::ZERO));
            tokio::time::advance(holds - Duration::from_secs(1)).await;
            assert!(!rate.is_old(), "{period:?}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(rate.is_old(), "{period:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_takes_as_long_as_the_rate_says() {
        let mut rate = Rate::of(ScrubRules { period: DAY, rate: MIB }, &round(0, 0, Duration::ZERO));
        let began = Instant::now();
        for _ in 0..10 {
            rate.turn(MIB).await;
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(8) && took <= Duration::from_secs(9), "{took:?}");
    }
}
