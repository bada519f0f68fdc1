//! Which kind of manifest a body is: from the header, the body's own word, and its fields, when none of them disagree.

use std::fmt;

use super::ManifestError;
use super::fields::Fields;
use crate::MediaType;
use crate::excerpt::excerpt;

/// The shapes of manifests. The Docker formats share those of OCI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ManifestKind {
    /// One config and a list of layers.
    Image,
    /// A list of other manifests.
    Index,
    /// A list of blobs without config: the OCI artifact manifest of the 1.1 release candidates.
    Artifact,
}

/// Every media type that is taken as a manifest, and its shape.
const KNOWN: [(MediaType, ManifestKind); 5] = [
    (MediaType::OCI_MANIFEST, ManifestKind::Image),
    (MediaType::OCI_INDEX, ManifestKind::Index),
    (MediaType::DOCKER_MANIFEST, ManifestKind::Image),
    (MediaType::DOCKER_MANIFEST_LIST, ManifestKind::Index),
    (MediaType::OCI_ARTIFACT_MANIFEST, ManifestKind::Artifact),
];

/// Fields that say which kind a manifest is to a client that looks at nothing else; `fsLayers` is that of Docker schema
/// 1.
const TELLING_FIELDS: [&str; 5] = ["manifests", "config", "layers", "blobs", "fsLayers"];

impl ManifestKind {
    /// The kind that a media type stands for; none if it is no known type of manifest.
    pub fn of(media_type: &MediaType) -> Option<Self> {
        KNOWN.iter().find(|(known, _)| known == media_type).map(|(_, kind)| *kind)
    }

    /// The fields of [`TELLING_FIELDS`] that belong to the kind.
    fn own_fields(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["config", "layers"],
            Self::Index => &["manifests"],
            Self::Artifact => &["blobs"],
        }
    }

    /// The known media types as a phrase, for error texts.
    pub(super) fn list_of_media_types() -> String {
        KNOWN.map(|(media_type, _)| format!("`{media_type}`")).join(", ")
    }
}

impl fmt::Display for ManifestKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Image => "an image manifest",
            Self::Index => "an image index",
            Self::Artifact => "an artifact manifest",
        })
    }
}

/// The media type that header and body agree on, or the one that the fields of a body without type leave no doubt
/// about.
pub(super) fn decide_media_type(content_type: Option<&str>, fields: &Fields<'_>) -> Result<MediaType, ManifestError> {
    let declared = declared_media_type(content_type)?;
    let written = fields.text("mediaType")?;
    if is_docker_schema1(declared.as_ref(), written, fields) {
        return Err(ManifestError::Schema1);
    }
    match (declared, written) {
        (Some(declared), Some(written)) if declared.as_str() != written => Err(ManifestError::MediaTypeMismatch {
            content_type: excerpt(declared.as_str()),
            media_type: excerpt(written),
        }),
        (Some(declared), _) => Ok(declared),
        (None, Some(written)) => known_media_type(written),
        (None, None) => infer_media_type(fields),
    }
}

/// The kind of a manifest of this type, if none of its fields says otherwise and its schema version is right.
///
/// A manifest with the fields of two kinds is an image to one client and an index to another (CVE-2021-41190). A field
/// with the value `null` is there: containerd judges so too. So no body is accepted as two kinds under two types.
pub(super) fn decide_kind(media_type: &MediaType, fields: &Fields<'_>) -> Result<ManifestKind, ManifestError> {
    let kind = ManifestKind::of(media_type)
        .ok_or_else(|| ManifestError::UnknownMediaType { media_type: excerpt(media_type.as_str()) })?;
    for field in TELLING_FIELDS {
        if fields.holds(field) && !kind.own_fields().contains(&field) {
            return Err(ManifestError::AmbiguousKind { kind, field });
        }
    }
    match fields.number("schemaVersion")? {
        Some(2) => Ok(kind),
        None if kind == ManifestKind::Artifact => Ok(kind),
        _ => Err(ManifestError::SchemaVersion),
    }
}

/// The header's type, unless the header is one that clients send for any JSON or any bytes.
fn declared_media_type(content_type: Option<&str>) -> Result<Option<MediaType>, ManifestError> {
    let content_type = content_type.unwrap_or_default().trim();
    if content_type.is_empty() {
        return Ok(None);
    }
    let declared: MediaType =
        content_type.parse().map_err(|problem| ManifestError::MalformedContentType { problem })?;
    if declared == MediaType::JSON || declared == MediaType::OCTET_STREAM { Ok(None) } else { Ok(Some(declared)) }
}

/// Schema 1 is told apart before anything else is judged: its manifests have no `mediaType`, and their users need to
/// hear why.
fn is_docker_schema1(declared: Option<&MediaType>, written: Option<&str>, fields: &Fields<'_>) -> bool {
    declared.is_some_and(MediaType::is_docker_schema1)
        || written == Some(MediaType::DOCKER_SCHEMA1.as_str())
        || written == Some(MediaType::DOCKER_SCHEMA1_SIGNED.as_str())
        || matches!(fields.number("schemaVersion"), Ok(Some(1)))
}

/// The known type that is spelt exactly so: the body's own word may not even carry parameters, as clients compare all
/// of it.
fn known_media_type(written: &str) -> Result<MediaType, ManifestError> {
    for (known, _) in KNOWN {
        if known.as_str() == written {
            return Ok(known);
        }
    }
    Err(ManifestError::UnknownMediaType { media_type: excerpt(written) })
}

fn infer_media_type(fields: &Fields<'_>) -> Result<MediaType, ManifestError> {
    if fields.holds("manifests") {
        return Ok(MediaType::OCI_INDEX);
    }
    if fields.holds("config") && fields.holds("layers") {
        return Ok(MediaType::OCI_MANIFEST);
    }
    Err(ManifestError::NoMediaType)
}
