#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod blobs;
mod error;
mod head;
mod history;
mod lists;
mod manifests;
mod pulls;
mod referrers;
mod resting;
mod rules;
mod session;
mod sessions;
mod uploads;

pub use blobs::{Blob, BlobReader};
pub use error::Error;
pub use lists::Page;
pub use longshore_storage::{Delivery, PresignedUrl};
pub use manifests::{NewManifest, PushedManifest, StoredManifest};
pub use pulls::{PullCounts, Purpose};
pub use referrers::Referrers;
pub use rules::Rules;
pub use uploads::{Body, BodyError, Chunk};

use longshore_metadata::Metadata;
use longshore_storage::Storage;
use pulls::Pulls;
use std::sync::Arc;

/// What every call of this crate answers.
pub type Result<T> = std::result::Result<T, Error>;

/// A registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    metadata: Metadata,
    storage: Storage,
    rules: Arc<Rules>,
    sessions: sessions::OpenSessions,
    /// Where pulls are counted.
    pulls: Option<Arc<Pulls>>,
}

impl Registry {
    /// A registry over this database and these objects.
    pub fn new(metadata: Metadata, storage: Storage, rules: Rules) -> Self {
        let pulls = rules.count_pulls.then(|| Arc::new(Pulls::new()));
        Self { metadata, storage, rules: Arc::new(rules), sessions: sessions::OpenSessions::default(), pulls }
    }

    /// The rules that it keeps.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether both the database and the store of the objects answer, as a readiness probe asks.
    ///
    /// # Errors
    /// That of the first one that does not.
    pub async fn check(&self) -> Result<()> {
        self.metadata.ping().await?;
        self.storage.check().await?;
        Ok(())
    }

    /// Waits until every upload that is being written has come to its end and saved how far it came.
    pub async fn settle(&self) {
        self.sessions.settle().await;
    }
}
