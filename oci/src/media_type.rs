//! Media types: what a manifest or blob says it is.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::excerpt::excerpt;
use crate::text_serde;

/// Longest type and longest subtype in bytes, from RFC 6838 section 4.2.
const MAX_PART_BYTES: usize = 127;

/// A media type without parameters, such as `application/vnd.oci.image.manifest.v1+json`.
///
/// Its grammar is that of RFC 6838 section 4.2. It is kept and compared as it was sent: clients compare these strings
/// byte by byte, so a registry that treated two spellings as one would serve what they cannot read.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    /// OCI image manifest.
    pub const OCI_MANIFEST: Self = Self::known("application/vnd.oci.image.manifest.v1+json");
    /// OCI image index.
    pub const OCI_INDEX: Self = Self::known("application/vnd.oci.image.index.v1+json");
    /// OCI artifact manifest: of the 1.1 release candidates only, still found in registries.
    pub const OCI_ARTIFACT_MANIFEST: Self = Self::known("application/vnd.oci.artifact.manifest.v1+json");
    /// Docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: Self = Self::known("application/vnd.docker.distribution.manifest.v2+json");
    /// Docker manifest list.
    pub const DOCKER_MANIFEST_LIST: Self = Self::known("application/vnd.docker.distribution.manifest.list.v2+json");
    /// Docker image manifest, version 2, schema 1: refused everywhere.
    pub const DOCKER_SCHEMA1: Self = Self::known("application/vnd.docker.distribution.manifest.v1+json");
    /// Docker image manifest, version 2, schema 1, signed: refused everywhere.
    pub const DOCKER_SCHEMA1_SIGNED: Self = Self::known("application/vnd.docker.distribution.manifest.v1+prettyjws");

    /// OCI image configuration.
    pub const OCI_CONFIG: Self = Self::known("application/vnd.oci.image.config.v1+json");
    /// The two bytes `{}`, where a manifest needs a blob and the artifact has none.
    pub const OCI_EMPTY: Self = Self::known("application/vnd.oci.empty.v1+json");
    /// OCI layer, uncompressed.
    pub const OCI_LAYER: Self = Self::known("application/vnd.oci.image.layer.v1.tar");
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: Self = Self::known("application/vnd.oci.image.layer.v1.tar+gzip");
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: Self = Self::known("application/vnd.oci.image.layer.v1.tar+zstd");
    /// OCI layer that may not be pushed, uncompressed.
    pub const OCI_LAYER_NONDISTRIBUTABLE: Self = Self::known("application/vnd.oci.image.layer.nondistributable.v1.tar");
    /// OCI layer that may not be pushed, gzip.
    pub const OCI_LAYER_NONDISTRIBUTABLE_GZIP: Self =
        Self::known("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    /// OCI layer that may not be pushed, zstd.
    pub const OCI_LAYER_NONDISTRIBUTABLE_ZSTD: Self =
        Self::known("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd");

    /// Docker image configuration.
    pub const DOCKER_CONFIG: Self = Self::known("application/vnd.docker.container.image.v1+json");
    /// Docker layer, uncompressed.
    pub const DOCKER_LAYER: Self = Self::known("application/vnd.docker.image.rootfs.diff.tar");
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: Self = Self::known("application/vnd.docker.image.rootfs.diff.tar.gzip");
    /// Docker layer that may not be pushed, uncompressed.
    pub const DOCKER_FOREIGN_LAYER: Self = Self::known("application/vnd.docker.image.rootfs.foreign.diff.tar");
    /// Docker layer that may not be pushed, gzip.
    pub const DOCKER_FOREIGN_LAYER_GZIP: Self =
        Self::known("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");

    /// JSON that does not say what it is; as a `Content-Type` it says no more than none.
    pub const JSON: Self = Self::known("application/json");
    /// Bytes that do not say what they are: what a blob is served as.
    pub const OCTET_STREAM: Self = Self::known("application/octet-stream");

    const fn known(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// The media type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether layers of this type are fetched from elsewhere: a registry must not require that they were pushed to it.
    pub fn is_nondistributable(&self) -> bool {
        self.as_str().starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self.as_str().starts_with("application/vnd.docker.image.rootfs.foreign.")
    }

    /// Whether this is the manifest of a Docker schema 1 image, a format that no current client can use.
    pub fn is_docker_schema1(&self) -> bool {
        *self == Self::DOCKER_SCHEMA1 || *self == Self::DOCKER_SCHEMA1_SIGNED
    }
}

/// Why a media type is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{media_type}` is no media type: send type, slash and subtype as RFC 6838 has them, such as `application/vnd.example.v1+json`"
)]
pub struct MediaTypeError {
    media_type: String,
}

/// `restricted-name` of RFC 6838 section 4.2.
fn is_restricted_name(text: &str) -> bool {
    text.len() <= MAX_PART_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    /// Reads a media type; parameters after a `;` and white space around it are dropped.
    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        let without_parameters = text.split(';').next().unwrap_or_default().trim();
        match without_parameters.split_once('/') {
            Some((top, sub)) if is_restricted_name(top) && is_restricted_name(sub) => {
                Ok(Self(Cow::Owned(without_parameters.to_owned())))
            }
            _ => Err(MediaTypeError { media_type: excerpt(text) }),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_serde::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_and_white_space_are_dropped() {
        for text in [
            "application/vnd.oci.image.index.v1+json",
            " application/vnd.oci.image.index.v1+json\t",
            "application/vnd.oci.image.index.v1+json; charset=utf-8",
            "application/vnd.oci.image.index.v1+json ;;;\"",
        ] {
            assert_eq!(text.parse(), Ok(MediaType::OCI_INDEX), "{text}");
        }
    }

    #[test]
    fn spelling_is_kept() {
        let media_type: MediaType = "Application/JSON".parse().unwrap();
        assert_eq!(media_type.as_str(), "Application/JSON");
        assert_ne!(media_type, MediaType::JSON);
    }

    #[test]
    fn refused() {
        let long = format!("application/{}", "a".repeat(128));
        for text in
            ["", "/", "a", "a/", "/a", "a/b/c", "a /b", "a/b c", "*/*", "a/*", "+a/b", "a/b,c/d", "ä/b", ";a/b", &long]
        {
            assert!(text.parse::<MediaType>().is_err(), "{text}");
        }
        assert!(long[..long.len() - 1].parse::<MediaType>().is_ok());
    }

    #[test]
    fn known_types_follow_the_grammar() {
        for known in [MediaType::OCI_MANIFEST, MediaType::DOCKER_SCHEMA1_SIGNED, MediaType::DOCKER_FOREIGN_LAYER_GZIP] {
            assert_eq!(known.as_str().parse(), Ok(known));
        }
    }

    #[test]
    fn layers_from_elsewhere() {
        for media_type in [
            MediaType::OCI_LAYER_NONDISTRIBUTABLE,
            MediaType::OCI_LAYER_NONDISTRIBUTABLE_GZIP,
            MediaType::OCI_LAYER_NONDISTRIBUTABLE_ZSTD,
            MediaType::DOCKER_FOREIGN_LAYER,
            MediaType::DOCKER_FOREIGN_LAYER_GZIP,
        ] {
            assert!(media_type.is_nondistributable(), "{media_type}");
        }
        for media_type in [MediaType::OCI_LAYER, MediaType::DOCKER_LAYER_GZIP, MediaType::OCI_CONFIG] {
            assert!(!media_type.is_nondistributable(), "{media_type}");
        }
    }

    #[test]
    fn serde_uses_the_text() {
        let media_type: MediaType = serde_json::from_str("\"text/plain\"").unwrap();
        assert_eq!(serde_json::to_string(&media_type).unwrap(), "\"text/plain\"");
        assert!(serde_json::from_str::<MediaType>("\"text\"").is_err());
    }

    proptest! {
        #[test]
        fn what_the_grammar_makes_is_accepted(
            text in "[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}",
            parameters in "( *;\\PC*)?",
        ) {
            let media_type: MediaType = format!("{text}{parameters}").parse().unwrap();
            prop_assert_eq!(media_type.as_str(), text);
        }
    }
}
