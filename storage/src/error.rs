//! What can go wrong with bytes, by what the caller can do about it.

use crate::{DocumentName, ObjectKey};
use std::{io, path::PathBuf};

/// An error of storage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no object of this key, or not all of it.
    #[error("object {key} is not there or is shorter than recorded")]
    Lost {
        /// The key.
        key: ObjectKey,
    },
    /// The disk is full: what was acknowledged before is safe, this write is not there.
    #[error("the disk below storage.path is full")]
    DiskFull(#[source] io::Error),
    /// Another process works on this folder, or this file.
    #[error(
        "{path} is in use by another longshore: end it, or give this one a storage.path and a database.url of its own"
    )]
    Locked {
        /// The folder or the file.
        path: PathBuf,
    },
    /// The folder cannot be used.
    #[error("{path}, for storage.path or database.url, cannot be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk failed. A failed fsync is never tried again: what it was to make durable may be lost.
    #[error("reading or writing object {key} failed")]
    Io {
        /// The key.
        key: ObjectKey,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The object store failed, after everything that is worth trying again was tried again.
    #[error("the object store failed at {key}: {reason}")]
    Backend {
        /// The key.
        key: ObjectKey,
        /// What it said.
        reason: String,
    },
    /// There is no document of this name.
    #[error("there is no {name}")]
    NoDocument {
        /// The name.
        name: DocumentName,
    },
    /// A document could not be read, written or deleted.
    #[error("the store failed at {name}: {reason}")]
    Document {
        /// The name.
        name: DocumentName,
        /// What it said.
        reason: String,
    },
    /// The object store cannot be used as it is set up.
    #[error("{place} cannot be used: {reason}. {advice}")]
    Unusable {
        /// Where it is.
        place: String,
        /// What it said.
        reason: String,
        /// What to change.
        advice: &'static str,
    },
    /// The folder for what was read from the object store cannot be used as it is set up.
    #[error("{path}, of storage.disk_cache, cannot be used: {reason}. {advice}")]
    DiskCache {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to change.
        advice: &'static str,
    },
    /// The parts of the object are not there any more, or its tail is damaged: the upload cannot be gone on with.
    #[error("what was uploaded of object {key} is gone or damaged")]
    UploadLost {
        /// The key.
        key: ObjectKey,
    },
    /// What uploads may hold in memory is used up, and stayed so.
    #[error("the memory for uploads is used up")]
    Overloaded,
    /// What downloads may hold in memory is used up, and stayed so.
    #[error("the memory for downloads is used up")]
    ReadersOverloaded,
    /// The process is about to end and runs no more work.
    #[error("storage is shutting down")]
    ShuttingDown,
}

impl Error {
    pub(crate) fn io(key: &ObjectKey, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(source),
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => Self::Lost { key: key.clone() },
            _ => Self::Io { key: key.clone(), source },
        }
    }
}
