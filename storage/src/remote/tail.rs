//! The tail of an upload, read back by its next writer. The hash has seen these bytes as the client sent them and does not see
//! them again: what the store gives back damaged would be in the object, and its digest right.

use super::Backend;
use crate::{BlobHasher, Error, ObjectKey, Result};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm::Crc64Nvme, Digest as Crc};
use futures_util::TryStreamExt;
use longshore_oci::Digest;
use tokio::task::spawn_blocking;

/// The object with the bytes of an upload that are in no part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedTail {
    /// Its key.
    pub key: ObjectKey,
    /// CRC-64/NVME of its bytes. None where an older release has saved it: nothing but its length is known then; and
    /// where all bytes of the upload are in it, for which the hash speaks.
    pub checksum: Option<u64>,
}

/// The checksum of a tail that is about to be written.
pub(super) async fn checksum(bytes: &[Bytes]) -> Result<u64> {
    let bytes = bytes.to_vec();
    let computed = spawn_blocking(move || {
        let mut crc = Crc::new(Crc64Nvme);
        bytes.iter().for_each(|piece| crc.update(piece));
        crc.finalize()
    });
    computed.await.map_err(|_| Error::ShuttingDown)
}

/// Sees the bytes of a tail as they come back, and knows whether they are those that went there.
pub(super) enum Check {
    Digest { written: Digest, read: Box<BlobHasher> },
    Checksum { written: u64, read: Box<Crc> },
    Unknown,
}

impl Check {
    /// For the tail of an upload that has so many bytes in parts, and this hash.
    pub(super) fn new(tail: &SavedTail, in_parts: u64, hasher: &BlobHasher) -> Self {
        match tail.checksum {
            _ if in_parts == 0 => {
                Self::Digest { written: hasher.digest(), read: Box::new(BlobHasher::new(hasher.algorithm())) }
            }
            Some(written) => Self::Checksum { written, read: Box::new(Crc::new(Crc64Nvme)) },
            None => Self::Unknown,
        }
    }

    pub(super) fn look(&mut self, bytes: &[u8]) {
        match self {
            Self::Digest { read, .. } => read.update(bytes),
            Self::Checksum { read, .. } => read.update(bytes),
            Self::Unknown => {}
        }
    }

    pub(super) fn is_passed(&self) -> bool {
        match self {
            Self::Digest { written, read } => read.digest() == *written,
            Self::Checksum { written, read } => read.finalize() == *written,
            Self::Unknown => true,
        }
    }
}

/// What is to be said of a tail that did not pass its check: it is read once more, to be looked at by a new one. What was
/// damaged on its way comes right when the client asks again; what lies damaged at the store never will, and the hash cannot
/// go back to where the parts end.
pub(super) async fn judge(backend: &dyn Backend, tail: ObjectKey, length: u64, mut check: Check) -> Error {
    let read_again = async {
        let mut pieces = backend.read(&tail, 0..length).await?;
        while let Some(piece) = pieces.try_next().await? {
            check.look(&piece);
        }
        Ok(check.is_passed())
    };
    match read_again.await {
        Ok(true) => Error::Backend { key: tail, reason: "its bytes came damaged".to_owned() },
        Ok(false) => Error::UploadLost { key: tail },
        Err(error) => error,
    }
}
