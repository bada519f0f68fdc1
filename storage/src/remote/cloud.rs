//! The backends that the `object_store` crate speaks to: S3 and what is like it, Google Cloud Storage, Azure.

use super::Backend;
use crate::{Error, ObjectKey, Result, read::ByteStream};
use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture};
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use std::{fmt, ops::Range, sync::Arc};

/// A bucket or container, and the folder in it that is ours.
pub(super) struct Cloud<S> {
    store: Arc<S>,
    name: &'static str,
    place: String,
    prefix: String,
}

impl<S> Cloud<S> {
    pub(super) fn new(store: S, name: &'static str, place: String, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { store: Arc::new(store), name, place, prefix }
    }

    fn path(&self, key: &ObjectKey) -> Path {
        Path::from(format!("{}{key}", self.prefix))
    }
}

impl<S> fmt::Debug for Cloud<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cloud").field("place", &self.place).finish_non_exhaustive()
    }
}

/// For calls that speak of an object which should be there.
fn failed(key: &ObjectKey) -> impl FnOnce(object_store::Error) -> Error + '_ {
    move |source| match source {
        object_store::Error::NotFound { .. } => Error::Lost { key: key.clone() },
        source => refused(key)(source),
    }
}

/// For calls that write a new object: what is not found then is the bucket.
fn refused(key: &ObjectKey) -> impl FnOnce(object_store::Error) -> Error + '_ {
    move |source| Error::Backend { key: key.clone(), reason: reason(&source) }
}

/// For calls that speak of an upload. Some stores say of one that is gone what they say of an object that is not there;
/// others tell it in the text of the error only.
fn failed_upload(key: &ObjectKey) -> impl FnOnce(object_store::Error) -> Error + '_ {
    move |source| {
        let told = reason(&source);
        let is_gone = matches!(source, object_store::Error::NotFound { .. }) && !told.contains("NoSuchBucket")
            || ["NoSuchUpload", "InvalidPart", "MultipartUpload not found"].iter().any(|code| told.contains(code));
        if is_gone { Error::UploadLost { key: key.clone() } } else { refused(key)(source) }
    }
}

/// What the store said, without what we asked: the innermost error, and of S3's answers in XML code and message.
fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => text,
    }
}

impl<S: ObjectStore + MultipartStore> Backend for Cloud<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn put<'call>(&'call self, key: &'call ObjectKey, bytes: Vec<Bytes>) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            self.store.put(&self.path(key), PutPayload::from_iter(bytes)).await.map_err(refused(key))?;
            Ok(())
        })
    }

    fn begin<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<String>> {
        Box::pin(async move { self.store.create_multipart(&self.path(key)).await.map_err(refused(key)) })
    }

    fn put_part<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        number: usize,
        bytes: Vec<Bytes>,
    ) -> BoxFuture<'call, Result<String>> {
        Box::pin(async move {
            let (path, upload, payload) = (self.path(key), upload.to_owned(), PutPayload::from_iter(bytes));
            let part = self.store.put_part(&path, &upload, number, payload).await.map_err(failed_upload(key))?;
            Ok(part.content_id)
        })
    }

    fn complete<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        parts: Vec<String>,
    ) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
            let completed = self.store.complete_multipart(&self.path(key), &upload.to_owned(), parts).await;
            completed.map_err(failed_upload(key))?;
            Ok(())
        })
    }

    fn abort<'call>(&'call self, key: &'call ObjectKey, upload: &'call str) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            let aborted = self.store.abort_multipart(&self.path(key), &upload.to_owned()).await;
            match aborted.map_err(failed_upload(key)) {
                Err(Error::UploadLost { .. }) => Ok(()),
                outcome => outcome,
            }
        })
    }

    fn size<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<u64>> {
        Box::pin(async move { Ok(self.store.head(&self.path(key)).await.map_err(failed(key))?.size) })
    }

    fn read<'call>(&'call self, key: &'call ObjectKey, range: Range<u64>) -> BoxFuture<'call, Result<ByteStream>> {
        Box::pin(async move {
            let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            let got = self.store.get_opts(&self.path(key), options).await.map_err(failed(key))?;
            if got.range != range {
                return Err(Error::Lost { key: key.clone() });
            }
            let key = key.clone();
            let bytes = got.into_stream().map(move |piece| piece.map_err(failed(&key)));
            Ok(Box::pin(bytes) as ByteStream)
        })
    }

    fn delete<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            match self.store.delete(&self.path(key)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed(key)(error)),
            }
        })
    }
}
