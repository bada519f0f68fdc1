//! What every handler works with.

use crate::telemetry::{AccessLines, Metrics};
use longshore_auth::Policy;
use longshore_config::Settings;
use longshore_registry::Registry;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio_util::sync::CancellationToken;

/// The server's parts.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) registry: Registry,
    pub(crate) policy: Policy,
    pub(crate) metrics: Arc<Metrics>,
    /// None: access lines go to the general log.
    pub(crate) access_lines: Option<AccessLines>,
    pub(crate) readiness: Readiness,
    pub(crate) settings: Settings,
}

/// Whether the server wants new work.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    leaving: AtomicBool,
    closed: CancellationToken,
}

impl Readiness {
    /// False once the server is on its way out: balancers look elsewhere.
    pub(crate) fn is_ready(&self) -> bool {
        !self.leaving.load(Ordering::Relaxed)
    }

    /// From now on the server is not ready.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// From now on no connection is accepted.
    pub(crate) fn close_listeners(&self) {
        self.closed.cancel();
    }

    /// Comes when no more connections are to be accepted.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }
}
