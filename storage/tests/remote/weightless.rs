//! An object store that takes time for what it is sent, and keeps nothing of it but its length: for uploads that are
//! together more than this machine has memory for.

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture, stream::BoxStream};
use longshore_storage::{Backend, ByteStream, ObjectKey, Result, memory_backend};
use std::{collections::HashMap, ops::Range, sync::Arc, sync::Mutex, time::Duration};

/// How long it takes for an object or a part.
const TAKES: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Weightless {
    inner: Arc<dyn Backend>,
    /// By the names of parts and the keys of objects.
    lengths: Mutex<HashMap<String, u64>>,
}

impl Weightless {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { inner: memory_backend(), lengths: Mutex::default() })
    }

    /// How long an object is, once it is whole.
    pub(crate) fn length(&self, key: &ObjectKey) -> Option<u64> {
        self.lengths.lock().unwrap().get(&key.to_string()).copied()
    }

    fn note(&self, name: &str, length: u64) {
        self.lengths.lock().unwrap().insert(name.to_owned(), length);
    }
}

/// Sent when this returns: until then it is in memory.
async fn send(bytes: Vec<Bytes>) -> u64 {
    tokio::time::sleep(TAKES).await;
    bytes.iter().map(|piece| piece.len() as u64).sum()
}

impl Backend for Weightless {
    fn name(&self) -> &'static str {
        "weightless"
    }

    fn place(&self) -> String {
        "nowhere".to_owned()
    }

    fn put<'call>(&'call self, key: &'call ObjectKey, bytes: Vec<Bytes>) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            self.note(&key.to_string(), send(bytes).await);
            self.inner.put(key, Vec::new()).await
        })
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
        Box::pin(async move {
            let length = send(bytes).await;
            let name = self.inner.put_part(key, upload, number, Vec::new()).await?;
            self.note(&name, length);
            Ok(name)
        })
    }

    fn complete<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Result<()>> {
        let lengths = self.lengths.lock().unwrap();
        let length = parts.iter().map(|(_, name)| lengths[name]).sum();
        drop(lengths);
        let completed = self.inner.complete(key, upload, parts);
        Box::pin(completed.inspect(move |_| self.note(&key.to_string(), length)))
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
        self.inner.read(key, range)
    }

    fn delete<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<()>> {
        self.inner.delete(key)
    }
}
