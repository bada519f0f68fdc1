//! One line and one measurement per request, made when its last byte is out: then the status, the bytes and the time
//! are the true ones. And the request's id, which leads from an answer to the log.

use crate::{app::App, oci, telemetry::RequestLabels};
use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use tracing::Instrument as _;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// An id that a client gives may be so long; a longer one is replaced.
const MAX_ID: usize = 128;

/// Gives the request its id, and watches it to its end.
pub(crate) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let mut record = Record::begin(app, &request, id.clone());
    let span = tracing::error_span!("request", request_id = id.to_str().unwrap_or_default());
    let response = next.run(request).instrument(span).await;
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(REQUEST_ID, id);
    record.status = parts.status;
    record.length = length(&record.method, &parts.headers, &body);
    Response::from_parts(parts, Body::new(Observed { body, record }))
}

/// The id that the client gave, if it is a sensible one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        (1..=MAX_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let id = uuid::Uuid::new_v4().simple().to_string();
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"))
    })
}

/// How many bytes the answer has, if that is known. (Nobody asks for the end of a body whose length was announced.)
fn length(method: &Method, headers: &HeaderMap, body: &Body) -> Option<u64> {
    if method == Method::HEAD {
        return Some(0);
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    announced.or_else(|| body.size_hint().exact())
}

/// What is known of a request.
struct Record {
    app: Arc<App>,
    id: HeaderValue,
    begun: Instant,
    method: Method,
    path: String,
    client: Option<SocketAddr>,
    user_agent: Option<HeaderValue>,
    status: StatusCode,
    length: Option<u64>,
    sent: u64,
    ended: bool,
}

impl Record {
    fn begin(app: Arc<App>, request: &Request, id: HeaderValue) -> Self {
        Self {
            app,
            id,
            begun: Instant::now(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            client: request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0),
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
            status: StatusCode::OK,
            length: None,
            sent: 0,
            ended: false,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.begun.elapsed();
        let labels = RequestLabels::new(&self.method, oci::route_name(&self.path), self.status);
        self.app.metrics.answered(&labels, elapsed, self.sent);
        if self.app.settings.log.access {
            tracing::info!(
                target: "longshore::access",
                request_id = self.id.to_str().unwrap_or_default(),
                http.request.method = self.method.as_str(),
                url.path = self.path,
                http.response.status_code = self.status.as_u16(),
                http.response.body.size = self.sent,
                duration_us = elapsed.as_micros() as u64,
                complete = self.ended || self.length == Some(self.sent),
                client.address = self.client.map(tracing::field::display),
                user_agent.original = self.user_agent.as_ref().and_then(|agent| agent.to_str().ok()),
            );
        }
    }
}

/// A body that is counted on its way out.
struct Observed {
    body: Body,
    record: Record,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.record.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(None) => self.record.ended = true,
            Poll::Ready(Some(Err(error))) => {
                tracing::error!(request_id = ?self.record.id, error = %crate::error::chain(error), "an answer was cut short");
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
