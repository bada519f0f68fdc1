//! `limits`: how much one request may ask for.

use crate::show::in_one_line;
use crate::{ByteSize, Quota};
use serde::{Deserialize, Serialize};

/// Ceilings of single requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest manifest accepted. Default 4 MiB, which the distribution spec asks every registry to take; at most 64 MiB.
    pub manifest_size: ByteSize,
    /// Largest blob accepted; none: no limit.
    pub blob_size: Option<ByteSize>,
    /// Largest page of a list (tags, catalog) that a client may ask for, in entries. Default 10,000.
    pub page_size: u32,
    /// Most ranges in one `Range` header. Default 1,024, which podman's partial pulls use.
    pub ranges: usize,
    /// Most `?tag=` parameters on one manifest push. Default 64.
    pub tags_per_push: usize,
    /// How many bytes namespaces may hold. Default: none has a limit.
    #[serde(serialize_with = "in_one_line")]
    pub quotas: Vec<Quota>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_size: ByteSize::mib(4),
            blob_size: None,
            page_size: 10_000,
            ranges: 1024,
            tags_per_push: 64,
            quotas: Vec::new(),
        }
    }
}
