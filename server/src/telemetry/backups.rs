//! How old the newest backup is, in a number.

use super::numbers::seconds_of;
use longshore_gc::newest_backup;
use longshore_storage::Storage;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

/// When the newest backup in the store was taken.
#[derive(Debug, Default)]
pub(super) struct BackupMetrics {
    newest: Gauge,
}

impl BackupMetrics {
    pub(super) fn register(&self, ours: &mut Registry) {
        let about = "When the newest backup in the store was taken that is whole; 0 where there is none";
        ours.register("backup_newest_timestamp_seconds", about, self.newest.clone());
    }

    /// Looks which backups are in the store. Where that cannot be told, the last number stays.
    pub(super) async fn look(&self, storage: &Storage) {
        match newest_backup(storage).await {
            Ok(taken_at) => {
                self.newest.set(taken_at.map_or(0, seconds_of));
            }
            Err(error) => {
                tracing::warn!(error = %crate::error::chain(&error), "the backups in the store could not be listed");
            }
        }
    }
}
