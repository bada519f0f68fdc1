//! `storage`: where the bytes of blobs lie.

use crate::{ByteSize, Redirects, Secret};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The byte store: files below `path`, unless one of the object stores is named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Directory of the objects, and of the embedded database. Default `./data`.
    pub path: PathBuf,
    /// Blobs up to this size live in the database row instead of an object. Default 16 KiB, at most 64 KiB.
    pub inline_max: ByteSize,
    /// Memory for what is pulled again and again. Default 512 MiB; 0 turns it off.
    pub cache_size: ByteSize,
    /// Memory for what is on its way to an object store. Default 256 MiB, at least 16 MiB.
    pub upload_memory: ByteSize,
    /// A folder that keeps what was read from an object store. Default none.
    pub disk_cache: Option<DiskCache>,
    /// A bucket of S3, or of what is like it, instead of files.
    pub s3: Option<S3>,
    /// A bucket of Google Cloud Storage instead of files.
    pub gcs: Option<Gcs>,
    /// A container of Azure Blob Storage instead of files.
    pub azure: Option<Azure>,
    /// Downloads that are sent on to the object store. None: everything is served here.
    pub redirects: Option<Redirects>,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./data"),
            inline_max: ByteSize::kib(16),
            cache_size: ByteSize::mib(512),
            upload_memory: ByteSize::mib(256),
            disk_cache: None,
            s3: None,
            gcs: None,
            azure: None,
            redirects: None,
        }
    }
}

/// A folder on a disk of this machine, for what was read from an object store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskCache {
    /// The folder, which no other process uses.
    pub path: PathBuf,
    /// What it takes of the disk at most.
    pub size: ByteSize,
}

/// A bucket of S3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// Its name.
    pub bucket: String,
    /// Its region. Default `us-east-1`, which most servers that are not Amazon's take as well.
    pub region: String,
    /// URL of another server than Amazon's; none: Amazon's of the region.
    pub endpoint: Option<String>,
    /// Folder in the bucket that is ours. Default: the whole bucket.
    pub prefix: String,
    /// None, as with the key below: what the environment or the machine gives (`AWS_*`, a profile, a web
    /// identity, a role).
    pub access_key_id: Option<String>,
    /// The key that belongs to the id.
    pub secret_access_key: Option<Secret>,
    /// Whether the bucket's name stands in the host's name and not in the path. Default false.
    pub virtual_hosts: bool,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            region: "us-east-1".to_owned(),
            endpoint: None,
            prefix: String::new(),
            access_key_id: None,
            secret_access_key: None,
            virtual_hosts: false,
        }
    }
}

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gcs {
    /// Its name.
    pub bucket: String,
    /// URL of another server than Google's.
    pub endpoint: Option<String>,
    /// Folder in the bucket that is ours. Default: the whole bucket.
    pub prefix: String,
    /// File with the key of a service account, in JSON. None: what the environment or the machine gives (`GOOGLE_*`, the
    /// login of gcloud, the machine's service account).
    pub service_account: Option<PathBuf>,
}

/// A container of Azure Blob Storage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Azure {
    /// The storage account.
    pub account: String,
    /// The container in it.
    pub container: String,
    /// URL of the account on another server than Microsoft's public ones.
    pub endpoint: Option<String>,
    /// Folder in the container that is ours. Default: the whole container.
    pub prefix: String,
    /// A key of the account. None: what the environment or the machine gives (`AZURE_*`, a workload identity, a managed
    /// identity).
    pub access_key: Option<Secret>,
}
