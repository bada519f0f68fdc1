//! What repositories hold, and how it hangs together.

use crate::{Metadata, Result};
use longshore_oci::{Digest, RepositoryName, Tag};

/// How much a repository holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySize {
    /// Its name.
    pub repository: RepositoryName,
    /// How many manifests it has.
    pub manifests: u64,
    /// Their bytes.
    pub manifest_bytes: u64,
    /// How many blobs it holds.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// The bytes of those that no other repository holds.
    pub unique_bytes: u64,
}

/// A manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestNode {
    /// Names it to the edges.
    pub id: i64,
    /// Its digest.
    pub digest: Digest,
    /// Of its body, in bytes.
    pub size: u64,
    /// Its subject, whether that is there or not.
    pub subject: Option<Digest>,
}

/// A manifest needs a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobEdge {
    /// The manifest.
    pub manifest: i64,
    /// The blob.
    pub blob: i64,
    /// The blob's digest.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// How many repositories hold it.
    pub holders: u64,
}

/// All that a repository's tags can lead to.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Its manifests.
    pub manifests: Vec<ManifestNode>,
    /// An index, and a manifest that it names.
    pub children: Vec<(i64, i64)>,
    /// What manifests need.
    pub blobs: Vec<BlobEdge>,
    /// Tags, and the manifests that they name.
    pub tags: Vec<(Tag, i64)>,
}

impl Metadata {
    /// How much repositories hold, those after this name.
    pub async fn repository_sizes(&self, after: &str, limit: u32) -> Result<Vec<RepositorySize>> {
        on_engine!(self.repository_sizes(after, limit))
    }

    /// The bytes of all blobs, each once.
    pub async fn bytes_of_blobs(&self) -> Result<u64> {
        on_engine!(self.bytes_of_blobs())
    }

    /// What a repository holds; none where there is no such repository. It is read page by page: what changes meanwhile
    /// may be in it or not.
    pub async fn contents_of(&self, repository: &RepositoryName) -> Result<Option<Contents>> {
        on_engine!(self.contents_of(repository))
    }
}
