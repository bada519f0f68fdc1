//! A store that writes down what is in it, whatever its callers were told.

use bytes::Bytes;
use futures_util::{
    StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use longshore_storage::{Backend, BegunUpload, ByteStream, ObjectKey, Result, memory_backend};
use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

#[derive(Debug)]
pub(crate) struct Ledger {
    inner: Arc<dyn Backend>,
    book: Mutex<Book>,
}

/// What is there.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) objects: BTreeSet<String>,
    pub(crate) uploads: BTreeSet<String>,
    deleted: HashSet<String>,
    /// Objects whose first byte is another than the one that was written.
    pub(crate) spoiled: HashSet<String>,
    /// Keys that were written after they had been deleted: there must be none.
    pub(crate) written_again: Vec<String>,
    /// How often somebody asked for a list of what is there. Nobody must but fsck, which is not counted: a store of millions
    /// takes minutes to list, and money.
    pub(crate) lists: u64,
}

impl Ledger {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { inner: memory_backend(), book: Mutex::default() })
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    fn written(&self, key: &ObjectKey) {
        let mut book = self.book();
        let key = key.to_string();
        if book.deleted.contains(&key) {
            book.written_again.push(key.clone());
        }
        book.objects.insert(key);
    }
}

impl Backend for Ledger {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn put<'call>(&'call self, key: &'call ObjectKey, bytes: Vec<Bytes>) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            self.inner.put(key, bytes).await?;
            self.written(key);
            Ok(())
        })
    }

    fn begin<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<String>> {
        Box::pin(async move {
            let upload = self.inner.begin(key).await?;
            self.book().uploads.insert(upload.clone());
            Ok(upload)
        })
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
        Box::pin(async move {
            self.inner.complete(key, upload, parts).await?;
            self.book().uploads.remove(upload);
            self.written(key);
            Ok(())
        })
    }

    fn abort<'call>(&'call self, key: &'call ObjectKey, upload: &'call str) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            self.inner.abort(key, upload).await?;
            self.book().uploads.remove(upload);
            Ok(())
        })
    }

    fn uploads<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<Vec<String>>> {
        self.inner.uploads(key)
    }

    /// It tells nobody of all uploads, as `MinIO` does not.
    fn list_uploads(&self) -> BoxStream<'_, Result<BegunUpload>> {
        self.book().lists += 1;
        stream::empty().boxed()
    }

    fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        self.book().lists += 1;
        self.inner.list()
    }

    fn size<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<u64>> {
        self.inner.size(key)
    }

    fn read<'call>(&'call self, key: &'call ObjectKey, range: Range<u64>) -> BoxFuture<'call, Result<ByteStream>> {
        let is_spoiled = self.book().spoiled.contains(&key.to_string());
        Box::pin(async move {
            let bytes = self.inner.read(key, range).await?;
            if !is_spoiled {
                return Ok(bytes);
            }
            let mut other = bytes.try_collect::<Vec<_>>().await?.concat();
            other[0] ^= 1;
            Ok(stream::iter([Ok(other.into())]).boxed())
        })
    }

    fn delete<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            self.inner.delete(key).await?;
            let mut book = self.book();
            let key = key.to_string();
            book.objects.remove(&key);
            book.deleted.insert(key);
            Ok(())
        })
    }
}
