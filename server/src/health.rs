//! Probes, outside of the registry's paths and without a login.

use crate::app::App;
use axum::{extract::State, response::IntoResponse};
use http::{StatusCode, header};
use std::sync::Arc;

/// `/healthz`: the process runs and answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `/readyz`: the server wants work, and its database and its disk answer.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, String) {
    if !app.readiness.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".into());
    }
    match app.registry.check().await {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(error) => {
            tracing::warn!(error = %crate::error::chain(&error), "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
        }
    }
}

/// `/metrics`: for Prometheus.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], app.metrics.encode())
}
