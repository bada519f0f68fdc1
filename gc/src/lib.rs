#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod blobs;
mod clock;
mod collector;
mod grants;
mod manifests;
mod objects;
mod pace;
#[cfg(test)]
mod place;
mod preview;
mod rules;
mod uploads;
mod verdict;

pub use collector::{Collected, Collector, Halt};
pub use preview::{Going, Preview, Share, Staying, preview, why};
pub use rules::Rules;
pub use verdict::{Reason, Verdict};

use clock::Clock;
use longshore_metadata::{Metadata, Review};
use longshore_storage::Storage;
use pace::Pace;

/// An error of a step. What the step had done before stays done; the next pass goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the database failed during garbage collection")]
    Metadata(#[from] longshore_metadata::Error),
    /// An object could not be deleted.
    #[error("storage failed during garbage collection")]
    Storage(#[from] longshore_storage::Error),
    /// The database's clock went another way than ours.
    #[error("the database's clock was moved: garbage collection waits for as long as blobs are promised")]
    ClockMoved,
}

/// What every step works on.
#[derive(Debug, Clone)]
struct House {
    metadata: Metadata,
    storage: Storage,
    rules: Rules,
    clock: Clock,
    pace: Pace,
}

/// Reviews that are read, and ended, together: few, so that no writer waits for long.
const BATCH: u32 = 200;

/// What is to become of a page of reviews.
#[derive(Debug)]
struct Sorted<T> {
    /// They stay until something happens.
    kept: Vec<Review>,
    /// They stay until then at least.
    until: Vec<(Review, std::time::SystemTime)>,
    condemned: Vec<T>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), until: Vec::new(), condemned: Vec::new() }
    }
}

impl<T> Sorted<T> {
    fn add(&mut self, review: Review, verdict: Verdict, condemn: impl FnOnce() -> Option<T>) {
        match verdict {
            Verdict::Kept(_) => self.kept.push(review),
            Verdict::Until(time, _) => self.until.push((review, time)),
            Verdict::Goes => self.condemned.extend(condemn()),
        }
    }
}
