//! What we ask of an object store. Small on purpose: whoever has these twenty calls right can hold a registry's layers,
//! and the suite in `tests/backends/` says whether they are.

use super::PresignedUrl;
use crate::{DocumentName, Error, ObjectKey, Result, read::ByteStream};
use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use std::{fmt::Debug, ops::Range, time::Duration};

/// An object store: whole objects, and objects in parts.
///
/// A key is written by one upload only and never again, so nothing here needs a condition. Every call may be repeated, and
/// is where its outcome is not known; the end of an upload that was done at first is [`crate::Error::UploadLost`] when it is
/// repeated, with the object there.
pub trait Backend: Debug + Send + Sync + 'static {
    /// What rows call it.
    fn name(&self) -> &'static str;

    /// Where the objects are, for people.
    fn place(&self) -> String;

    /// How many attempts have failed in passing so far, see [`super::StoreUsage::retries`]; where it counts them.
    fn retries(&self) -> u64 {
        0
    }

    /// Writes a whole object; it is durable when this returns.
    fn put<'call>(&'call self, key: &'call ObjectKey, bytes: Vec<Bytes>) -> BoxFuture<'call, Result<()>>;

    /// Begins an object in parts; answers the store's name of the upload.
    fn begin<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<String>>;

    /// Writes the part of this number, counted from 0, or replaces it; answers the store's name of the part. All but the
    /// last have [`SMALLEST_PART`] bytes at least.
    fn put_part<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        number: u32,
        bytes: Vec<Bytes>,
    ) -> BoxFuture<'call, Result<String>>;

    /// Makes the object of its parts, of which numbers and names are given, in rising order with any gaps; it is durable when
    /// this returns.
    ///
    /// # Errors
    /// [`crate::Error::UploadLost`] where there is no such upload (any more): it may have become the object already.
    fn complete<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Result<()>>;

    /// Ends an upload without an object and frees its parts. That there is none is success.
    fn abort<'call>(&'call self, key: &'call ObjectKey, upload: &'call str) -> BoxFuture<'call, Result<()>>;

    /// The uploads of this key that were begun and neither completed nor aborted: what a writer that died left behind.
    /// S3 and Google Cloud Storage tell. None where the store cannot, or lets go of them by itself: Azure forgets parts a
    /// week after the last.
    fn uploads<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<Vec<String>>> {
        let _ = key;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Every upload of a key of ours that was begun and neither completed nor aborted, in any order: for whoever looks for what
    /// nobody knows of any more. None where the store cannot tell: Azure, as [`Backend::uploads`] says; and `MinIO`, which
    /// tells the uploads of a key that it is asked for, and of no more.
    fn list_uploads(&self) -> BoxStream<'_, Result<BegunUpload>> {
        stream::empty().boxed()
    }

    /// Every object that is there and has a key of ours, with its length, in any order. What is written or deleted
    /// meanwhile may be among them or not.
    fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>>;

    /// The length of an object.
    ///
    /// # Errors
    /// [`crate::Error::Lost`] where there is none.
    fn size<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<u64>>;

    /// A range of an object, as it comes.
    ///
    /// # Errors
    /// [`crate::Error::Lost`] where there is no such object, or it is shorter.
    fn read<'call>(&'call self, key: &'call ObjectKey, range: Range<u64>) -> BoxFuture<'call, Result<ByteStream>>;

    /// A URL by which whoever has it can read the object, all of it or ranges, for so long (whole seconds, 7 days at
    /// most). None where the store has no such thing. Whether there is such an object is not looked at.
    fn presign<'call>(
        &'call self,
        key: &'call ObjectKey,
        lifetime: Duration,
    ) -> BoxFuture<'call, Result<Option<PresignedUrl>>> {
        let _ = (key, lifetime);
        Box::pin(async { Ok(None) })
    }

    /// Deletes an object. That there is none is success.
    fn delete<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<()>>;

    /// Deletes many objects, in as few requests as the store can. That one is not there is success. After an error any of
    /// them may be gone.
    fn delete_all<'call>(&'call self, keys: &'call [ObjectKey]) -> BoxFuture<'call, Result<()>> {
        Box::pin(async move {
            for key in keys {
                self.delete(key).await?;
            }
            Ok(())
        })
    }

    /// Writes a document, or replaces it; it is durable when this returns. A store that keeps none refuses it, and has none.
    fn put_document<'call>(&'call self, name: &'call DocumentName, bytes: Bytes) -> BoxFuture<'call, Result<()>> {
        let _ = bytes;
        let reason = "it keeps no documents".to_owned();
        Box::pin(async move { Err(Error::Document { name: name.clone(), reason }) })
    }

    /// All of a document.
    ///
    /// # Errors
    /// [`Error::NoDocument`] where there is none.
    fn read_document<'call>(&'call self, name: &'call DocumentName) -> BoxFuture<'call, Result<Bytes>> {
        Box::pin(async move { Err(Error::NoDocument { name: name.clone() }) })
    }

    /// Every document that is there, with its length, in any order. None of them is among the objects.
    fn list_documents(&self) -> BoxStream<'_, Result<(DocumentName, u64)>> {
        stream::empty().boxed()
    }

    /// Deletes a document. That there is none is success.
    fn delete_document<'call>(&'call self, name: &'call DocumentName) -> BoxFuture<'call, Result<()>> {
        let _ = name;
        Box::pin(async { Ok(()) })
    }
}

/// An upload that has not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BegunUpload {
    /// The key of the object that it is to become.
    pub key: ObjectKey,
    /// The store's name of it.
    pub name: String,
}

/// The least that stores take as a part which is not the last: 5 MiB in S3.
pub const SMALLEST_PART: u64 = 5 * 1024 * 1024;
