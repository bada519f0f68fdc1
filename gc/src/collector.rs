//! Passes over all steps, again and again while the server runs.

use crate::{Error, House, objects, uploads};
use longshore_metadata::Metadata;
use longshore_storage::FileStore;
use std::time::Duration;

/// Runs the steps.
#[derive(Debug, Clone)]
pub struct Collector(House);

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Upload sessions that had expired.
    pub uploads: u64,
    /// Objects whose bytes are gone now.
    pub objects: u64,
}

impl Collector {
    /// A collector for this database and these files.
    pub fn new(metadata: Metadata, files: FileStore) -> Self {
        Self(House { metadata, files })
    }

    /// One pass over all steps, until none of them finds anything more to do.
    ///
    /// # Errors
    /// The first one; what was done before it stays done.
    pub async fn pass(&self) -> Result<Collected, Error> {
        let uploads = uploads::expire(&self.0).await?;
        let objects = objects::delete_condemned(&self.0).await?;
        Ok(Collected { uploads, objects })
    }

    /// Passes every `interval`, each reported, until the future is dropped. A failed pass is reported and tried again.
    pub async fn run(&self, interval: Duration, report: impl Fn(&Result<Collected, Error>)) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            report(&self.pass().await);
        }
    }
}
