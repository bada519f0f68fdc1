//! The manifest parser: it never panics, accepts no body as two kinds, and lists nothing twice.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use longshore_oci::{Manifest, ManifestLimits, ReferrersIndex, descriptors_of_index};

const CONTENT_TYPES: [Option<&str>; 7] = [
    None,
    Some("application/vnd.oci.image.manifest.v1+json"),
    Some("application/vnd.oci.image.index.v1+json; charset=utf-8"),
    Some("application/vnd.docker.distribution.manifest.v2+json"),
    Some("application/vnd.docker.distribution.manifest.list.v2+json"),
    Some("application/vnd.oci.artifact.manifest.v1+json"),
    Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
];

/// What holds for every manifest that is accepted.
fn check_lists(manifest: &Manifest) {
    let blobs: HashSet<_> = manifest.blobs.iter().map(|blob| blob.digest).collect();
    assert_eq!(blobs.len(), manifest.blobs.len(), "a blob is listed twice");
    let children: HashSet<_> = manifest.children.iter().map(|child| child.digest).collect();
    assert_eq!(children.len(), manifest.children.len(), "a child is listed twice");
    let descriptors = manifest.children.iter().chain(&manifest.subject);
    assert!(descriptors.map(|descriptor| descriptor.size).all(|size| size < 1 << 63));
}

fuzz_target!(|body: &[u8]| {
    let limits = ManifestLimits::default();
    let mut kinds = HashSet::new();
    for content_type in CONTENT_TYPES {
        if let Ok(manifest) = Manifest::parse(body, content_type, &limits) {
            check_lists(&manifest);
            kinds.insert(manifest.kind);
        }
    }
    assert!(kinds.len() <= 1, "one body, two kinds: {kinds:?}");

    let descriptors = descriptors_of_index(body);
    let written = ReferrersIndex::new(descriptors.clone()).to_json();
    assert_eq!(descriptors_of_index(&written), descriptors, "what is written is read back");
});
