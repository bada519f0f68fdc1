//! Owns the images of a generated trace: their layers, the sizes of those, and what a push changes.

use super::random::{Random, Zipf};

/// The log-normal distribution of layers, of which 65 % are below 1 MB and 80 % below 10 MB once what is above 1 GiB is
/// drawn again: the shares that were published for the IBM registries (FAST'18).
const LOG_MEAN: f64 = 12.3138;
const LOG_DEVIATION: f64 = 5.9980;
/// The layer of a step that changes no file.
const SMALLEST_LAYER_BYTES: u64 = 32;
/// So many images share one base.
const IMAGES_PER_BASE: usize = 20;
const BASE_LAYERS: (u64, u64) = (2, 4);
const OWN_LAYERS: (u64, u64) = (1, 8);
/// So many layers a push replaces.
const PUSHED_LAYERS: (u64, u64) = (1, 3);
/// What a manifest takes: itself, and each layer that it names.
const MANIFEST_BYTES: u64 = 420;
const MANIFEST_LAYER_BYTES: u64 = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) id: String,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Image {
    /// `<user>/<repo>`.
    pub(super) repository: String,
    pub(super) manifest: String,
    /// Those of its base first.
    pub(super) layers: Vec<Layer>,
    base_layers: usize,
}

impl Image {
    pub(super) fn manifest_bytes(&self) -> u64 {
        MANIFEST_BYTES + MANIFEST_LAYER_BYTES * self.layers.len() as u64
    }

    /// A new version: its last layers are new, and so is its manifest. Answers how many.
    pub(super) fn push(&mut self, random: &mut Random, largest: u64) -> usize {
        let own = (self.layers.len() - self.base_layers) as u64;
        let replaced = random.between(PUSHED_LAYERS.0, PUSHED_LAYERS.1).min(own) as usize;
        let kept = self.layers.len() - replaced;
        self.layers.truncate(kept);
        self.layers.extend((0..replaced).map(|_| layer(random, largest)));
        self.manifest = name(random);
        replaced
    }
}

/// Names that look like the ones of the published traces, which hide the real ones.
pub(super) fn name(random: &mut Random) -> String {
    format!("{:016x}", random.number())
}

fn layer(random: &mut Random, largest: u64) -> Layer {
    Layer { id: name(random), bytes: layer_bytes(random, largest) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and checked to be below `largest`"
)]
fn layer_bytes(random: &mut Random, largest: u64) -> u64 {
    loop {
        let bytes = (LOG_MEAN + LOG_DEVIATION * random.normal()).exp();
        if bytes <= largest as f64 {
            return (bytes as u64).max(SMALLEST_LAYER_BYTES);
        }
    }
}

/// All images, the most popular one first. Bases are as unequal as images are.
pub(super) fn make(count: usize, exponent: f64, largest: u64, random: &mut Random) -> Vec<Image> {
    let bases: Vec<Vec<Layer>> = (0..count.div_ceil(IMAGES_PER_BASE))
        .map(|_| (0..random.between(BASE_LAYERS.0, BASE_LAYERS.1)).map(|_| layer(random, largest)).collect())
        .collect();
    let popularity = Zipf::new(bases.len(), exponent);
    let image = |random: &mut Random| {
        let mut layers = bases[popularity.choose(random)].clone();
        let base_layers = layers.len();
        layers.extend((0..random.between(OWN_LAYERS.0, OWN_LAYERS.1)).map(|_| layer(random, largest)));
        let repository = format!("{}/{}", &name(random)[..8], &name(random)[..8]);
        Image { repository, manifest: name(random), layers, base_layers }
    };
    (0..count).map(|_| image(random)).collect()
}

/// How many requests a push has on average.
pub(super) fn requests_of_push() -> f64 {
    (PUSHED_LAYERS.0 + PUSHED_LAYERS.1) as f64 / 2.0 + 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_as_large_as_those_that_were_published() {
        let mut random = Random::new(3);
        let sizes: Vec<u64> = (0..50_000).map(|_| layer_bytes(&mut random, 1 << 30)).collect();
        let below = |bytes: u64| sizes.iter().filter(|size| **size < bytes).count() as f64 / sizes.len() as f64;
        assert!((below(1_000_000) - 0.65).abs() < 0.01, "{}", below(1_000_000));
        assert!((below(10_000_000) - 0.80).abs() < 0.01, "{}", below(10_000_000));
        assert!(sizes.iter().all(|size| (32..=1 << 30).contains(size)));
    }

    #[test]
    fn a_push_replaces_layers_of_its_own_alone() {
        let mut random = Random::new(4);
        let mut image = make(40, 1.0, 1 << 30, &mut random).remove(0);
        let before = image.clone();
        let pushed = image.push(&mut random, 1 << 30);
        let kept = before.layers.len() - pushed;
        assert!(pushed > 0 && kept >= before.base_layers);
        assert_eq!(image.layers[..kept], before.layers[..kept]);
        assert!(image.layers[kept..].iter().all(|layer| !before.layers.contains(layer)));
        assert_ne!(image.manifest, before.manifest);
    }
}
