//! What every request passes first. The registry's own paths go straight to `oci`: their names have slashes in them, so
//! they are told apart there, and a general router would only add its cost to each. All other paths have a router.

use super::early;
use crate::{
    app::App,
    client::Client,
    error::ApiError,
    health, oci,
    telemetry::access_log::{self, Observed},
};
use axum::{Router, body::Body, response::Response, routing::get};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use longshore_oci::ErrorCode;
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tower::ServiceExt as _;

/// What is served at one address.
#[derive(Debug, Clone)]
pub(super) struct Front {
    app: Arc<App>,
    serves: Serves,
    routes: Router,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    Registry,
    /// Nothing else, and no access lines: they are asked every few seconds.
    Probes,
}

impl Front {
    /// Everything that is served on the main address.
    pub(super) fn registry(app: Arc<App>) -> Self {
        let mut routes = probes();
        if app.settings.metrics.enabled && app.settings.metrics.address.is_none() {
            routes = routes.route("/metrics", get(health::metrics));
        }
        Self { routes: routes.fallback(nothing_here).with_state(app.clone()), app, serves: Serves::Registry }
    }

    /// What is served on the metrics address, if it has one of its own.
    pub(super) fn metrics_only(app: Arc<App>) -> Self {
        let routes = probes().route("/metrics", get(health::metrics));
        Self { routes: routes.fallback(nothing_here).with_state(app.clone()), app, serves: Serves::Probes }
    }

    /// Answers a request.
    pub(super) async fn answer(
        self,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Result<Response<Observed>, Infallible> {
        let request = request.map(Body::new);
        if self.serves == Serves::Probes {
            return Ok(self.route(request).await.map(Observed::unobserved));
        }
        let app = self.app.clone();
        let client = Client::of(peer, request.headers(), &app.settings.http);
        let response = access_log::observe(app, client, request, |request| {
            early::close_unread(request, |request| self.dispatch(client, request))
        });
        Ok(response.await)
    }

    async fn dispatch(self, client: Client, request: Request<Body>) -> Response {
        let path = request.uri().path();
        if path == "/v2" || path.starts_with("/v2/") {
            oci::serve(self.app, client, request).await
        } else {
            self.route(request).await
        }
    }

    async fn route(self, request: Request<Body>) -> Response {
        match self.routes.oneshot(request).await {
            Ok(response) => response,
            Err(impossible) => match impossible {},
        }
    }
}

fn probes() -> Router<Arc<App>> {
    Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(health::readyz))
}

async fn nothing_here() -> ApiError {
    ApiError::new(ErrorCode::Unsupported, "nothing is served here: the registry's API is below /v2/")
        .with_status(StatusCode::NOT_FOUND)
}
