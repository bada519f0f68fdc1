//! One line and one measurement per request, made when its last byte is out: then the status, the bytes and the time
//! are the true ones. And the request's id, which leads from an answer to the log.

use crate::{app::App, client::Client, oci, telemetry::RequestLabels};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Instant, SystemTime},
};
use tracing::Instrument as _;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// An id that a client gives may be so long; a longer one is replaced.
const MAX_ID: usize = 128;
const TARGET: &str = "longshore::access";

/// Gives the request its id, has it answered, and watches it to its end.
pub(crate) async fn observe<B, F>(
    app: Arc<App>,
    client: Client,
    request: Request<B>,
    answer: impl FnOnce(Request<B>) -> F,
) -> Response<Observed>
where
    F: Future<Output = Response>,
{
    let id = request_id(request.headers());
    let mut record = Record::begin(app, client, &request, id.clone());
    let span = tracing::error_span!("request", request_id = id.to_str().unwrap_or_default());
    let (mut parts, body) = answer(request).instrument(span).await.into_parts();
    parts.headers.insert(REQUEST_ID, id);
    record.status = parts.status;
    record.length = length(&record.method, &parts.headers, &body);
    Response::from_parts(parts, Observed { body, record: Some(record) })
}

/// The id that the client gave, if it is a sensible one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        (1..=MAX_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(new_id)
}

/// 32 hexadecimal digits: 16 that all requests of this process share, and 16 that no other request of it has.
fn new_id() -> HeaderValue {
    static PROCESS: LazyLock<(u64, u64)> = LazyLock::new(|| Uuid::new_v4().as_u64_pair());
    static COUNT: AtomicU64 = AtomicU64::new(0);
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let (process, start) = *PROCESS;
    // An odd factor maps different counts to different numbers, and says nothing of how many came before.
    let own = start.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let id = u128::from(process) << 64 | u128::from(own);
    let text: [u8; 32] = std::array::from_fn(|digit| DIGITS[(id >> (124 - 4 * digit)) as usize & 15]);
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
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
    client: Client,
    user_agent: Option<HeaderValue>,
    status: StatusCode,
    length: Option<u64>,
    sent: u64,
    ended: bool,
}

impl Record {
    fn begin<B>(app: Arc<App>, client: Client, request: &Request<B>, id: HeaderValue) -> Self {
        Self {
            app,
            id,
            begun: Instant::now(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            client,
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
            status: StatusCode::OK,
            length: None,
            sent: 0,
            ended: false,
        }
    }

    fn line(&self, duration_us: u64) -> Line<'_> {
        Line {
            timestamp: humantime::format_rfc3339_micros(SystemTime::now()),
            level: "INFO",
            request_id: self.id.to_str().unwrap_or_default(),
            method: self.method.as_str(),
            path: &self.path,
            status: self.status.as_u16(),
            size: self.sent,
            duration_us,
            complete: self.ended || self.length == Some(self.sent),
            client: self.client,
            proxy: self.client.proxy(),
            user_agent: self.user_agent.as_ref().and_then(|agent| agent.to_str().ok()),
            target: TARGET,
        }
    }
}

/// An access line, with OpenTelemetry's names.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "as_text")]
    timestamp: humantime::Rfc3339Timestamp,
    level: &'static str,
    request_id: &'a str,
    #[serde(rename = "http.request.method")]
    method: &'a str,
    #[serde(rename = "url.path")]
    path: &'a str,
    #[serde(rename = "http.response.status_code")]
    status: u16,
    #[serde(rename = "http.response.body.size")]
    size: u64,
    duration_us: u64,
    complete: bool,
    #[serde(rename = "client.address", serialize_with = "as_text")]
    client: Client,
    #[serde(rename = "network.peer.address", skip_serializing_if = "Option::is_none")]
    proxy: Option<IpAddr>,
    #[serde(rename = "user_agent.original", skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    target: &'static str,
}

fn as_text<S: serde::Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.begun.elapsed();
        let labels = RequestLabels::new(&self.method, oci::route_name(&self.path), self.status);
        self.app.metrics.answered(&labels, elapsed, self.sent);
        if !self.app.settings.log.access || !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return;
        }
        let line = self.line(elapsed.as_micros() as u64);
        match &self.app.access_lines {
            Some(lines) => lines.write(&line),
            None => line.print(),
        }
    }
}

impl Line<'_> {
    /// Through the general log, which makes it readable for people.
    fn print(&self) {
        tracing::info!(
            target: TARGET,
            request_id = self.request_id,
            http.request.method = self.method,
            url.path = self.path,
            http.response.status_code = self.status,
            http.response.body.size = self.size,
            duration_us = self.duration_us,
            complete = self.complete,
            client.address = %self.client,
            network.peer.address = self.proxy.map(tracing::field::display),
            user_agent.original = self.user_agent,
        );
    }
}

/// A body that is counted on its way out.
pub(crate) struct Observed {
    body: Body,
    record: Option<Record>,
}

impl Observed {
    /// A body that nobody asks about: those of probes that have a listener of their own.
    pub(crate) fn unobserved(body: Body) -> Self {
        Self { body, record: None }
    }
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let Some(record) = &mut self.record else { return polled };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => record.sent += frame.data_ref().map_or(0, |data| data.len() as u64),
            Poll::Ready(None) => record.ended = true,
            Poll::Ready(Some(Err(error))) => {
                tracing::error!(request_id = ?record.id, error = %crate::error::chain(error), "an answer was cut short");
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_new_each_time() {
        let ids: HashSet<HeaderValue> = (0..10_000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.as_bytes().iter().all(u8::is_ascii_hexdigit)));
    }
}
