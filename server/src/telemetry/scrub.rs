//! What the reading of all objects found, in numbers and in the log.

use longshore_gc::{Error, ScrubReport, Scrubber, unread_for};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use std::time::Duration;

/// Numbers of the reading of all objects.
#[derive(Debug, Default)]
pub(super) struct ScrubMetrics {
    objects: Counter,
    bytes: Counter,
    failures: Counter,
    damaged: Gauge,
    round: Gauge,
}

impl ScrubMetrics {
    pub(super) fn register(&self, ours: &mut Registry) {
        ours.register("scrub_objects", "Objects that were read again", self.objects.clone());
        ours.register("scrub_bytes", "Bytes of objects that were read again", self.bytes.clone());
        ours.register(
            "scrub_failures",
            "Readings of objects that the store or the database broke off",
            self.failures.clone(),
        );
        ours.register("damaged_blobs", "Blobs that nobody can read until they are pushed anew", self.damaged.clone());
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
        self.bytes.inc_by(report.bytes);
        for damage in report.damaged.iter().filter(|damage| !damage.is_known) {
            let (key, digest, reason) = (&damage.key, &damage.digest, &damage.reason);
            tracing::error!(key, %digest, reason, "a blob is damaged: nobody can pull it until it is pushed anew");
        }
        for key in &report.recovered {
            tracing::info!(key, "a damaged blob is right again");
        }
    }

    /// Looks how many blobs are damaged, and how long ago a round began, whoever reads. Where nobody does, no round is late.
    pub(super) async fn look(&self, scrubber: &Scrubber, is_reading: bool) {
        let told = async { Ok::<_, Error>((scrubber.state().await?, scrubber.damaged().await?)) };
        if let Ok((state, damaged)) = told.await {
            let unread = if is_reading { unread_for(&state) } else { Duration::ZERO };
            self.round.set(i64::try_from(unread.as_secs()).unwrap_or(i64::MAX));
            self.damaged.set(i64::try_from(damaged).unwrap_or(i64::MAX));
        }
    }
}
