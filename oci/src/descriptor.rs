//! Descriptors: how one piece of content points at another.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Digest, MediaType};

/// A pointer to content by type, digest and size (descriptor of the image spec).
///
/// It keeps what a registry acts on. Fields such as `platform` and `data` are accepted where a descriptor is read and
/// not kept: a manifest is served as the bytes that were pushed, never written again. Serialised it is the spec's JSON,
/// what is empty left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content.
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes, below 2^63.
    pub size: u64,
    /// The type of the artifact, where the content is a manifest that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where else the content can be fetched from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// A descriptor of the three fields that each must have.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, artifact_type: None, annotations: BTreeMap::new(), urls: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm;

    #[test]
    fn what_is_empty_is_left_out() {
        let descriptor = Descriptor::new(MediaType::OCI_MANIFEST, Digest::of(Algorithm::Sha256, b""), 7);
        assert_eq!(
            serde_json::to_string(&descriptor).unwrap(),
            "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
             \"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":7}"
        );
    }

    #[test]
    fn what_is_there_is_written() {
        let mut descriptor = Descriptor::new(MediaType::OCI_MANIFEST, Digest::of(Algorithm::Sha256, b""), 7);
        descriptor.artifact_type = Some("application/vnd.example".to_owned());
        descriptor.annotations.insert("a".to_owned(), "b".to_owned());
        descriptor.urls.push("https://example.com/blob".to_owned());
        let json = serde_json::to_string(&descriptor).unwrap();
        assert!(
            json.ends_with(
                ",\"size\":7,\"artifactType\":\"application/vnd.example\",\"annotations\":{\"a\":\"b\"},\
                 \"urls\":[\"https://example.com/blob\"]}"
            ),
            "{json}"
        );
    }
}
