//! Which path leads where. The registry's own paths have names with slashes in them, so they are told apart in
//! `oci::route` and not here.

use super::early;
use crate::{app::App, error::ApiError, health, oci, telemetry::access_log};
use axum::{Router, middleware, routing::get};
use http::StatusCode;
use longshore_oci::ErrorCode;
use std::sync::Arc;

/// Everything that is served on the main address.
pub(super) fn registry(app: Arc<App>) -> Router {
    let mut routes = probes();
    if app.settings.metrics.enabled && app.settings.metrics.address.is_none() {
        routes = routes.route("/metrics", get(health::metrics));
    }
    routes
        .route("/v2", axum::routing::any(oci::serve))
        .route("/v2/", axum::routing::any(oci::serve))
        .route("/v2/{*path}", axum::routing::any(oci::serve))
        .fallback(nothing_here)
        .layer(middleware::from_fn(early::close_unread))
        .layer(middleware::from_fn_with_state(app.clone(), access_log::observe))
        .with_state(app)
}

/// What is served on the metrics address, if it has one of its own.
pub(super) fn metrics_only(app: Arc<App>) -> Router {
    probes().route("/metrics", get(health::metrics)).fallback(nothing_here).with_state(app)
}

fn probes() -> Router<Arc<App>> {
    Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(health::readyz))
}

async fn nothing_here() -> ApiError {
    ApiError::new(ErrorCode::Unsupported, "nothing is served here: the registry's API is below /v2/")
        .with_status(StatusCode::NOT_FOUND)
}
