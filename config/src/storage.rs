//! `storage`: where the bytes of blobs lie.

use crate::ByteSize;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The byte store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Directory of the objects, and of the embedded database. Default `./data`.
    pub path: PathBuf,
    /// Blobs up to this size live in the database row instead of an object. Default 16 KiB, at most 64 KiB.
    pub inline_max: ByteSize,
    /// Memory for what is pulled again and again. Default 512 MiB; 0 turns it off.
    pub cache_size: ByteSize,
}

impl Default for Storage {
    fn default() -> Self {
        Self { path: PathBuf::from("./data"), inline_max: ByteSize::kib(16), cache_size: ByteSize::mib(512) }
    }
}
