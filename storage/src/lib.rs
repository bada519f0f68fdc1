#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod blocking;
mod buffers;
mod document;
mod error;
mod files;
mod folders;
mod hasher;
mod hot;
mod key;
mod mapping;
mod mark;
mod objects;
mod read;
mod remote;
mod storage;
mod write;

pub use document::DocumentName;
pub use error::Error;
pub use files::FileStore;
pub use folders::ProcessLock;
pub use hasher::{BlobHasher, HashStateError};
pub use hot::HotUsage;
pub use key::{KeyError, ObjectKey};
pub use mapping::{FilePart, Mappings};
pub use read::{ByteStream, Delivery, ObjectReader, ObjectStream};
pub use remote::{
    Backend, BegunUpload, DiskUsage, LEAST_TO_READ, Layout, OperationUsage, PresignedUrl, RemoteStore, RemoteWriter,
    SMALLEST_PART, SavedPart, SavedParts, SavedTail, Step, StoreUsage, VerifiedUsage, azure_backend, gcs_backend,
    memory_backend, s3_backend,
};
pub use storage::{ObjectWriter, Storage};
pub use write::{Durable, FileWriter, GATHER};

/// What every call of this crate answers.
pub type Result<T> = std::result::Result<T, Error>;
