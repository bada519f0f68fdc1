#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod files;
mod hasher;
mod key;
mod read;
mod write;

pub use error::Error;
pub use files::FileStore;
pub use hasher::{BlobHasher, HashStateError};
pub use key::{KeyError, ObjectKey};
pub use read::{ByteStream, ObjectStream};
pub use write::{Durable, ObjectWriter};

/// What every call of this crate answers.
pub type Result<T> = std::result::Result<T, Error>;
