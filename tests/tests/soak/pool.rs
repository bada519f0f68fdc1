//! Layers that images of all clients share, in all repositories, as base images are. They come and go.

use std::sync::{Arc, Mutex, PoisonError};

use longshore_tests::image::Blob;
use longshore_tests::random::Random;

use crate::content;

/// How many are in use at a time. Enough that some lie unused for as long as they are promised.
const LAYERS: usize = 24;
/// Once in so many uses a layer makes room for another one.
const GONE_AFTER: usize = 30;

/// The layers.
#[derive(Debug)]
pub(crate) struct Pool(Mutex<Vec<Arc<Blob>>>);

impl Pool {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self(Mutex::new((0..LAYERS).map(|_| content::layer(random)).collect()))
    }

    /// Some layers, all different, at most two.
    pub(crate) fn some(&self, random: &mut Random) -> Vec<Arc<Blob>> {
        let mut layers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, count) = (random.between(0, LAYERS), random.between(0, 3));
        if random.once_in(GONE_AFTER) {
            layers[first] = content::layer(random);
        }
        (first..first + count).map(|index| Arc::clone(&layers[index % LAYERS])).collect()
    }

    /// One of them.
    pub(crate) fn one(&self, random: &mut Random) -> Arc<Blob> {
        let layers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&layers[random.between(0, LAYERS)])
    }
}
