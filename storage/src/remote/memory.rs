//! A bucket in the memory of this process, for tests: an object store without a network.

use super::{Backend, BegunUpload};
use crate::{DocumentName, Error, ObjectKey, Result, read::ByteStream};
use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Answers come in pieces of this size at most, as from a network.
const PIECE: usize = 128 * 1024;

#[derive(Debug, Default)]
struct Memory(Mutex<Bucket>);

#[derive(Debug, Default)]
struct Bucket {
    objects: HashMap<ObjectKey, Bytes>,
    uploads: HashMap<String, Upload>,
    documents: BTreeMap<DocumentName, Bytes>,
    /// Names that were given.
    named: u64,
}

#[derive(Debug)]
struct Upload {
    key: ObjectKey,
    parts: BTreeMap<u32, (String, Bytes)>,
}

/// A bucket in the memory of this process, for tests.
pub fn memory_backend() -> Arc<dyn Backend> {
    Arc::new(Memory::default())
}

impl Memory {
    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn name(&mut self) -> String {
        self.named += 1;
        format!("name-{}", self.named)
    }

    fn upload(&mut self, key: &ObjectKey, upload: &str) -> Result<&mut Upload> {
        let found = self.uploads.get_mut(upload).filter(|upload| upload.key == *key);
        found.ok_or_else(|| Error::UploadLost { key: key.clone() })
    }

    fn complete(&mut self, key: &ObjectKey, upload: &str, parts: &[(u32, String)]) -> Result<()> {
        let sent = &self.upload(key, upload)?.parts;
        let mut whole = Vec::new();
        for (number, name) in parts {
            match sent.get(number) {
                Some((given, bytes)) if given == name => whole.extend_from_slice(bytes),
                _ => return Err(Error::UploadLost { key: key.clone() }),
            }
        }
        self.uploads.remove(upload);
        self.objects.insert(key.clone(), whole.into());
        Ok(())
    }

    fn object(&self, key: &ObjectKey) -> Result<&Bytes> {
        self.objects.get(key).ok_or_else(|| Error::Lost { key: key.clone() })
    }

    fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let object = self.object(key)?;
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bounds = bounds.filter(|(start, end)| start <= end && *end <= object.len());
        bounds.map(|(start, end)| object.slice(start..end)).ok_or_else(|| Error::Lost { key: key.clone() })
    }
}

fn joined(pieces: &[Bytes]) -> Bytes {
    pieces.concat().into()
}

impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn put<'call>(&'call self, key: &'call ObjectKey, bytes: Vec<Bytes>) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            self.bucket().objects.insert(key.clone(), joined(&bytes));
            Ok(())
        })
    }

    fn begin<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<String>> {
        Box::pin(async move {
            let mut bucket = self.bucket();
            let name = bucket.name();
            bucket.uploads.insert(name.clone(), Upload { key: key.clone(), parts: BTreeMap::new() });
            Ok(name)
        })
    }

    fn put_part<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        number: u32,
        bytes: Vec<Bytes>,
    ) -> BoxFuture<'call, Result<String>> {
        Box::pin(async move {
            let mut bucket = self.bucket();
            let name = bucket.name();
            bucket.upload(key, upload)?.parts.insert(number, (name.clone(), joined(&bytes)));
            Ok(name)
        })
    }

    fn complete<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move { self.bucket().complete(key, upload, &parts) })
    }

    fn abort<'call>(&'call self, _key: &'call ObjectKey, upload: &'call str) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            self.bucket().uploads.remove(upload);
            Ok(())
        })
    }

    fn uploads<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<Vec<String>>> {
        Box::pin(async move {
            let bucket = self.bucket();
            let same = bucket.uploads.iter().filter(|(_, upload)| upload.key == *key);
            Ok(same.map(|(name, _)| name.clone()).collect())
        })
    }

    fn list_uploads(&self) -> BoxStream<'_, Result<BegunUpload>> {
        let bucket = self.bucket();
        let begun =
            |(name, upload): (&String, &Upload)| Ok(BegunUpload { key: upload.key.clone(), name: name.clone() });
        let all: Vec<_> = bucket.uploads.iter().map(begun).collect();
        stream::iter(all).boxed()
    }

    fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        let bucket = self.bucket();
        let all: Vec<_> = bucket.objects.iter().map(|(key, bytes)| Ok((key.clone(), bytes.len() as u64))).collect();
        stream::iter(all).boxed()
    }

    fn size<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<u64>> {
        Box::pin(async move { self.bucket().object(key).map(|object| object.len() as u64) })
    }

    fn read<'call>(&'call self, key: &'call ObjectKey, range: Range<u64>) -> BoxFuture<'call, Result<ByteStream>> {
        Box::pin(async move {
            let mut bytes = self.bucket().read(key, range)?;
            let pieces =
                std::iter::from_fn(move || (!bytes.is_empty()).then(|| Ok(bytes.split_to(bytes.len().min(PIECE)))));
            Ok(stream::iter(pieces).boxed())
        })
    }

    fn delete<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            self.bucket().objects.remove(key);
            Ok(())
        })
    }

    fn put_document<'call>(&'call self, name: &'call DocumentName, bytes: Bytes) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            self.bucket().documents.insert(name.clone(), bytes);
            Ok(())
        })
    }

    fn read_document<'call>(&'call self, name: &'call DocumentName) -> BoxFuture<'call, Result<Bytes>> {
        Box::pin(async move {
            let found = self.bucket().documents.get(name).cloned();
            found.ok_or_else(|| Error::NoDocument { name: name.clone() })
        })
    }

    fn list_documents(&self) -> BoxStream<'_, Result<(DocumentName, u64)>> {
        let bucket = self.bucket();
        let all: Vec<_> = bucket.documents.iter().map(|(name, bytes)| Ok((name.clone(), bytes.len() as u64))).collect();
        stream::iter(all).boxed()
    }

    fn delete_document<'call>(&'call self, name: &'call DocumentName) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            self.bucket().documents.remove(name);
            Ok(())
        })
    }
}
