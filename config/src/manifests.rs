//! `manifests`: what a pushed manifest may refer to.

use serde::{Deserialize, Serialize};

/// Rules for pushed manifests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifests {
    /// Whether a manifest may name children or layers that are not in the repository. Default `refuse`.
    pub sparse_indexes: SparsePolicy,
}

/// What happens to a manifest that names children (or layers) that are not there.
///
/// Children that are blobs, as BuildKit's cache pushes them, are accepted under either policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SparsePolicy {
    /// Refuse it, so that everything that can be listed can be pulled.
    #[default]
    Refuse,
    /// Accept it, as mirrors of single platforms need.
    Allow,
}
