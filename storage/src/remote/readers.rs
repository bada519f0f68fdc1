//! Those who read one object: where each of them is, and who of them keeps pace.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// One that takes so many times as long as usual for a segment is slow, within these bounds.
const SLOW: u32 = 8;
const SOONEST: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_secs(30);
/// One that kept pace so far may stand still for so many times that: it may be the machine that has no time for it.
const HICCUP: u32 = 6;

/// All readers of an object.
#[derive(Debug, Default)]
pub(super) struct Readers {
    readers: HashMap<u64, Reader>,
    next: u64,
}

#[derive(Debug)]
struct Reader {
    /// The segments that it still needs.
    needed: Range<u64>,
    /// The segment that it is at.
    at: u64,
    /// Since when it sends what it was given last; none while it waits for us.
    sending_since: Option<Instant>,
    /// How long it has sent of this segment before.
    sending: Duration,
    /// How long the segments before took it: an average of which the last one is half.
    took: Duration,
}

impl Reader {
    fn new(needed: Range<u64>) -> Self {
        let at = needed.start;
        Self { needed, at, sending_since: None, sending: Duration::ZERO, took: Duration::ZERO }
    }

    fn is_slow(&self, slow_after: Duration) -> bool {
        let now = self.sending + self.sending_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.took > slow_after || now > slow_after * HICCUP
    }
}

impl Readers {
    /// One more, which needs these segments; answers its number.
    pub(super) fn join(&mut self, needed: Range<u64>) -> u64 {
        let reader = self.next;
        self.next += 1;
        self.readers.insert(reader, Reader::new(needed));
        reader
    }

    pub(super) fn leave(&mut self, reader: u64) {
        self.readers.remove(&reader);
    }

    pub(super) fn count(&self) -> usize {
        self.readers.len()
    }

    /// It has sent on what it was given and needs something of this segment. Answers how long the segment before took it,
    /// where it is through with that.
    pub(super) fn arrive(&mut self, reader: u64, number: u64) -> Option<Duration> {
        let reader = self.readers.get_mut(&reader)?;
        reader.sending += reader.sending_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        reader.needed.start = number;
        if reader.at == number {
            return None;
        }
        reader.at = number;
        let took = std::mem::take(&mut reader.sending);
        reader.took = (reader.took + took) / 2;
        Some(took)
    }

    /// It is given something, after which it will need this segment.
    pub(super) fn hand(&mut self, reader: u64, next: u64) {
        if let Some(reader) = self.readers.get_mut(&reader) {
            reader.needed.start = next;
            reader.sending_since = Some(Instant::now());
        }
    }

    pub(super) fn is_slow(&self, reader: u64, slow_after: Duration) -> bool {
        self.readers.get(&reader).is_some_and(|reader| reader.is_slow(slow_after))
    }

    /// Nobody waits for this one, as if it were slow, until the average over its segments is that of others again.
    pub(super) fn leave_behind(&mut self, reader: u64) {
        if let Some(reader) = self.readers.get_mut(&reader) {
            reader.took = LATEST * 2;
        }
    }

    /// The end of what this reader needs.
    pub(super) fn end(&self, reader: u64) -> Option<u64> {
        self.readers.get(&reader).map(|reader| reader.needed.end)
    }

    /// What one of them needs.
    pub(super) fn any(&self) -> Option<Range<u64>> {
        self.readers.values().next().map(|reader| reader.needed.clone())
    }

    /// The first segment that anybody needs.
    pub(super) fn first(&self) -> u64 {
        let needed = self.readers.values().map(|reader| &reader.needed).filter(|needed| !needed.is_empty());
        needed.map(|needed| needed.start).min().unwrap_or(u64::MAX)
    }

    /// How many segments away the next reader of a segment is.
    pub(super) fn distance(&self, number: u64) -> Option<u64> {
        let needed = self.readers.values().map(|reader| &reader.needed).filter(|needed| needed.contains(&number));
        needed.map(|needed| number - needed.start).min()
    }

    /// For each segment that those who keep pace need next, where what they need ends.
    pub(super) fn reach_of_fast(&self, slow_after: Duration) -> BTreeMap<u64, u64> {
        let mut reach = BTreeMap::new();
        for reader in self.readers.values().filter(|reader| !reader.is_slow(slow_after)) {
            let end: &mut u64 = reach.entry(reader.needed.start).or_default();
            *end = (*end).max(reader.needed.end);
        }
        reach
    }
}

/// How long readers usually take for a segment: a median that forgets, for one whose client sleeps for minutes says nothing
/// about the others.
#[derive(Debug)]
pub(super) struct Pace {
    usual_micros: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { usual_micros: AtomicU64::new(1024) }
    }
}

impl Pace {
    /// A reader took so long. The median goes a sixteenth up or down.
    pub(super) fn learn(&self, took: Duration) {
        let usual = self.usual_micros.load(Ordering::Relaxed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let step = usual / 16;
        self.usual_micros.store(if took > usual { usual + step } else { (usual - step).max(16) }, Ordering::Relaxed);
    }

    /// A reader that takes longer is slow.
    pub(super) fn slow_after(&self) -> Duration {
        (Duration::from_micros(self.usual_micros.load(Ordering::Relaxed)) * SLOW).clamp(SOONEST, LATEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn time_counts_while_a_reader_sends_and_not_while_it_waits_for_us() {
        let mut readers = Readers::default();
        let reader = readers.join(3..9);
        assert_eq!(readers.arrive(reader, 3), None);
        tokio::time::advance(SECOND * 10).await;
        // In two pieces.
        for next in [3, 4] {
            readers.hand(reader, next);
            tokio::time::advance(SECOND).await;
            assert!(!readers.is_slow(reader, SECOND));
            assert_eq!(readers.arrive(reader, next), (next == 4).then_some(SECOND * 2));
            tokio::time::advance(SECOND * 10).await;
        }
        assert_eq!(readers.readers[&reader].took, SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_long_again_and_again_is_slow_and_one_that_stands_still_once_is_not() {
        let mut readers = Readers::default();
        let reader = readers.join(0..100);
        for (next, took, is_slow) in [(1, 15, false), (2, 1, false), (3, 15, false), (4, 15, true), (5, 1, false)] {
            readers.hand(reader, next);
            tokio::time::advance(SECOND * took).await;
            assert_eq!(readers.arrive(reader, next), Some(SECOND * took));
            assert_eq!(readers.is_slow(reader, SECOND * 10), is_slow, "at {next}");
        }
        readers.hand(reader, 6);
        tokio::time::advance(SECOND * 61).await;
        assert!(readers.is_slow(reader, SECOND * 10), "it stands still for too long");
        readers.leave_behind(reader);
        readers.arrive(reader, 6);
        assert!(readers.is_slow(reader, LATEST), "nobody waits for it");
    }

    #[test]
    fn slow_is_who_takes_much_longer_than_most() {
        let pace = Pace::default();
        assert_eq!(pace.slow_after(), SOONEST);
        for number in 0..1000 {
            pace.learn(if number % 10 == 0 { SECOND * 60 } else { SECOND / 4 });
        }
        let slow_after = pace.slow_after();
        assert!(slow_after > SECOND && slow_after < SECOND * 4, "{slow_after:?}");
        (0..1000).for_each(|_| pace.learn(SECOND * 60));
        assert_eq!(pace.slow_after(), LATEST);
        (0..1000).for_each(|_| pace.learn(Duration::ZERO));
        assert_eq!(pace.slow_after(), SOONEST);
    }
}
