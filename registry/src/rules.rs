//! What an operator decides about the registry's behaviour.

use crate::{Error, Result};
use longshore_oci::{ImmutableTags, ManifestLimits};
use std::time::Duration;

/// The rules of a registry.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Blobs of at most so many bytes live in the database.
    pub inline_max: usize,
    /// The largest blob, in bytes, if there is a limit.
    pub blob_max: Option<u64>,
    /// The largest manifest, in bytes.
    pub manifest_max: usize,
    /// What one manifest may hold.
    pub manifest_limits: ManifestLimits,
    /// How many tags one push of a manifest by digest may set.
    pub tags_per_push: usize,
    /// The tags that may not move.
    pub immutable_tags: ImmutableTags,
    /// Whether a manifest may name blobs and manifests that are not here.
    pub allow_sparse: bool,
    /// How long an upload session stays without a new byte.
    pub upload_lifetime: Duration,
    /// The longest page of a list.
    pub page_max: u32,
    /// Whether pulls are counted: somebody has to let [`crate::Registry::write_pulls`] run then.
    pub count_pulls: bool,
}

impl Rules {
    /// Refuses a blob of this size, or one that has grown to it, if it is over the limit.
    pub(crate) fn check_blob_size(&self, size: u64) -> Result<()> {
        match self.blob_max {
            Some(limit) if size > limit => Err(Error::BlobTooLarge { limit }),
            _ => Ok(()),
        }
    }
}
