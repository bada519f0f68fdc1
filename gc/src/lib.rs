#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod collector;
mod objects;
mod uploads;

pub use collector::{Collected, Collector};

use longshore_metadata::Metadata;
use longshore_storage::Storage;

/// An error of a step. What the step had done before stays done; the next pass goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the database failed during garbage collection")]
    Metadata(#[from] longshore_metadata::Error),
    /// An object could not be deleted.
    #[error("storage failed during garbage collection")]
    Storage(#[from] longshore_storage::Error),
}

/// What every step works on.
#[derive(Debug, Clone)]
struct House {
    metadata: Metadata,
    storage: Storage,
}
