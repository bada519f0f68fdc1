//! Pulling and deleting blobs.

use crate::{Error, Registry, Result};
use bytes::Bytes;
use longshore_metadata::{BlobContent, DeleteOutcome};
use longshore_oci::{Digest, RepositoryName};
use longshore_storage::{ByteStream, Delivery, ObjectKey, ObjectReader, PresignedUrl};
use std::{ops::Range, time::Duration};

/// A blob that the caller may read.
#[derive(Debug, Clone)]
pub struct Blob {
    /// In bytes.
    pub size: u64,
    digest: Digest,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Inline(Bytes),
    Object(ObjectKey),
}

/// A blob that is open: its ranges can be read in any order and number.
#[derive(Debug)]
pub enum BlobReader {
    /// It is in memory.
    Inline(Bytes),
    /// It is an object.
    Object(Box<ObjectReader>),
}

impl Registry {
    /// The size of a blob. From now on it stays for the promised time, so that a client that finds it may leave out
    /// the upload and name it in a manifest.
    pub async fn promise_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64> {
        let size = self.metadata.promise_blob(repository, digest).await?;
        size.ok_or(Error::BlobUnknown { digest: *digest })
    }

    /// Finds a blob to read.
    pub async fn find_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Blob> {
        let record =
            self.metadata.find_blob(repository, digest).await?.ok_or(Error::BlobUnknown { digest: *digest })?;
        let content = match record.content {
            BlobContent::Inline(bytes) => Content::Inline(bytes),
            BlobContent::Object { key } => Content::Object(key.parse().map_err(|error| {
                longshore_metadata::Error::Damaged { table: "objects", reason: format!("{error}") }
            })?),
        };
        Ok(Blob { size: record.size, digest: *digest, content })
    }

    /// Opens a blob. All of it is there when this returns.
    pub async fn open_blob(&self, blob: &Blob) -> Result<BlobReader> {
        match &blob.content {
            Content::Inline(bytes) => Ok(BlobReader::Inline(bytes.clone())),
            Content::Object(key) => {
                let object = self.storage.open_object(key, blob.size, &blob.digest).await?;
                Ok(BlobReader::Object(Box::new(object)))
            }
        }
    }

    /// A URL by which whoever has it can fetch the blob for so long from where its bytes are. None: only we can reach
    /// them.
    pub async fn presign_blob(&self, blob: &Blob, lifetime: Duration) -> Result<Option<PresignedUrl>> {
        match &blob.content {
            Content::Inline(_) => Ok(None),
            Content::Object(key) => Ok(self.storage.presign(key, lifetime).await?),
        }
    }

    /// Takes a blob away from the repository, unless a manifest there needs it.
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<()> {
        match self.metadata.delete_blob(repository, digest).await? {
            DeleteOutcome::Deleted => Ok(()),
            DeleteOutcome::Unknown => Err(Error::BlobUnknown { digest: *digest }),
            DeleteOutcome::InUse { by } => Err(Error::BlobInUse { digest: *digest, by }),
        }
    }
}

impl BlobReader {
    /// The bytes of a range, which lies within the blob, once the first of them are here or are sure to come.
    pub async fn begin(&self, range: Range<u64>, delivery: Delivery) -> Result<ByteStream> {
        match self {
            Self::Inline(_) => Ok(self.range(range, delivery)),
            Self::Object(object) => Ok(Box::pin(object.range(range, delivery).begin().await?)),
        }
    }

    /// The bytes of a range, which lies within the blob.
    pub fn range(&self, range: Range<u64>, delivery: Delivery) -> ByteStream {
        match self {
            Self::Inline(bytes) => {
                let slice = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
                let slice = slice.filter(|(start, end)| start <= end && *end <= bytes.len());
                let part = slice.map(|(start, end)| Ok(bytes.slice(start..end)));
                Box::pin(futures_util::stream::iter(part))
            }
            Self::Object(object) => Box::pin(object.range(range, delivery)),
        }
    }
}
