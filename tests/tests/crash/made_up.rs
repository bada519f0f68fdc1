//! Images of random bytes, for pushes that nobody runs.

use longshore_tests::image::{Blob, CONFIG, Image, LAYER_GZIP, MANIFEST};
use longshore_tests::random::Random;
use serde_json::json;

use crate::{KIB, MIB};

/// A layer of random bytes.
pub(crate) fn layer(random: &mut Random, length: usize) -> Blob {
    Blob::new(LAYER_GZIP, random.bytes(length))
}

/// An image of these layers and a configuration of its own.
pub(crate) fn image_of(random: &mut Random, layers: Vec<Blob>) -> Image {
    let padding = "x".repeat(random.between(0, 20 * KIB));
    let config = Blob::of_json(CONFIG, &json!({ "random": random.number(), "padding": padding }));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
    });
    Image { config, layers, manifest: Blob::of_json(MANIFEST, &manifest), prints: String::new() }
}

/// An image with one layer for each way that the server keeps bytes: in a row, in a small object, in a large one.
pub(crate) fn image(random: &mut Random) -> Image {
    // Two bytes at least: a session of one byte looks like an empty one.
    let small = random.between(2, 16 * KIB);
    let large = random.between(MIB, 5 * MIB);
    let layers = vec![layer(random, small), layer(random, 100 * KIB), layer(random, large)];
    image_of(random, layers)
}
