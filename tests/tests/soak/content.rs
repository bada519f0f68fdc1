//! What is pushed: images, indexes of them, and what refers to them.

use std::sync::Arc;

use longshore_tests::image::{Blob, CONFIG, INDEX, LAYER_GZIP, MANIFEST};
use longshore_tests::random::Random;
use serde_json::json;

use crate::{KIB, MIB};

/// Once in so many layers one goes to an object store in parts.
const LARGE_EVERY: usize = 400;

/// A manifest with what it needs, in a repository. No two are alike, so each is its client's own.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) repository: String,
    pub(crate) manifest: Blob,
    /// Its layers and its configuration.
    pub(crate) blobs: Vec<Arc<Blob>>,
    /// Of an index.
    pub(crate) children: Vec<Arc<Content>>,
}

impl Content {
    /// An image of these layers.
    pub(crate) fn image(repository: &str, layers: Vec<Arc<Blob>>, random: &mut Random) -> Self {
        let config = Arc::new(Blob::of_json(CONFIG, &json!({ "random": random.number() })));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": layers.iter().map(|layer| layer.descriptor()).collect::<Vec<_>>(),
        });
        let blobs = layers.into_iter().chain([config]).collect();
        Self {
            repository: repository.to_owned(),
            manifest: Blob::of_json(MANIFEST, &manifest),
            blobs,
            children: vec![],
        }
    }

    /// An index of these images of a repository.
    pub(crate) fn index(repository: &str, children: Vec<Arc<Self>>, random: &mut Random) -> Self {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": children.iter().map(|child| child.manifest.descriptor()).collect::<Vec<_>>(),
            "annotations": { "dev.longshore.soak": random.number().to_string() },
        });
        Self { repository: repository.to_owned(), manifest: Blob::of_json(INDEX, &manifest), blobs: vec![], children }
    }

    /// A signature, or the like, of something that is there.
    pub(crate) fn referrer(subject: &Self, random: &mut Random) -> Self {
        let (config, length) = (Arc::new(Blob::of_json("application/vnd.oci.empty.v1+json", &json!({}))), 100);
        let layer = Arc::new(Blob::new("application/vnd.example.signature.v1", random.bytes(length)));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.example.signature.v1",
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
            "subject": subject.manifest.descriptor(),
        });
        Self {
            repository: subject.repository.clone(),
            manifest: Blob::of_json(MANIFEST, &manifest),
            blobs: vec![layer, config],
            children: vec![],
        }
    }

    pub(crate) fn digest(&self) -> &str {
        &self.manifest.digest
    }
}

/// A layer that nobody has: most are rows or small objects, a few come in parts.
pub(crate) fn layer(random: &mut Random) -> Arc<Blob> {
    let length = if random.once_in(LARGE_EVERY) {
        random.between(9 * MIB, 10 * MIB)
    } else if random.once_in(2) {
        random.between(2, 8 * KIB)
    } else {
        random.between(17 * KIB, 60 * KIB)
    };
    Arc::new(Blob::new(LAYER_GZIP, random.bytes(length)))
}
