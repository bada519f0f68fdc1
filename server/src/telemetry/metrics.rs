//! Metrics for Prometheus. Labels are bounded: routes and statuses, never repositories.

use super::{backups::BackupMetrics, collection::CollectionMetrics, scrub::ScrubMetrics};
use http::{Method, StatusCode};
use longshore_gc::{Collected, Event, ScrubReport, Scrubber};
use longshore_storage::Storage;
use prometheus_client::{
    collector::Collector,
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use std::{sync::Mutex, time::Duration};

/// The buckets that OpenTelemetry advises for requests, in seconds, with longer ones for layers.
const BUCKETS: [f64; 15] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

/// What tells requests apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    method: &'static str,
    route: &'static str,
    status: u16,
}

impl RequestLabels {
    pub(crate) fn new(method: &Method, route: &'static str, status: StatusCode) -> Self {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        Self { method, route, status: status.as_u16() }
    }
}

/// What became of a redirect to the object store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Redirected {
    /// The client was sent there.
    Sent,
    /// No URL could be signed: the blob was served here.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RedirectLabels {
    outcome: &'static str,
}

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Histogram>,
    redirects: Family<RedirectLabels, Counter>,
    sent_bytes: Counter,
    received_bytes: Counter,
    collection: CollectionMetrics,
    scrub: ScrubMetrics,
    backups: BackupMetrics,
    failed_pull_writes: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let new_histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let metrics = Self {
            requests: Family::new_with_constructor(new_histogram),
            redirects: Family::default(),
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
            collection: CollectionMetrics::default(),
            scrub: ScrubMetrics::default(),
            backups: BackupMetrics::default(),
            failed_pull_writes: Counter::default(),
            registry: Mutex::new(Registry::default()),
        };
        registry.register_with_unit(
            "http_server_request_duration",
            "How long requests took, to the last byte",
            Unit::Seconds,
            metrics.requests.clone(),
        );
        let ours = registry.sub_registry_with_prefix("longshore");
        ours.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        ours.register(
            "blob_redirects",
            "Downloads that were to be sent to the object store",
            metrics.redirects.clone(),
        );
        ours.register("sent_bytes", "Bytes of answers", metrics.sent_bytes.clone());
        ours.register("received_blob_bytes", "Bytes of blobs that clients sent", metrics.received_bytes.clone());
        metrics.collection.register(ours);
        metrics.scrub.register(ours);
        metrics.backups.register(ours);
        ours.register(
            "pull_rows_failures",
            "Times that pull statistics could not be written",
            metrics.failed_pull_writes.clone(),
        );
        Self { registry: Mutex::new(registry), ..metrics }
    }

    /// Adds numbers that are asked for at each look.
    pub(crate) fn add(&self, numbers: impl Collector) {
        let mut registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        registry.register_collector(Box::new(numbers));
    }

    /// Counts a request that has ended.
    pub(crate) fn answered(&self, labels: &RequestLabels, elapsed: Duration, sent: u64) {
        self.requests.get_or_create(labels).observe(elapsed.as_secs_f64());
        self.sent_bytes.inc_by(sent);
    }

    /// Counts a download that was to be sent to the object store.
    pub(crate) fn redirected(&self, outcome: Redirected) {
        let outcome = match outcome {
            Redirected::Sent => "sent",
            Redirected::Failed => "failed",
        };
        self.redirects.get_or_create(&RedirectLabels { outcome }).inc();
    }

    /// Counts bytes of a blob that a client sent.
    pub(crate) fn received(&self, bytes: u64) {
        self.received_bytes.inc_by(bytes);
    }

    /// Counts what garbage collection has done just now.
    pub(crate) fn collecting(&self, event: &Event) {
        self.collection.happened(event);
    }

    /// Counts a pass of garbage collection, and logs it if it did or failed anything.
    pub(crate) fn collected(&self, collected: &Collected, outcome: Result<(), &longshore_gc::Error>) {
        self.collection.passed(collected, outcome);
    }

    /// Counts objects that were read again, and logs what was found.
    pub(crate) fn scrubbed(&self, outcome: Result<&ScrubReport, &longshore_gc::Error>) {
        self.scrub.passed(outcome);
    }

    /// Looks how much is damaged; and where objects are read again and again, since when.
    pub(crate) async fn look_for_damage(&self, scrubber: &Scrubber, is_reading: bool) {
        self.scrub.look(scrubber, is_reading).await;
    }

    /// Looks how old the newest backup is.
    pub(crate) async fn look_for_backups(&self, storage: &Storage) {
        self.backups.look(storage).await;
    }

    /// Counts and logs that pull statistics could not be written.
    pub(crate) fn pulls_not_written(&self, error: &longshore_registry::Error) {
        self.failed_pull_writes.inc();
        tracing::warn!(error = %crate::error::chain(error), "pull statistics were not written, and wait for the next time");
    }

    /// All of them as OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = encode(&mut text, &registry) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }
}
