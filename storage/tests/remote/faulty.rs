//! An object store that fails as it is told to, before what it was asked to do or after it.

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use longshore_storage::{Backend, BegunUpload, ByteStream, Error, ObjectKey, Result};
use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It fails, and nothing was done.
    Before,
    /// It is done, and fails.
    After,
    /// A read breaks off with an error after so many bytes.
    BreaksOff(usize),
    /// A read ends after so many bytes as if that were all.
    Truncated(usize),
    /// One bit of what is read is another, after so many bytes.
    Flipped(usize),
    /// No answer ever comes.
    Silent,
    /// A read falls silent after so many bytes.
    FallsSilent(usize),
    /// A read comes to a trickle after so many bytes: one byte a second.
    Trickles(usize),
    /// A read is slow after so many bytes, and no trickle: 2 KiB a second.
    Slows(usize),
    /// Whoever reads on after so many bytes panics.
    Panics(usize),
}

type Plan = dyn Fn(usize, &'static str) -> Fault + Send + Sync;

/// A store in front of another one, which counts its calls and asks a plan what is to become of each.
pub(crate) struct Faulty {
    inner: Arc<dyn Backend>,
    plan: Mutex<Arc<Plan>>,
    calls: AtomicUsize,
    read: Arc<AtomicU64>,
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Faulty").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Faulty {
    /// One that does what it should.
    pub(crate) fn new(inner: Arc<dyn Backend>) -> Arc<Self> {
        let plan: Arc<Plan> = Arc::new(|_, _| Fault::None);
        Arc::new(Self { inner, plan: Mutex::new(plan), calls: AtomicUsize::new(0), read: Arc::default() })
    }

    /// From now on, what becomes of the calls, which are counted from 0 again.
    pub(crate) fn plan(&self, plan: impl Fn(usize, &'static str) -> Fault + Send + Sync + 'static) {
        *self.plan.lock().unwrap() = Arc::new(plan);
        self.calls.store(0, Ordering::Relaxed);
    }

    /// Calls since the plan was made.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Bytes that were read of objects.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn next(&self, call: &'static str) -> Fault {
        let plan = self.plan.lock().unwrap().clone();
        plan(self.calls.fetch_add(1, Ordering::Relaxed), call)
    }

    async fn with<T>(&self, call: &'static str, key: &ObjectKey, work: BoxFuture<'_, Result<T>>) -> Result<T> {
        let failed = || Error::Backend { key: key.clone(), reason: format!("{call} was told to fail") };
        match self.next(call) {
            Fault::Before => Err(failed()),
            Fault::After => {
                work.await?;
                Err(failed())
            }
            Fault::Silent => std::future::pending().await,
            _ => work.await,
        }
    }

    async fn read_with_faults(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream> {
        let fault = self.next("read");
        let failed = Error::Backend { key: key.clone(), reason: "the read was told to fail".to_owned() };
        let some = match fault {
            Fault::Before | Fault::After => return Err(failed),
            Fault::Silent => return std::future::pending().await,
            Fault::BreaksOff(some)
            | Fault::Truncated(some)
            | Fault::FallsSilent(some)
            | Fault::Trickles(some)
            | Fault::Slows(some)
            | Fault::Panics(some) => some as u64,
            Fault::None | Fault::Flipped(_) => u64::MAX,
        };
        let (wanted, end) = (range.end, range.end.min(range.start.saturating_add(some)));
        self.read.fetch_add(end - range.start, Ordering::Relaxed);
        let whole =
            if end > range.start { self.inner.read(key, range.start..end).await? } else { stream::empty().boxed() };
        Ok(match fault {
            Fault::BreaksOff(_) => whole.chain(stream::once(async { Err(failed) })).boxed(),
            Fault::Panics(_) => whole.chain(stream::once(async { panic!("the read was told to panic") })).boxed(),
            Fault::FallsSilent(_) => whole.chain(stream::pending()).boxed(),
            Fault::Trickles(_) if end < wanted => {
                whole.chain(self.slowly(self.inner.read(key, end..wanted).await?, 1)).boxed()
            }
            Fault::Slows(_) if end < wanted => {
                whole.chain(self.slowly(self.inner.read(key, end..wanted).await?, 2048)).boxed()
            }
            Fault::Flipped(at) => {
                whole.scan(at, |at, piece| std::future::ready(Some(piece.map(|piece| flipped(at, &piece))))).boxed()
            }
            _ => whole,
        })
    }

    /// So many bytes at a time, a second after those before.
    fn slowly(&self, whole: ByteStream, at_a_time: usize) -> ByteStream {
        let read = self.read.clone();
        let bits = whole.flat_map(move |piece| match piece {
            Ok(piece) => {
                let length = piece.len();
                let bit = move |place: usize| Ok(piece.slice(place..length.min(place + at_a_time)));
                stream::iter((0..length).step_by(at_a_time).map(bit)).boxed()
            }
            Err(error) => stream::once(async { Err(error) }).boxed(),
        });
        let slow = bits.then(move |bit| {
            let read = read.clone();
            async move {
                // The slowness itself, by the clock of the test.
                tokio::time::sleep(Duration::from_secs(1)).await;
                read.fetch_add(bit.as_ref().map_or(0, Bytes::len) as u64, Ordering::Relaxed);
                bit
            }
        });
        slow.boxed()
    }
}

/// The next piece of what is read, with a bit flipped where it has the byte that is so far away.
fn flipped(away: &mut usize, piece: &Bytes) -> Bytes {
    let mut bytes = piece.to_vec();
    if let Some(byte) = bytes.get_mut(*away) {
        *byte ^= 4;
    }
    *away = away.checked_sub(bytes.len()).unwrap_or(usize::MAX);
    bytes.into()
}

impl Backend for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn place(&self) -> String {
        "nowhere".to_owned()
    }

    fn put<'call>(&'call self, key: &'call ObjectKey, bytes: Vec<Bytes>) -> BoxFuture<'call, Result<()>> {
        Box::pin(self.with("put", key, self.inner.put(key, bytes)))
    }

    fn begin<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<String>> {
        Box::pin(self.with("begin", key, self.inner.begin(key)))
    }

    fn put_part<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        number: u32,
        bytes: Vec<Bytes>,
    ) -> BoxFuture<'call, Result<String>> {
        Box::pin(self.with("put_part", key, self.inner.put_part(key, upload, number, bytes)))
    }

    fn complete<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Result<()>> {
        Box::pin(self.with("complete", key, self.inner.complete(key, upload, parts)))
    }

    fn abort<'call>(&'call self, key: &'call ObjectKey, upload: &'call str) -> BoxFuture<'call, Result<()>> {
        Box::pin(self.with("abort", key, self.inner.abort(key, upload)))
    }

    fn uploads<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<Vec<String>>> {
        Box::pin(self.with("uploads", key, self.inner.uploads(key)))
    }

    fn list_uploads(&self) -> BoxStream<'_, Result<BegunUpload>> {
        self.inner.list_uploads()
    }

    /// It may break off behind its last object.
    fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        let failed = Error::Backend { key: ObjectKey::random(), reason: "the list was told to fail".to_owned() };
        let failed = stream::once(async { Err(failed) });
        match self.next("list") {
            Fault::Before => failed.boxed(),
            Fault::After => self.inner.list().chain(failed).boxed(),
            Fault::Silent => stream::pending().boxed(),
            _ => self.inner.list(),
        }
    }

    fn size<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<u64>> {
        Box::pin(self.with("size", key, self.inner.size(key)))
    }

    fn read<'call>(&'call self, key: &'call ObjectKey, range: Range<u64>) -> BoxFuture<'call, Result<ByteStream>> {
        Box::pin(self.read_with_faults(key, range))
    }

    fn delete<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<()>> {
        Box::pin(self.with("delete", key, self.inner.delete(key)))
    }
}
