//! Small things to push.

use longshore_tests::client::Client;
use longshore_tests::image::{Blob, CONFIG, INDEX, LAYER_GZIP, MANIFEST, random_bytes};
use serde_json::{Value, json};

/// An image of two small blobs. No other test has the same.
#[derive(Clone, Debug)]
pub(crate) struct SmallImage {
    pub(crate) config: Blob,
    pub(crate) layer: Blob,
    pub(crate) manifest: Blob,
}

impl SmallImage {
    pub(crate) fn new() -> Self {
        let config = Blob::new(CONFIG, random_bytes(100));
        let layer = Blob::new(LAYER_GZIP, random_bytes(200));
        let manifest = image_manifest(&config, &[&layer]);
        Self { config, layer, manifest }
    }

    /// A new image, its blobs pushed, but not its manifest.
    pub(crate) async fn with_blobs_in(client: &Client, repository: &str) -> Self {
        let image = Self::new();
        client.push_blob(repository, &image.config).await;
        client.push_blob(repository, &image.layer).await;
        image
    }

    /// A new image, pushed under a tag.
    pub(crate) async fn pushed_to(client: &Client, repository: &str, tag: &str) -> Self {
        let image = Self::with_blobs_in(client, repository).await;
        client.push_manifest(repository, tag, &image.manifest).await;
        image
    }
}

pub(crate) fn image_manifest(config: &Blob, layers: &[&Blob]) -> Blob {
    Blob::of_json(MANIFEST, &image_document(config, layers))
}

/// An image's manifest, for tests that change something in it.
pub(crate) fn image_document(config: &Blob, layers: &[&Blob]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": layers.iter().map(|layer| layer.descriptor()).collect::<Vec<_>>(),
    })
}

/// An index of anything.
pub(crate) fn index_of(entries: &[&Blob]) -> Blob {
    let entries: Vec<Value> = entries.iter().map(|entry| entry.descriptor()).collect();
    Blob::of_json(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }))
}
