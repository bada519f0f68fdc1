//! What can go wrong in a registry, each variant a thing that a client or an operator can act on.

use crate::BodyError;
use longshore_metadata::UploadId;
use longshore_oci::{Digest, ManifestError, Reference, RepositoryName, Tag};

/// An error of the registry. The texts are for the client: they say what to change and name nothing of the inside.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such repository.
    #[error("repository {repository} is not known here")]
    NameUnknown {
        /// The one that was asked for.
        repository: RepositoryName,
    },
    /// The repository does not hold the blob.
    #[error("the repository holds no blob {digest}")]
    BlobUnknown {
        /// The one that was asked for.
        digest: Digest,
    },
    /// The blob cannot go: a manifest needs it.
    #[error("blob {digest} is in use by manifest {by}: delete that manifest first")]
    BlobInUse {
        /// The blob.
        digest: Digest,
        /// The manifest.
        by: Digest,
    },
    /// The blob is over the limit.
    #[error("the blob is larger than {limit} bytes, the largest that this registry takes")]
    BlobTooLarge {
        /// In bytes.
        limit: u64,
    },
    /// No such session, or not the caller's, or not in this repository.
    #[error("upload {id} is not open in this repository: start a new one with POST")]
    UploadUnknown {
        /// The session.
        id: UploadId,
    },
    /// The database has lost what a push in one request had begun.
    #[error("the database lost what the push had begun")]
    PushLost,
    /// Another request is writing the session.
    #[error("another request is writing upload {id}: wait for it to end, then ask for the upload's status")]
    UploadBusy {
        /// The session.
        id: UploadId,
    },
    /// The chunk does not begin where the session ends.
    #[error("the chunk begins at byte {start}, but the upload goes on at byte {received}: send that one next")]
    ChunkOutOfOrder {
        /// The session.
        id: UploadId,
        /// Where the chunk begins.
        start: u64,
        /// Where the session goes on.
        received: u64,
    },
    /// The body is not as long as was said.
    #[error("the chunk was announced as {announced} bytes, but {sent} came: nothing of it was kept, send it again")]
    ChunkLength {
        /// As announced.
        announced: u64,
        /// As counted.
        sent: u64,
    },
    /// The bytes are others than the digest says.
    #[error("the content's digest is {computed}, not {declared} as the request says")]
    DigestMismatch {
        /// By the client.
        declared: Digest,
        /// By us.
        computed: Digest,
    },
    /// No such manifest or tag.
    #[error("the repository holds no manifest {reference}")]
    ManifestUnknown {
        /// The one that was asked for.
        reference: Reference,
    },
    /// The manifest cannot be understood, or could be understood in two ways.
    #[error("the manifest is not valid: {0}")]
    ManifestInvalid(#[from] ManifestError),
    /// The manifest is over the limit.
    #[error("the manifest is larger than {limit} bytes, the largest that this registry takes")]
    ManifestTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The manifest names what is not here.
    #[error("the manifest names {} that this repository does not hold: push {} first", list(digests), if digests.len() == 1 { "it" } else { "them" })]
    ManifestBlobUnknown {
        /// Blobs and manifests, in the manifest's order.
        digests: Vec<Digest>,
    },
    /// The manifest cannot go: an index needs it.
    #[error("manifest {digest} is in use by index {by}: delete that index first")]
    ManifestInUse {
        /// The manifest.
        digest: Digest,
        /// The index.
        by: Digest,
    },
    /// The tag may not move, and names another manifest.
    #[error("tag {tag} names {digest} and is immutable by the rule {rule:?} of this registry: push under another tag")]
    TagImmutable {
        /// The tag.
        tag: Tag,
        /// What it names.
        digest: Digest,
        /// By which rule.
        rule: String,
    },
    /// The tag may not go, nor what it names.
    #[error(
        "tag {tag} is immutable by the rule {rule:?} of this registry: neither it nor what it names can be deleted"
    )]
    TagUndeletable {
        /// The tag.
        tag: Tag,
        /// By which rule.
        rule: String,
    },
    /// More tags than one push may set.
    #[error("one push may set at most {limit} tags")]
    TooManyTags {
        /// The limit.
        limit: usize,
    },
    /// The client's body ended in an error.
    #[error("the request's body could not be read to its end: {0}")]
    Body(#[from] BodyError),
    /// The database failed.
    #[error("the database failed")]
    Metadata(#[from] longshore_metadata::Error),
    /// The disk failed.
    #[error("storage failed")]
    Storage(#[from] longshore_storage::Error),
    /// The process is about to end.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Digests for a sentence: the first few, and how many more.
fn list(digests: &[Digest]) -> String {
    const SHOWN: usize = 5;
    let mut text = digests.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if digests.len() > SHOWN {
        text.push_str(&format!(" and {} more", digests.len() - SHOWN));
    }
    text
}
