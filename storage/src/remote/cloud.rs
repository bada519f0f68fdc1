//! The backends that the `object_store` crate speaks to: S3 and what is like it, Google Cloud Storage, Azure.

use super::{Backend, BegunUpload, PresignedUrl, presigned::SIGNING_TIMEOUT, retry::Retried};
use crate::{DocumentName, Error, ObjectKey, Result, document, read::ByteStream};
use bytes::Bytes;
use futures_util::{
    StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use object_store::{
    GetOptions, GetRange, MultipartId, ObjectStore, ObjectStoreExt, PutPayload,
    multipart::{MultipartStore, PartId},
    path::Path,
    signer::{Method, SignedUrlOptions, Signer, Url},
};
use std::{fmt, ops::Range, time::Duration};
use tokio::time::timeout;

/// A kind of store, with what it does not do as the others.
pub(super) trait CloudStore: ObjectStore + MultipartStore + Signer {
    /// Ends an upload without an object and frees its parts.
    fn abort_upload<'call>(
        &'call self,
        path: &'call Path,
        upload: &'call MultipartId,
    ) -> BoxFuture<'call, object_store::Result<()>> {
        self.abort_multipart(path, upload)
    }

    /// A URL by which others read the object for so long. A browser is told to save what it gets, as it is by us.
    fn sign<'call>(&'call self, path: &'call Path, lifetime: Duration) -> BoxFuture<'call, object_store::Result<Url>> {
        Box::pin(async move {
            let options = SignedUrlOptions::new().with_query([("response-content-disposition", "attachment")]);
            self.signed_url_opts(Method::GET, path, lifetime, &options).await
        })
    }
}

/// What a store said that failed.
pub(super) type Said<T> = std::result::Result<T, String>;

/// A page of the list of uploads.
#[derive(Debug, Default)]
pub(super) struct UploadsPage {
    /// Paths of objects, and names of their uploads.
    pub(super) uploads: Vec<(String, String)>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<UploadsMarker>,
}

/// The last of a page: the path, and the name where the store has the next page begin at that.
pub(super) type UploadsMarker = (String, Option<String>);

/// What the crate does not ask for: the list of uploads; and the end of one whose parts have numbers with gaps (it numbers
/// them itself).
pub(super) trait Uploads: fmt::Debug + Send + Sync {
    /// Uploads of objects whose paths begin with this, after those of the page before.
    fn page<'call>(
        &'call self,
        prefix: &'call str,
        after: Option<UploadsMarker>,
    ) -> BoxFuture<'call, Said<UploadsPage>>;

    /// The uploads of the object at this path. The whole of it is asked for: `MinIO` knows no uploads by less.
    fn uploads<'call>(&'call self, path: &'call Path) -> BoxFuture<'call, Said<Vec<String>>> {
        Box::pin(async move {
            let (mut names, mut after) = (Vec::new(), None);
            loop {
                let page = self.page(path.as_ref(), after).await?;
                // Keys are of one length, so what begins with the key is the key.
                names.extend(page.uploads.into_iter().map(|(_, name)| name));
                after = page.next;
                if after.is_none() {
                    return Ok(names);
                }
            }
        })
    }

    /// Makes the object of parts, of which numbers from 0 on and names are given.
    fn complete<'call>(
        &'call self,
        path: &'call Path,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Said<()>>;
}

/// A bucket or container, and the folder in it that is ours.
pub(super) struct Cloud<S> {
    store: S,
    name: &'static str,
    place: String,
    prefix: String,
    uploads: Option<Box<dyn Uploads>>,
    /// The same store as others reach it, where that is not as we do.
    public: Option<S>,
    retried: Retried,
}

impl<S> Cloud<S> {
    pub(super) fn new(store: S, name: &'static str, place: String, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { store, name, place, prefix, uploads: None, public: None, retried: Retried::default() }
    }

    /// With a way of its own to list uploads and to end them. Without, its parts need no numbers: their names do.
    pub(super) fn with_uploads(self, uploads: impl Uploads + 'static) -> Self {
        Self { uploads: Some(Box::new(uploads)), ..self }
    }

    /// URLs for others are those of this store, which is the same as they reach it.
    pub(super) fn with_public(self, public: Option<S>) -> Self {
        Self { public, ..self }
    }

    /// What its requests count that fail in passing.
    pub(super) fn counting(self, retried: Retried) -> Self {
        Self { retried, ..self }
    }

    fn path(&self, key: &ObjectKey) -> Path {
        Path::from(format!("{}{key}", self.prefix))
    }

    /// Where all objects are.
    fn folder(&self) -> Path {
        let probe = self.path(&ObjectKey::probe());
        Path::from_iter(probe.parts().take(probe.parts().count() - 1))
    }

    fn document_path(&self, name: &DocumentName) -> Path {
        Path::from(format!("{}{name}", self.prefix))
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

/// For calls that speak of a document.
fn failed_document(name: &DocumentName) -> impl FnOnce(object_store::Error) -> Error + '_ {
    move |source| match source {
        object_store::Error::NotFound { .. } => Error::NoDocument { name: name.clone() },
        source => Error::Document { name: name.clone(), reason: reason(&source) },
    }
}

/// How stores begin to say that there is no such upload, or none with these parts. That something is not there is too
/// little: it may be the bucket, or the answer of a proxy.
const GONE: [&str; 3] = ["NoSuchUpload", "InvalidPart", "InvalidBlockList"];

/// For calls that speak of an upload.
fn failed_upload(key: &ObjectKey) -> impl FnOnce(object_store::Error) -> Error + '_ {
    move |source| lost_upload(key)(reason(&source))
}

fn lost_upload(key: &ObjectKey) -> impl FnOnce(String) -> Error + '_ {
    move |reason| {
        if GONE.iter().any(|told| reason.starts_with(told)) {
            Error::UploadLost { key: key.clone() }
        } else {
            Error::Backend { key: key.clone(), reason }
        }
    }
}

/// What the store said, without what we asked: the innermost error.
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    let mut asks_for_token = false;
    while let Some(source) = innermost.source() {
        innermost = source;
        asks_for_token |= innermost.to_string().starts_with("Error performing token request");
    }
    let text = innermost.to_string();
    // The store itself was not asked yet.
    if asks_for_token { format!("no credentials: {}", told(&text)) } else { told(&text) }
}

/// Of an answer in XML, the code and the first line of the message; of any other, all.
pub(super) fn told(text: &str) -> String {
    let first = |name| elements(text, name).next();
    match (first("Code"), first("Message")) {
        (Some(code), Some(message)) => format!("{code}: {}", message.lines().next().unwrap_or_default().trim_end()),
        (Some(code), None) => code.to_owned(),
        _ => text.to_owned(),
    }
}

/// What stands in the elements of this name. Enough for answers whose form we know.
pub(super) fn elements<'text>(text: &'text str, name: &str) -> impl Iterator<Item = &'text str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (inside, after) = after.split_once(&close)?;
        rest = after;
        Some(inside)
    })
}

impl<S: CloudStore> Backend for Cloud<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn retries(&self) -> u64 {
        self.retried.total()
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
        number: u32,
        bytes: Vec<Bytes>,
    ) -> BoxFuture<'call, Result<String>> {
        Box::pin(async move {
            let (path, upload, payload) = (self.path(key), upload.to_owned(), PutPayload::from_iter(bytes));
            let part =
                self.store.put_part(&path, &upload, number as usize, payload).await.map_err(failed_upload(key))?;
            Ok(part.content_id)
        })
    }

    fn complete<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            let path = self.path(key);
            if let Some(uploads) = &self.uploads {
                return uploads.complete(&path, upload, parts).await.map_err(lost_upload(key));
            }
            let parts = parts.into_iter().map(|(_, content_id)| PartId { content_id }).collect();
            let completed = self.store.complete_multipart(&path, &upload.to_owned(), parts).await;
            completed.map_err(failed_upload(key))?;
            Ok(())
        })
    }

    fn abort<'call>(&'call self, key: &'call ObjectKey, upload: &'call str) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            match self.store.abort_upload(&self.path(key), &upload.to_owned()).await {
                Ok(()) => Ok(()),
                Err(error) => match failed_upload(key)(error) {
                    Error::UploadLost { .. } => Ok(()),
                    error => Err(error),
                },
            }
        })
    }

    fn uploads<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<Vec<String>>> {
        Box::pin(async move {
            let Some(uploads) = &self.uploads else { return Ok(Vec::new()) };
            let found = uploads.uploads(&self.path(key)).await;
            found.map_err(|reason| Error::Backend { key: key.clone(), reason })
        })
    }

    fn list_uploads(&self) -> BoxStream<'_, Result<BegunUpload>> {
        let Some(uploads) = &self.uploads else { return stream::empty().boxed() };
        let prefix = format!("{}/", self.folder());
        // None once the last page was read.
        let pages = stream::try_unfold(Some(None), move |after: Option<Option<UploadsMarker>>| {
            let prefix = prefix.clone();
            async move {
                let Some(after) = after else { return Ok(None) };
                let page = uploads.page(&prefix, after).await;
                let page = page.map_err(|reason| Error::Backend { key: ObjectKey::probe(), reason })?;
                Ok(Some((page.uploads, page.next.map(Some))))
            }
        });
        let begun = |(path, name): (String, String)| {
            // What else lies there is not ours.
            let key = path.rsplit('/').next().and_then(ObjectKey::of_name)?;
            Some(Ok::<_, Error>(BegunUpload { key, name }))
        };
        pages.map_ok(move |page| stream::iter(page.into_iter().filter_map(begun))).try_flatten().boxed()
    }

    fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        let listed = self.store.list(Some(&self.folder())).filter_map(|listed| async move {
            match listed {
                // What else lies there is not ours.
                Ok(object) => object.location.filename().and_then(ObjectKey::of_name).map(|key| Ok((key, object.size))),
                Err(error) => Some(Err(refused(&ObjectKey::probe())(error))),
            }
        });
        listed.boxed()
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

    fn presign<'call>(
        &'call self,
        key: &'call ObjectKey,
        lifetime: Duration,
    ) -> BoxFuture<'call, Result<Option<PresignedUrl>>> {
        Box::pin(async move {
            let path = self.path(key);
            let signing = self.public.as_ref().unwrap_or(&self.store).sign(&path, lifetime);
            match timeout(SIGNING_TIMEOUT, signing).await {
                Ok(signed) => Ok(Some(PresignedUrl::new(signed.map_err(refused(key))?))),
                Err(_) => Err(Error::Backend { key: key.clone(), reason: "it took too long to sign a URL".to_owned() }),
            }
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

    fn delete_all<'call>(&'call self, keys: &'call [ObjectKey]) -> BoxFuture<'call, Result<()>> {
        let Some(first) = keys.first() else { return Box::pin(async { Ok(()) }) };
        let paths: Vec<_> = keys.iter().map(|key| Ok(self.path(key))).collect();
        Box::pin(async move {
            let mut deleted = self.store.delete_stream(stream::iter(paths).boxed());
            while let Some(outcome) = deleted.next().await {
                match outcome {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(refused(first)(error)),
                }
            }
            Ok(())
        })
    }

    fn put_document<'call>(&'call self, name: &'call DocumentName, bytes: Bytes) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            let put = self.store.put(&self.document_path(name), PutPayload::from_iter([bytes])).await;
            // What is not found then is the bucket.
            put.map_err(|source| Error::Document { name: name.clone(), reason: reason(&source) })?;
            Ok(())
        })
    }

    fn read_document<'call>(&'call self, name: &'call DocumentName) -> BoxFuture<'call, Result<Bytes>> {
        Box::pin(async move {
            let got = self.store.get_opts(&self.document_path(name), GetOptions::default()).await;
            got.map_err(failed_document(name))?.bytes().await.map_err(failed_document(name))
        })
    }

    fn list_documents(&self) -> BoxStream<'_, Result<(DocumentName, u64)>> {
        let folder = Path::from(format!("{}{}", self.prefix, document::FOLDER));
        let listed = self.store.list(Some(&folder)).filter_map(|listed| async move {
            match listed {
                // What else lies there is not ours.
                Ok(found) => DocumentName::of_path(found.location.as_ref()).map(|name| Ok((name, found.size))),
                Err(error) => Some(Err(refused(&ObjectKey::probe())(error))),
            }
        });
        listed.boxed()
    }

    fn delete_document<'call>(&'call self, name: &'call DocumentName) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            match self.store.delete(&self.document_path(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed_document(name)(error)),
            }
        })
    }
}
