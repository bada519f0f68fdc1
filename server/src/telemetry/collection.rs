//! What garbage collection did, in numbers and in the log.

use super::numbers::{seconds_of, whole_seconds};
use longshore_gc::{Collected, Error, Event, Halt};
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

    /// Counts what a pass has done just now.
    pub(super) fn happened(&self, event: &Event) {
        let count = |counter: &Counter, count: u64| {
            counter.inc_by(count);
        };
        match event {
            Event::UploadsExpired(sessions) => count(&self.uploads, *sessions),
            Event::Retained(retained) => {
                count(&self.repositories, retained.repositories);
                count(&self.tags, retained.tags);
                count(&self.tags_reported, retained.reported);
                count(&self.build_caches, retained.build_caches.count);
            }
            Event::Manifests(deleted) => count(&self.manifests, deleted.count),
            Event::Grants(deleted) => count(&self.grants, deleted.count),
            Event::Blobs(deleted) => count(&self.blobs, deleted.count),
            Event::Objects(deleted) => {
                count(&self.objects, deleted.count);
                count(&self.freed_bytes, deleted.bytes);
            }
            Event::Halted(_) => {
                self.is_halted.set(1);
            }
            Event::Overdue(overdue) => {
                self.overdue.set(whole_seconds(*overdue));
            }
        }
    }

    /// Counts a pass, and logs what it did and what became of it.
    pub(super) fn passed(&self, collected: &Collected, outcome: Result<(), &Error>) {
        match (outcome, &collected.halt) {
            (Err(error), _) => {
                self.failures.inc();
                tracing::error!(error = %crate::error::chain(error), "garbage collection failed, and is tried again");
            }
            (Ok(()), None) => {
                self.passes.inc();
                self.is_halted.set(0);
                self.last_success.set(seconds_of(SystemTime::now()));
            }
            (Ok(()), Some(Halt::Until(time))) => tracing::warn!(
                until = %humantime::format_rfc3339_seconds(*time),
                "garbage collection waits: the clock was moved"
            ),
            (Ok(()), Some(Halt::Stopped(why))) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_metadata::Deleted;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn what_was_deleted_before_an_error_is_counted() {
        let (metrics, mut registry) = (CollectionMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let mut collected = Collected::default();
        for event in [Event::Manifests(Deleted { count: 2, bytes: 20 }), Event::Objects(Deleted { count: 1, bytes: 7 })]
        {
            metrics.happened(&event);
            collected += event;
        }
        let said = |registry: &Registry| {
            let mut text = String::new();
            encode(&mut text, registry).unwrap();
            text
        };
        assert!(said(&registry).contains("gc_manifests_deleted_total 2\n"), "at once: {}", said(&registry));
        metrics.passed(&collected, Err(&Error::ClockMoved));
        for line in [
            "gc_manifests_deleted_total 2\n",
            "gc_freed_bytes_total 7\n",
            "gc_failures_total 1\n",
            "gc_passes_total 0\n",
        ] {
            assert!(said(&registry).contains(line), "{line}: {}", said(&registry));
        }
    }
}
