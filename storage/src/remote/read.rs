//! Reading from an object store, piece by piece, so that a slow reader holds no request open for long.

use super::Backend;
use crate::{ObjectKey, Result, read::ByteStream};
use futures_util::TryStreamExt;
use std::{ops::Range, sync::Arc};

/// How much is asked for in one request where nothing is kept.
const REQUEST: u64 = 8 * 1024 * 1024;

/// An object of an object store.
#[derive(Debug)]
pub(crate) struct RemoteObject {
    backend: Arc<dyn Backend>,
    key: ObjectKey,
}

impl RemoteObject {
    pub(super) fn new(backend: Arc<dyn Backend>, key: ObjectKey) -> Self {
        Self { backend, key }
    }

    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Reads a whole range into memory.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let length = usize::try_from(range.end - range.start).unwrap_or_default();
        let mut pieces = self.backend.read(&self.key, range).await?;
        let mut bytes = Vec::with_capacity(length);
        while let Some(piece) = pieces.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// The beginning of a range as it comes.
    pub(crate) async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
        self.backend.read(&self.key, range.start..range.end.min(range.start + REQUEST)).await
    }
}
