//! Pulls that are to be written down: many in one statement, see [`crate::Metadata::record_pulls_of_manifests`].

use longshore_oci::{Digest, RepositoryName, Tag};
use std::time::Duration;

/// Pulls of one manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestPulls {
    /// Where.
    pub repository: RepositoryName,
    /// Of what.
    pub digest: Digest,
    /// How many. 0 where it was looked at only: then it is no pull, and still in use.
    pub count: u64,
    /// How long ago the last one was.
    pub last: Duration,
}

/// Pulls by one tag, or looks at what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPulls {
    /// Where.
    pub repository: RepositoryName,
    /// By which tag.
    pub tag: Tag,
    /// How long ago the last one was.
    pub last: Duration,
}
