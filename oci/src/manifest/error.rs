//! What can be wrong with a manifest: a variant for each kind of mistake, and in its text what to change.

use thiserror::Error;

use super::ManifestKind;
use crate::{Digest, DigestError, JsonError, MediaTypeError};

/// Why a manifest is refused (`MANIFEST_INVALID`). Paths are those of the body, such as `layers[3].digest`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// The body is not JSON that every parser reads the same way.
    #[error("manifest: {0}")]
    Json(#[from] JsonError),
    /// The body is JSON and not an object.
    #[error("a manifest is a JSON object, not {found}")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// The `Content-Type` header is no media type.
    #[error("header `Content-Type`: {problem}")]
    MalformedContentType {
        /// What is wrong with it.
        problem: MediaTypeError,
    },
    /// The type is none that this registry knows.
    #[error("manifests of type `{media_type}` are not supported: send one of {}", ManifestKind::list_of_media_types())]
    UnknownMediaType {
        /// The type that was sent, cut to a length fit for a message.
        media_type: String,
    },
    /// Header and body name different types.
    #[error(
        "header `Content-Type` says `{content_type}` and the manifest's mediaType says `{media_type}`: make them equal"
    )]
    MediaTypeMismatch {
        /// The header, without parameters.
        content_type: String,
        /// The field of the body.
        media_type: String,
    },
    /// Neither header nor body names a type, and the fields leave it open.
    #[error(
        "the type of the manifest is not known: send it as `Content-Type`, or as `mediaType` in the manifest, as one of {}",
        ManifestKind::list_of_media_types()
    )]
    NoMediaType,
    /// It is a Docker schema 1 manifest.
    #[error(
        "docker schema 1 manifests are not supported: push the image with a current client, as docker schema 2 or oci"
    )]
    Schema1,
    /// `schemaVersion` is missing or not 2.
    #[error("`schemaVersion` has to be 2: set it")]
    SchemaVersion,
    /// It has a field that makes it a manifest of another kind to a client that trusts fields more than types.
    #[error(
        "{kind} must not have the field `{field}`, which makes it ambiguous: remove the field or send the right media type"
    )]
    AmbiguousKind {
        /// What it is by its type.
        kind: ManifestKind,
        /// The field that speaks against it.
        field: &'static str,
    },
    /// A key differs from a known field by case only: some parsers take it for that field, others do not.
    #[error("`{path}` is read as `{field}` by some clients and ignored by others: spell it `{field}` or rename it")]
    LookAlikeField {
        /// Where the key stands.
        path: String,
        /// The field that it looks like.
        field: &'static str,
    },
    /// A field that has to be there is not.
    #[error("`{path}` is missing: add it")]
    MissingField {
        /// Where it should be.
        path: String,
    },
    /// A field has a value of the wrong JSON type.
    #[error("`{path}` has to be {expected}, not {found}")]
    WrongType {
        /// Where it stands.
        path: String,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A size is negative, no integer, or 2^63 and more.
    #[error("`{path}` has to be a whole number of bytes from 0 to 2^63 - 1")]
    InvalidSize {
        /// Where it stands.
        path: String,
    },
    /// A digest does not parse.
    #[error("`{path}`: {problem}")]
    InvalidDigest {
        /// Where it stands.
        path: String,
        /// What is wrong with it.
        problem: DigestError,
    },
    /// The `artifactType` is no media type by its length or its characters.
    #[error(
        "`artifactType` has to be a media type such as `application/vnd.example.v1+json`: at most {limit} bytes, no control characters"
    )]
    ArtifactType {
        /// The most bytes that it may have.
        limit: usize,
    },
    /// A media type does not parse.
    #[error("`{path}`: {problem}")]
    InvalidMediaType {
        /// Where it stands.
        path: String,
        /// What is wrong with it.
        problem: MediaTypeError,
    },
    /// Two descriptors give one digest two sizes.
    #[error(
        "`{path}` gives `{digest}` a size of {size} bytes, another descriptor gives it {other_size}: correct the wrong one"
    )]
    SizeConflict {
        /// Where the later one stands.
        path: String,
        /// The digest of both.
        digest: Digest,
        /// The size of the later one.
        size: u64,
        /// The size of the earlier one.
        other_size: u64,
    },
    /// There are too many descriptors.
    #[error("the manifest has more than {limit} descriptors: split it")]
    TooManyDescriptors {
        /// The most that are taken.
        limit: usize,
    },
    /// There are too many annotations.
    #[error("the manifest has more than {limit} annotations: leave some out")]
    TooManyAnnotations {
        /// The most that are taken.
        limit: usize,
    },
}
