//! What the reading of all objects found, in numbers and in the log.

use longshore_gc::{Damage, Error, ScrubReport, Scrubber, unread_for};
use longshore_oci::RepositoryName;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use std::time::Duration;

/// Numbers of the reading of all objects.
#[derive(Debug, Default)]
pub(super) struct ScrubMetrics {
    objects: Counter,
    rows: Counter,
    bytes: Counter,
    failures: Counter,
    damaged: Gauge,
    damaged_manifests: Gauge,
    round: Gauge,
}

impl ScrubMetrics {
    pub(super) fn register(&self, ours: &mut Registry) {
        ours.register("scrub_objects", "Objects that were read again", self.objects.clone());
        let about = "Manifests and small blobs that were read again, in their rows";
        ours.register("scrub_rows", about, self.rows.clone());
        ours.register("scrub_bytes", "Bytes of all that was read again", self.bytes.clone());
        ours.register(
            "scrub_failures",
            "Readings of objects that the store or the database broke off",
            self.failures.clone(),
        );
        ours.register("damaged_blobs", "Blobs that nobody can read until they are pushed anew", self.damaged.clone());
        let about = "Manifests that nobody can read until they are pushed anew";
        ours.register("damaged_manifests", about, self.damaged_manifests.clone());
        let about = "How long ago the last reading of all objects began";
        ours.register("scrub_round_age_seconds", about, self.round.clone());
    }

    /// Counts what was read, and logs what was found.
    pub(super) fn passed(&self, outcome: Result<&ScrubReport, &Error>) {
        let report = match outcome {
            Ok(report) => report,
            Err(error) => {
                self.failures.inc();
                tracing::warn!(error = %crate::error::chain(error), "objects could not be read again, which goes on later");
                return;
            }
        };
        self.objects.inc_by(report.objects);
        self.rows.inc_by(report.rows);
        self.bytes.inc_by(report.bytes);
        for damage in report.damaged.iter().filter(|damage| !damage.is_known) {
            let Damage { key, repository, digest, reason, .. } = damage;
            let repository = repository.as_ref().map(RepositoryName::as_str);
            tracing::error!(key, repository, %digest, reason, "something is damaged: nobody can pull it until it is pushed anew");
        }
        for what in &report.recovered {
            tracing::info!(what, "what was damaged is right again");
        }
    }

    /// Looks how much is damaged, and how long ago a round began, whoever reads. Where nobody does, no round is late.
    pub(super) async fn look(&self, scrubber: &Scrubber, is_reading: bool) {
        let told = async {
            let (state, blobs) = (scrubber.state().await?, scrubber.damaged().await?);
            Ok::<_, Error>((state, blobs, scrubber.damaged_manifests().await?))
        };
        if let Ok((state, damaged, manifests)) = told.await {
            self.damaged_manifests.set(i64::try_from(manifests).unwrap_or(i64::MAX));
            let unread = if is_reading { unread_for(&state) } else { Duration::ZERO };
            self.round.set(i64::try_from(unread.as_secs()).unwrap_or(i64::MAX));
            self.damaged.set(i64::try_from(damaged).unwrap_or(i64::MAX));
        }
    }
}
