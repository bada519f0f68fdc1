//! A second request where the first byte of a read is late: one slow server behind an object store's name, or one lost
//! packet, should not be a slow pull.

use super::Backend;
use crate::{Error, ObjectKey, Result, read::ByteStream};
use futures_util::future::{BoxFuture, Either, select};
use std::{
    ops::Range,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// A read is late after so many times the usual wait, within these bounds.
const LATE: u32 = 4;
const SOONEST: Duration = Duration::from_millis(100);
const LATEST: Duration = Duration::from_secs(3);
/// A store that has sent nothing by then is not going to.
const LIMIT: Duration = Duration::from_secs(30);
/// At most one in so many reads is asked twice: where everything is slow, asking twice makes it slower.
const ONE_IN: u64 = 20;

/// What reads usually wait for their first byte.
#[derive(Debug)]
pub(super) struct FirstByte {
    usual_micros: AtomicU64,
    reads: AtomicU64,
    hedged: AtomicU64,
    won: AtomicU64,
}

/// Reads that were asked for twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hedges {
    pub(super) sent: u64,
    /// Of these, those that the second request answered.
    pub(super) won: u64,
}

impl Default for FirstByte {
    fn default() -> Self {
        let usual = u64::try_from(SOONEST.as_micros()).unwrap_or_default();
        Self { usual_micros: AtomicU64::new(usual), reads: 0.into(), hedged: 0.into(), won: 0.into() }
    }
}

impl FirstByte {
    /// Reads a range; where its first byte is late it is asked for once more, and whichever comes first is taken.
    ///
    /// # Errors
    /// [`Error::Backend`] where none comes in 30 s, or the store fails; [`Error::Lost`] where it has no such bytes.
    pub(super) async fn read(&self, backend: &dyn Backend, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream> {
        let answer = self.first_of(|| backend.read(key, range.clone())).await;
        let silent = || Error::Backend { key: key.clone(), reason: "it did not answer in 30 seconds".to_owned() };
        answer.unwrap_or_else(|| Err(silent()))
    }

    /// How often it has asked twice.
    pub(super) fn hedges(&self) -> Hedges {
        let [sent, won] = [&self.hedged, &self.won].map(|count| count.load(Ordering::Relaxed));
        Hedges { sent, won }
    }

    /// What is asked for once or twice; none where it does not come.
    async fn first_of<'ask, T>(&self, ask: impl Fn() -> BoxFuture<'ask, Result<T>>) -> Option<Result<T>> {
        let begin = Instant::now();
        self.reads.fetch_add(1, Ordering::Relaxed);
        let answer = timeout(LIMIT, self.race(ask)).await;
        self.learn(begin.elapsed());
        answer.ok()
    }

    async fn race<'ask, T>(&self, ask: impl Fn() -> BoxFuture<'ask, Result<T>>) -> Result<T> {
        let (first, late) = (ask(), pin!(sleep(self.late())));
        match select(first, late).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, first)) if self.may_hedge() => {
                let (answer, is_second) = match select(first, ask()).await {
                    Either::Left((Ok(answer), _)) => (Ok(answer), false),
                    Either::Right((Ok(answer), _)) => (Ok(answer), true),
                    // One that fails says nothing about the other.
                    Either::Left((Err(_), second)) => (second.await, true),
                    Either::Right((Err(_), first)) => (first.await, false),
                };
                self.won.fetch_add(u64::from(is_second && answer.is_ok()), Ordering::Relaxed);
                answer
            }
            Either::Right((_, first)) => first.await,
        }
    }

    fn late(&self) -> Duration {
        (Duration::from_micros(self.usual_micros.load(Ordering::Relaxed)) * LATE).clamp(SOONEST, LATEST)
    }

    fn may_hedge(&self) -> bool {
        let reads = self.reads.load(Ordering::Relaxed);
        let allowed = |hedged: u64| (hedged * ONE_IN < reads + ONE_IN).then_some(hedged + 1);
        self.hedged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, allowed).is_ok()
    }

    /// An average that forgets: one in eight.
    fn learn(&self, waited: Duration) {
        let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let usual = self.usual_micros.load(Ordering::Relaxed);
        self.usual_micros.store(usual - usual / 8 + waited / 8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, future::join_all};

    /// What comes after so long.
    fn after<T: Send + 'static>(millis: u64, answer: Result<T>) -> BoxFuture<'static, Result<T>> {
        sleep(Duration::from_millis(millis)).map(|()| answer).boxed()
    }

    /// A counter that tells how often it was asked before.
    #[derive(Default)]
    struct Asked(AtomicU64);

    impl Asked {
        fn next(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }
    }

    #[test]
    fn one_in_twenty_is_asked_for_twice_at_most() {
        let first_byte = FirstByte::default();
        for reads in 1..=10_000 {
            first_byte.reads.fetch_add(1, Ordering::Relaxed);
            first_byte.may_hedge();
            // One more at the start, and one for the twenty that have begun.
            let most = reads / ONE_IN + 2;
            let hedges = first_byte.hedges().sent;
            assert!(hedges <= most && hedges + 1 >= reads / ONE_IN, "{hedges} of {reads}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_reads_are_late_at_once_few_of_them_are_asked_for_twice() {
        let (first_byte, asked) = (FirstByte::default(), Asked::default());
        let ask = || {
            asked.next();
            after(2000, Ok(()))
        };
        let answers = join_all((0..200).map(|_| first_byte.first_of(ask))).await;
        assert!(answers.into_iter().flatten().filter(Result::is_ok).count() == 200);
        let hedges = first_byte.hedges();
        assert_eq!(hedges, Hedges { sent: 11, won: 0 }, "200 / {ONE_IN}, and one more");
        assert_eq!(asked.next(), 200 + hedges.sent);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_always_is_not_asked_for_twice() {
        let (first_byte, asked) = (FirstByte::default(), Asked::default());
        for _ in 0..100 {
            let ask = || {
                asked.next();
                after(500, Ok(()))
            };
            first_byte.first_of(ask).await.unwrap().unwrap();
        }
        let hedges = first_byte.hedges().sent;
        assert!((1..=2).contains(&hedges), "{hedges}: it is the usual wait after a few");
        assert_eq!(asked.next(), 100 + hedges);
    }

    #[tokio::test(start_paused = true)]
    async fn whichever_comes_first_is_taken_and_one_that_fails_says_nothing_about_the_other() {
        let failed = || Err(Error::ShuttingDown);
        // When the first and the second answer, and whether it is an error.
        let cases = [
            ((900, Ok(1)), (100, Ok(2)), 2, 1),
            ((500, Ok(1)), (900, Ok(2)), 1, 0),
            ((500, failed()), (900, Ok(2)), 2, 1),
            ((900, Ok(1)), (100, failed()), 1, 0),
        ];
        for (first, second, expected, won) in cases {
            let (first_byte, asked) = (FirstByte::default(), Asked::default());
            let answers = std::sync::Mutex::new([Some(first), Some(second)]);
            let ask = || {
                let (millis, answer) = answers.lock().unwrap()[asked.next() as usize].take().unwrap();
                after(millis, answer)
            };
            assert_eq!(first_byte.first_of(ask).await.unwrap().unwrap(), expected);
            assert_eq!(first_byte.hedges(), Hedges { sent: 1, won });
        }
    }
}
