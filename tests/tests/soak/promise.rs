//! What has been promised for a while, and is called in before that has ended.

use std::time::{Duration, Instant};

use longshore_tests::random::Random;

/// How many promises a client keeps in mind.
const KEPT: usize = 40;

/// Something that must be there for a while.
#[derive(Debug)]
pub(crate) struct Promise<T> {
    pub(crate) thing: T,
    /// It was promised later than this, and so is due until later than this and its time.
    asked: Instant,
    lasts: Duration,
}

impl<T> Promise<T> {
    /// Whether an answer that came then had to keep it.
    pub(crate) fn binds(&self, answered: Instant) -> bool {
        answered < self.asked + self.lasts
    }
}

/// Promises, of which the oldest are the interesting ones.
#[derive(Debug)]
pub(crate) struct Promises<T> {
    lasts: Duration,
    all: Vec<Promise<T>>,
}

impl<T> Promises<T> {
    /// Promises that last so long.
    pub(crate) fn lasting(lasts: Duration) -> Self {
        Self { lasts, all: Vec::new() }
    }

    /// Keeps one in mind that was asked for then, and forgets any other if they are too many.
    pub(crate) fn keep(&mut self, thing: T, asked: Instant, random: &mut Random) {
        let promise = Promise { thing, asked, lasts: self.lasts };
        if self.all.len() < KEPT {
            self.all.push(promise);
        } else {
            let index = random.between(0, KEPT);
            self.all[index] = promise;
        }
    }

    /// The one that ends next.
    pub(crate) fn oldest(&mut self) -> Option<Promise<T>> {
        let now = Instant::now();
        self.all.retain(|promise| promise.binds(now));
        let oldest = (0..self.all.len()).min_by_key(|index| self.all[*index].asked)?;
        Some(self.all.swap_remove(oldest))
    }

    /// Forgets those that are void.
    pub(crate) fn forget(&mut self, is_void: impl Fn(&T) -> bool) {
        self.all.retain(|promise| !is_void(&promise.thing));
    }
}
