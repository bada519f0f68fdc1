//! The image index that answers a question for referrers, and the one that clients keep under a fallback tag.

use serde::Serialize;

use crate::json::{self, Json, JsonLimits};
use crate::manifest::{Place, read_descriptor};
use crate::{Descriptor, MediaType};

/// The answer of the referrers API: an image index of the manifests that refer to a subject.
///
/// It is written field by field in a fixed order, so the same descriptors always give the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferrersIndex {
    schema_version: u8,
    media_type: MediaType,
    manifests: Vec<Descriptor>,
}

impl ReferrersIndex {
    /// An index of these descriptors, in this order. The caller splits long lists into pages.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests }
    }

    /// The index as JSON; serve it as [`MediaType::OCI_INDEX`].
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, integers and maps with string keys can always be written as JSON")
    }
}

/// The readable descriptors of the index under a fallback tag (referrers tag schema of the distribution spec).
///
/// Clients wrote these indexes, some of them wrongly, and a registry has to make the best of them: what cannot be read
/// is left out. The result is empty if the body is no index at all.
pub fn descriptors_of_index(body: &[u8]) -> Vec<Descriptor> {
    // The body was bounded when it was pushed: no entry of it should be lost to a limit on values.
    let limits = JsonLimits { max_depth: 32, max_values: usize::MAX };
    let Ok(Json::Object(index)) = json::read(body, limits) else {
        return Vec::new();
    };
    let Some(Json::List(entries)) = index.get("manifests") else {
        return Vec::new();
    };
    let mut descriptors = Vec::new();
    for (position, entry) in entries.iter().enumerate() {
        if let Ok(descriptor) = read_descriptor(entry, Place::Item("manifests", position)) {
            descriptors.push(descriptor);
        }
    }
    descriptors
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Algorithm, Digest, Manifest, ManifestLimits};

    fn descriptor(content: &[u8]) -> Descriptor {
        let digest = Digest::of(Algorithm::Sha256, content);
        Descriptor::new(MediaType::OCI_MANIFEST, digest, content.len() as u64)
    }

    #[test]
    fn an_empty_index_has_an_empty_list() {
        assert_eq!(
            String::from_utf8(ReferrersIndex::new(Vec::new()).to_json()).unwrap(),
            "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}"
        );
    }

    #[test]
    fn what_is_written_is_an_index_and_can_be_read_again() {
        let mut signature = descriptor(b"signature");
        signature.artifact_type = Some("application/vnd.example.signature".to_owned());
        signature.annotations.insert("created".to_owned(), "\"today\"\n".to_owned());
        let descriptors = vec![signature, descriptor(b"sbom")];
        let body = ReferrersIndex::new(descriptors.clone()).to_json();
        assert_eq!(descriptors_of_index(&body), descriptors);
        let content_type = Some(MediaType::OCI_INDEX.as_str().to_owned());
        let manifest = Manifest::parse(&body, content_type.as_deref(), &ManifestLimits::default()).unwrap();
        assert_eq!(manifest.children, descriptors);
    }

    #[test]
    fn broken_entries_are_left_out() {
        let good = serde_json::to_string(&descriptor(b"good")).unwrap();
        let body = format!(
            r#"{{"manifests":[null, 7, {{}}, {good}, {{"mediaType":"a/b","digest":"sha256:1","size":3}}, {good}]}}"#
        );
        assert_eq!(descriptors_of_index(body.as_bytes()), [descriptor(b"good"), descriptor(b"good")]);
    }

    #[test]
    fn what_is_no_index_has_no_descriptors() {
        for body in ["", "{}", "[]", "{\"manifests\":null}", "{\"manifests\":{}}", "{\"manifests\":[]}x", "\u{feff}{}"]
        {
            assert_eq!(descriptors_of_index(body.as_bytes()), [], "{body}");
        }
    }

    proptest! {
        #[test]
        fn bytes_never_panic(body in any::<Vec<u8>>()) {
            let _ = descriptors_of_index(&body);
        }

        #[test]
        fn annotations_of_any_text_survive(annotations in prop::collection::btree_map(".*", ".*", 0..5)) {
            let mut written = descriptor(b"content");
            written.annotations = annotations;
            let body = ReferrersIndex::new(vec![written.clone()]).to_json();
            prop_assert_eq!(descriptors_of_index(&body), [written]);
        }
    }
}
