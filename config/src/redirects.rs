//! `storage.redirects`: which downloads are sent on to the object store.

use crate::show::in_one_line;
use crate::{ByteSize, Network, duration};
use longshore_oci::RepositoryPattern;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Clients in these networks fetch large blobs of these repositories from the object store, by a signed URL. All
/// others, and all other blobs, are served here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redirects {
    /// The networks of those clients. At least one.
    #[serde(serialize_with = "in_one_line")]
    pub networks: Vec<Network>,
    /// The repositories. Default: all.
    #[serde(serialize_with = "in_one_line")]
    pub repositories: Vec<RepositoryPattern>,
    /// The smallest blob that is worth another round trip. Default 1 MiB.
    pub from_size: ByteSize,
    /// How long a URL can be used. Default 20 m.
    #[serde(with = "duration")]
    pub lifetime: Duration,
    /// URL at which clients reach the store; none: the one at which we do.
    pub endpoint: Option<String>,
}

impl Default for Redirects {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            repositories: vec![RepositoryPattern::all()],
            from_size: ByteSize::mib(1),
            lifetime: Duration::from_secs(20 * 60),
            endpoint: None,
        }
    }
}
