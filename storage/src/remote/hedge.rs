//! A second request where the first byte of a read is late: one slow server behind an object store's name, or one lost
//! packet, should not be a slow pull.

use super::Backend;
use crate::{Error, ObjectKey, Result, read::ByteStream};
use futures_util::future::{Either, select};
use std::{
    ops::Range,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

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
}

impl Default for FirstByte {
    fn default() -> Self {
        let usual = u64::try_from(SOONEST.as_micros()).unwrap_or_default();
        Self { usual_micros: AtomicU64::new(usual), reads: AtomicU64::new(0), hedged: AtomicU64::new(0) }
    }
}

impl FirstByte {
    /// Reads a range; where its first byte is late it is asked for once more, and whichever comes first is taken.
    ///
    /// # Errors
    /// [`Error::Backend`] where none comes in 30 s, or the store fails; [`Error::Lost`] where it has no such bytes.
    pub(super) async fn read(&self, backend: &dyn Backend, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream> {
        let begin = Instant::now();
        self.reads.fetch_add(1, Ordering::Relaxed);
        let answer = tokio::time::timeout(LIMIT, self.race(backend, key, range)).await;
        self.learn(begin.elapsed());
        let silent = || Error::Backend { key: key.clone(), reason: "it did not answer in 30 seconds".to_owned() };
        answer.unwrap_or_else(|_| Err(silent()))
    }

    async fn race(&self, backend: &dyn Backend, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream> {
        let first = pin!(backend.read(key, range.clone()));
        let late = pin!(tokio::time::sleep(self.late()));
        match select(first, late).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, first)) if self.may_hedge() => {
                let second = pin!(backend.read(key, range));
                match select(first, second).await {
                    Either::Left((Ok(stream), _)) | Either::Right((Ok(stream), _)) => Ok(stream),
                    // One that fails says nothing about the other.
                    Either::Left((Err(_), second)) => second.await,
                    Either::Right((Err(_), first)) => first.await,
                }
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
