//! What garbage collection did, in numbers and in the log.

use super::numbers::{seconds_of, whole_seconds};
use longshore_gc::{Collected, Error, Halt};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use std::time::SystemTime;

/// Numbers of garbage collection.
#[derive(Debug, Default)]
pub(super) struct CollectionMetrics {
    passes: Counter,
    uploads: Counter,
    repositories: Counter,
    tags: Counter,
    tags_reported: Counter,
    build_caches: Counter,
    manifests: Counter,
    grants: Counter,
    blobs: Counter,
    objects: Counter,
    freed_bytes: Counter,
    failures: Counter,
    last_success: Gauge,
    is_halted: Gauge,
    overdue: Gauge,
}

impl CollectionMetrics {
    pub(super) fn register(&self, ours: &mut Registry) {
        ours.register("gc_passes", "Garbage collection passes that came to their end", self.passes.clone());
        ours.register("gc_uploads_expired", "Upload sessions that expired", self.uploads.clone());
        let about = "Repositories that rules of retention looked through";
        ours.register("retention_repositories", about, self.repositories.clone());
        ours.register("retention_tags_deleted", "Tags that rules of retention deleted", self.tags.clone());
        let about = "Tags that rules of retention which only report would have deleted, at each look";
        ours.register("retention_tags_reported", about, self.tags_reported.clone());
        let about = "Old generations of build caches that rules of retention deleted";
        ours.register("retention_build_caches_deleted", about, self.build_caches.clone());
        ours.register("gc_manifests_deleted", "Manifests that nothing kept any more", self.manifests.clone());
        ours.register("gc_grants_deleted", "Holds of repositories on blobs that ended", self.grants.clone());
        ours.register("gc_blobs_deleted", "Blobs that no repository held", self.blobs.clone());
        ours.register("gc_objects_deleted", "Objects whose bytes were deleted", self.objects.clone());
        ours.register("gc_freed_bytes", "Bytes of those objects", self.freed_bytes.clone());
        ours.register("gc_failures", "Garbage collection passes that failed", self.failures.clone());
        let about = "When garbage collection last came to its end";
        ours.register("gc_last_success_timestamp_seconds", about, self.last_success.clone());
        ours.register("gc_halted", "Whether garbage collection waits or was stopped", self.is_halted.clone());
        let about = "For how long the oldest review has been due";
        ours.register("gc_overdue_seconds", about, self.overdue.clone());
    }

    /// Counts a pass, and logs it if it did or failed anything.
    pub(super) fn passed(&self, outcome: &Result<Collected, Error>) {
        match outcome {
            Ok(collected) => self.count(collected),
            Err(error) => {
                self.failures.inc();
                tracing::error!(error = %crate::error::chain(error), "garbage collection failed, and is tried again");
            }
        }
    }

    fn count(&self, collected: &Collected) {
        self.uploads.inc_by(collected.uploads);
        self.repositories.inc_by(collected.retained.repositories);
        self.tags.inc_by(collected.retained.tags);
        self.tags_reported.inc_by(collected.retained.reported);
        self.build_caches.inc_by(collected.retained.build_caches.count);
        self.manifests.inc_by(collected.manifests.count);
        self.grants.inc_by(collected.grants.count);
        self.blobs.inc_by(collected.blobs.count);
        self.objects.inc_by(collected.objects.count);
        self.freed_bytes.inc_by(collected.objects.bytes);
        self.overdue.set(whole_seconds(collected.overdue));
        self.is_halted.set(i64::from(collected.halt.is_some()));
        match &collected.halt {
            None => {
                self.passes.inc();
                self.last_success.set(seconds_of(SystemTime::now()));
            }
            Some(Halt::Until(time)) => tracing::warn!(
                until = %humantime::format_rfc3339_seconds(*time),
                "garbage collection waits: the clock was moved"
            ),
            Some(Halt::Stopped(why)) => {
                tracing::error!(why, "garbage collection was stopped: see longshore gc --dry-run and --resume");
            }
        }
        if !collected.is_nothing() {
            tracing::info!(
                uploads = collected.uploads,
                tags = collected.retained.tags,
                build_caches = collected.retained.build_caches.count,
                manifests = collected.manifests.count,
                grants = collected.grants.count,
                blobs = collected.blobs.count,
                objects = collected.objects.count,
                freed_bytes = collected.objects.bytes,
                "collected garbage"
            );
        }
    }
}
