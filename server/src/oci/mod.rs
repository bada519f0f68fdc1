//! The registry's API of the OCI distribution specification. Each handler is a short story: parse, authorise, one call
//! into the registry, answer.

mod blobs;
mod content;
mod lists;
mod manifests;
mod query;
mod ranges;
mod redirects;
mod referrers;
mod request_body;
mod route;
mod uploads;

pub(crate) use route::route_name;

use crate::{access, answer, app::App, client::Client, error::ApiError};
use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use longshore_auth::{Action, Principal};
use longshore_oci::ErrorCode;
use longshore_registry::Delivery;
use query::Query;
use route::Route;
use std::sync::Arc;

/// A request whose path and caller are known.
struct Call {
    app: Arc<App>,
    client: Client,
    caller: Principal,
    query: Query,
    request: Request,
}

type Answer = Result<Response, ApiError>;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Everything below `/v2`.
pub(crate) async fn serve(app: Arc<App>, client: Client, request: Request) -> Response {
    let mut response = answer(app, client, request).await.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    // What users push must never run in a browser under our name.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    response
}

async fn answer(app: Arc<App>, client: Client, request: Request) -> Answer {
    let caller = access::authenticate(&app, request.headers()).await?;
    let route = Route::parse(request.uri().path())?;
    let method = request.method().clone();
    let Some(action) = action(&route, &method) else {
        return Err(wrong_method(&route));
    };
    access::authorise(&app, &caller, action, route.repository())?;
    let query = Query::parse(request.uri().query())?;
    let call = Call { app, client, caller, query, request };
    let head = method == Method::HEAD;
    // All but the most frequent are boxed: a connection keeps room for the largest future that is not.
    match (route, method.as_str()) {
        (Route::Base, _) => Ok(base()),
        (Route::Catalog, _) => Box::pin(lists::catalog(call)).await,
        (Route::Tags(repository), _) => Box::pin(lists::tags(call, repository)).await,
        (Route::Referrers(repository, subject), _) => Box::pin(referrers::list(call, repository, subject)).await,
        (Route::Manifest(repository, reference), "PUT") => Box::pin(manifests::put(call, repository, reference)).await,
        (Route::Manifest(repository, reference), "DELETE") => {
            Box::pin(manifests::delete(call, repository, reference)).await
        }
        (Route::Manifest(repository, reference), _) => manifests::get(call, repository, reference).await,
        (Route::Blob(repository, digest), "DELETE") => Box::pin(blobs::delete(call, repository, digest)).await,
        (Route::Blob(repository, digest), _) if head => blobs::head(call, repository, digest).await,
        (Route::Blob(repository, digest), _) => blobs::get(call, repository, digest).await,
        (Route::Uploads(repository), _) => Box::pin(uploads::start(call, repository)).await,
        (Route::Upload(repository, id), "PATCH") => Box::pin(uploads::append(call, repository, id)).await,
        (Route::Upload(repository, id), "PUT") => Box::pin(uploads::finish(call, repository, id)).await,
        (Route::Upload(repository, id), "DELETE") => Box::pin(uploads::cancel(call, repository, id)).await,
        (Route::Upload(repository, id), _) => Box::pin(uploads::status(call, repository, id)).await,
    }
}

/// What a request of this method does there; `None` where the method makes no sense.
fn action(route: &Route, method: &Method) -> Option<Action> {
    match (route, method.as_str()) {
        (Route::Base | Route::Catalog, "GET" | "HEAD") => Some(Action::List),
        (Route::Tags(_) | Route::Referrers(..) | Route::Manifest(..) | Route::Blob(..), "GET" | "HEAD") => {
            Some(Action::Pull)
        }
        (Route::Manifest(..), "PUT") | (Route::Uploads(_), "POST") => Some(Action::Push),
        // Whoever may push may also ask for, and give up, a session of their own.
        (Route::Upload(..), "GET" | "HEAD" | "PATCH" | "PUT" | "DELETE") => Some(Action::Push),
        (Route::Manifest(..) | Route::Blob(..), "DELETE") => Some(Action::Delete),
        _ => None,
    }
}

fn wrong_method(route: &Route) -> ApiError {
    let allowed = match route {
        Route::Base | Route::Catalog | Route::Tags(_) | Route::Referrers(..) => "GET, HEAD",
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
    };
    ApiError::new(ErrorCode::Unsupported, format!("this path answers to {allowed} only"))
        .with_header(header::ALLOW, allowed)
}

/// end-1: what speaks here is a registry.
fn base() -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], "{}").into_response()
}

impl Call {
    fn headers(&self) -> &http::HeaderMap {
        self.request.headers()
    }

    /// What the connection does with content: over plain HTTP/1.1 nobody looks at it but the kernel.
    fn delivery(&self) -> Delivery {
        let is_plain = self.app.settings.http.tls.is_none() && self.request.version() < Version::HTTP_2;
        if is_plain { Delivery::Mapped } else { Delivery::Copied }
    }
}

/// An answer that says only where something is now.
fn located(status: StatusCode, location: &str) -> Response {
    answer::with(answer::empty(status), header::LOCATION, location)
}
