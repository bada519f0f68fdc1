//! Files, asked what object stores are asked: whole objects and documents. They have no parts, for a file is appended to.

use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt, TryFutureExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use longshore_oci::Algorithm;
use longshore_storage::{Backend, BlobHasher, ByteStream, DocumentName, Error, FileStore, ObjectKey, Result, Storage};
use std::{ops::Range, sync::Arc};
use tempfile::TempDir;

/// Files in a folder of a test's own.
#[derive(Debug)]
struct Files {
    storage: Storage,
    folder: TempDir,
}

pub(crate) fn files() -> Arc<dyn Backend> {
    let folder = TempDir::new().unwrap();
    let storage = Storage::Files(FileStore::open(folder.path(), 0).unwrap());
    Arc::new(Files { storage, folder })
}

fn no_parts<T: Send + 'static>(key: &ObjectKey) -> BoxFuture<'static, Result<T>> {
    let error = Error::Backend { key: key.clone(), reason: "files have no parts".to_owned() };
    async { Err(error) }.boxed()
}

impl Backend for Files {
    fn name(&self) -> &'static str {
        self.storage.backend()
    }

    fn place(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn put<'call>(&'call self, key: &'call ObjectKey, bytes: Vec<Bytes>) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            let hasher = BlobHasher::new(Algorithm::Sha256);
            let mut writer = self.storage.create(key.clone(), hasher, Vec::new()).await?;
            for piece in bytes {
                writer.write(piece).await?;
            }
            writer.save(None).await?;
            writer.finish().await
        })
    }

    fn begin<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<String>> {
        no_parts(key)
    }

    fn put_part<'call>(
        &'call self,
        key: &'call ObjectKey,
        _: &'call str,
        _: u32,
        _: Vec<Bytes>,
    ) -> BoxFuture<'call, Result<String>> {
        no_parts(key)
    }

    fn complete<'call>(
        &'call self,
        key: &'call ObjectKey,
        _: &'call str,
        _: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Result<()>> {
        no_parts(key)
    }

    fn abort<'call>(&'call self, key: &'call ObjectKey, _: &'call str) -> BoxFuture<'call, Result<()>> {
        no_parts(key)
    }

    fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        self.storage.list()
    }

    fn size<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<u64>> {
        self.storage.size(key).boxed()
    }

    fn read<'call>(&'call self, key: &'call ObjectKey, range: Range<u64>) -> BoxFuture<'call, Result<ByteStream>> {
        Box::pin(async move { Ok(self.storage.read(key, range).await?.boxed()) })
    }

    fn delete<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<()>> {
        self.storage.delete(key, 0, None).boxed()
    }

    fn delete_all<'call>(&'call self, keys: &'call [ObjectKey]) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            let objects: Vec<_> = keys.iter().map(|key| (key.clone(), 0)).collect();
            self.storage.delete_all(&objects).await
        })
    }

    fn put_document<'call>(&'call self, name: &'call DocumentName, bytes: Bytes) -> BoxFuture<'call, Result<()>> {
        self.storage.put_document(name, bytes).boxed()
    }

    fn read_document<'call>(&'call self, name: &'call DocumentName) -> BoxFuture<'call, Result<Bytes>> {
        self.storage.read_document(name).boxed()
    }

    fn list_documents(&self) -> BoxStream<'_, Result<(DocumentName, u64)>> {
        let listed = self.storage.documents().map_ok(|all| stream::iter(all.into_iter().map(Ok)));
        listed.try_flatten_stream().boxed()
    }

    fn delete_document<'call>(&'call self, name: &'call DocumentName) -> BoxFuture<'call, Result<()>> {
        self.storage.delete_document(name).boxed()
    }
}
