//! An object store that is far away, by the clock of the test: each answer takes a while to begin, and comes no faster than
//! one connection carries.

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::BoxStream};
use longshore_storage::{Backend, ByteStream, ObjectKey, Result, memory_backend};
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

#[derive(Debug)]
pub(crate) struct Distant {
    inner: Arc<dyn Backend>,
    first_byte: Duration,
    /// Of one answer.
    bytes_a_second: u32,
    reads: Arc<Reads>,
}

#[derive(Debug, Default)]
struct Reads {
    now: AtomicUsize,
    most: AtomicUsize,
    bytes: AtomicU64,
}

/// A read that is on its way.
struct UnderWay(Arc<Reads>);

impl UnderWay {
    fn new(reads: &Arc<Reads>) -> Self {
        let now = reads.now.fetch_add(1, Ordering::Relaxed) + 1;
        reads.most.fetch_max(now, Ordering::Relaxed);
        Self(reads.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Distant {
    pub(crate) fn new(first_byte: Duration, bytes_a_second: u32) -> Arc<Self> {
        Arc::new(Self { inner: memory_backend(), first_byte, bytes_a_second, reads: Arc::default() })
    }

    /// An object of so many bytes in it.
    pub(crate) async fn object(&self, length: usize) -> ObjectKey {
        let key = ObjectKey::random();
        self.inner.put(&key, vec![vec![7; length].into()]).await.unwrap();
        key
    }

    /// How many reads were on their way at the same time, at most.
    pub(crate) fn most_reads_at_once(&self) -> usize {
        self.reads.most.load(Ordering::Relaxed)
    }

    /// Bytes that were read of objects.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.reads.bytes.load(Ordering::Relaxed)
    }

    async fn read_slowly(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream> {
        let under_way = UnderWay::new(&self.reads);
        sleep(self.first_byte).await;
        let (begun, rate) = (Instant::now(), self.bytes_a_second);
        let mut sent = 0;
        let pieces = self.inner.read(key, range).await?.then(move |piece| {
            let piece: Result<Bytes> = piece;
            let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            sent += length;
            under_way.0.bytes.fetch_add(length, Ordering::Relaxed);
            let until = begun + Duration::from_secs(sent) / rate;
            async move {
                sleep_until(until).await;
                piece
            }
        });
        Ok(pieces.boxed())
    }
}

impl Backend for Distant {
    fn name(&self) -> &'static str {
        "distant"
    }

    fn place(&self) -> String {
        "far away".to_owned()
    }

    fn put<'call>(&'call self, key: &'call ObjectKey, bytes: Vec<Bytes>) -> BoxFuture<'call, Result<()>> {
        self.inner.put(key, bytes)
    }

    fn begin<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<String>> {
        self.inner.begin(key)
    }

    fn put_part<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        number: u32,
        bytes: Vec<Bytes>,
    ) -> BoxFuture<'call, Result<String>> {
        self.inner.put_part(key, upload, number, bytes)
    }

    fn complete<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Result<()>> {
        self.inner.complete(key, upload, parts)
    }

    fn abort<'call>(&'call self, key: &'call ObjectKey, upload: &'call str) -> BoxFuture<'call, Result<()>> {
        self.inner.abort(key, upload)
    }

    fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        self.inner.list()
    }

    fn size<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<u64>> {
        self.inner.size(key)
    }

    fn read<'call>(&'call self, key: &'call ObjectKey, range: Range<u64>) -> BoxFuture<'call, Result<ByteStream>> {
        Box::pin(self.read_slowly(key, range))
    }

    fn delete<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<()>> {
        self.inner.delete(key)
    }
}
