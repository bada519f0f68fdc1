//! Handing out content that never changes under its digest: whole, in parts, or not at all because the client has it.
//! The same for blobs and manifests.

use super::ranges::Wanted;
use crate::{answer, error::ApiError};
use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use longshore_oci::{Digest, ErrorCode};
use longshore_registry::{BlobReader, Delivery};
use std::ops::Range;

/// What is to be handed out.
pub(super) struct Content<'a> {
    pub(super) digest: Digest,
    pub(super) media_type: &'a str,
    pub(super) size: u64,
    /// Whether it was asked for by digest: then an answer holds for ever.
    pub(super) immutable: bool,
}

/// How the request's headers are to be answered.
pub(super) enum Plan {
    /// Without the content.
    Done(Response),
    /// With these parts of it; whole if there are none.
    Send(Vec<Range<u64>>),
}

impl Content<'_> {
    /// Decides by the headers of a GET what to send.
    pub(super) fn plan(&self, headers: &HeaderMap, most_ranges: usize) -> Result<Plan, ApiError> {
        if let Some(response) = self.unless_known(headers) {
            return Ok(Plan::Done(response));
        }
        let range = headers.get(header::RANGE).filter(|_| self.range_applies(headers));
        match Wanted::parse(range.and_then(|value| value.to_str().ok()), self.size, most_ranges) {
            Wanted::All => Ok(Plan::Send(Vec::new())),
            Wanted::Parts(parts) => Ok(Plan::Send(parts)),
            Wanted::Nothing => Err(self.unsatisfiable()),
            Wanted::TooMany => {
                let message = format!("ask for at most {most_ranges} ranges at a time");
                Err(ApiError::new(ErrorCode::Unsupported, message).with_status(StatusCode::BAD_REQUEST))
            }
        }
    }

    /// The answer to a HEAD: what a GET would be answered, without the content.
    pub(super) fn describe_only(&self, headers: &HeaderMap) -> Response {
        self.unless_known(headers).unwrap_or_else(|| self.whole(Body::empty()))
    }

    /// The answer where the client's conditions leave nothing to send.
    fn unless_known(&self, headers: &HeaderMap) -> Option<Response> {
        if headers.get(header::IF_MATCH).is_some_and(|wanted| !matches(wanted, &self.etag())) {
            return Some(answer::empty(StatusCode::PRECONDITION_FAILED));
        }
        if headers.get(header::IF_NONE_MATCH).is_some_and(|known| matches(known, &self.etag())) {
            return Some(self.describe(answer::empty(StatusCode::NOT_MODIFIED), None));
        }
        None
    }

    /// The answer with the content, or with the parts of it that the plan names.
    ///
    /// # Errors
    /// Where the first bytes cannot be had: what fails after them breaks the answer off.
    pub(super) async fn send(
        &self,
        reader: BlobReader,
        mut parts: Vec<Range<u64>>,
        delivery: Delivery,
    ) -> Result<Response, ApiError> {
        match (parts.len(), reader) {
            (0, BlobReader::Inline(bytes)) => Ok(self.whole(bytes.into())),
            (0, reader) => Ok(self.whole(Body::from_stream(reader.begin(0..self.size, delivery).await?))),
            (1, reader) => self.part(&reader, parts.remove(0), delivery).await,
            (_, reader) => self.parts(reader, parts, delivery).await,
        }
    }

    /// The answer that sends the client to where it gets the content. Nobody may keep it: the way there is open to this
    /// client and for a while.
    pub(super) fn elsewhere(&self, location: HeaderValue) -> Response {
        let response = answer::empty(StatusCode::TEMPORARY_REDIRECT);
        let mut response = replace(response, answer::CONTENT_DIGEST, self.digest.to_string());
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::LOCATION, location);
        response
    }

    fn whole(&self, body: Body) -> Response {
        self.describe(Response::new(body), Some(self.size))
    }

    async fn part(&self, reader: &BlobReader, part: Range<u64>, delivery: Delivery) -> Result<Response, ApiError> {
        let mut response = Response::new(Body::from_stream(reader.begin(part.clone(), delivery).await?));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let response = answer::with(response, header::CONTENT_RANGE, self.content_range(&part));
        Ok(self.describe(response, Some(part.end - part.start)))
    }

    /// `multipart/byteranges`, its length known beforehand.
    async fn parts(
        &self,
        reader: BlobReader,
        parts: Vec<Range<u64>>,
        delivery: Delivery,
    ) -> Result<Response, ApiError> {
        let boundary = uuid::Uuid::new_v4().simple().to_string();
        let heads: Vec<Bytes> = parts.iter().map(|part| self.part_head(&boundary, part)).collect();
        let tail = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let framing = heads.iter().map(|head| head.len() as u64).sum::<u64>() + tail.len() as u64;
        let length = framing + parts.iter().map(|part| part.end - part.start).sum::<u64>();
        let mut first = Some(reader.begin(parts[0].clone(), delivery).await?);
        let pieces = stream::iter(heads.into_iter().zip(parts))
            .flat_map(move |(head, part)| {
                let bytes = first.take().unwrap_or_else(|| reader.range(part, delivery));
                stream::once(async { Ok(head) }).chain(bytes)
            })
            .chain(stream::once(async { Ok(tail) }));
        let mut response = Response::new(Body::from_stream(pieces));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let response = self.describe(response, Some(length));
        let content_type = format!("multipart/byteranges; boundary={boundary}");
        Ok(replace(response, header::CONTENT_TYPE, content_type))
    }

    fn part_head(&self, boundary: &str, part: &Range<u64>) -> Bytes {
        let (media_type, range) = (self.media_type, self.content_range(part));
        format!("\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {range}\r\n\r\n").into()
    }

    fn content_range(&self, part: &Range<u64>) -> String {
        format!("bytes {}-{}/{}", part.start, part.end - 1, self.size)
    }

    /// The headers that say what the content is; `length` is that of the answer.
    fn describe(&self, response: Response, length: Option<u64>) -> Response {
        let caching = if self.immutable { "max-age=31536000, immutable" } else { "no-cache" };
        let digest = self.digest.to_string();
        let response = replace(response, header::ETAG, quoted(&digest));
        let mut response = replace(response, answer::CONTENT_DIGEST, digest);
        let headers = response.headers_mut();
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        match length {
            Some(length) => headers.insert(header::CONTENT_LENGTH, length.into()),
            None => headers.remove(header::CONTENT_LENGTH),
        };
        replace(response, header::CONTENT_TYPE, self.media_type.to_owned())
    }

    fn etag(&self) -> String {
        quoted(&self.digest.to_string())
    }

    /// `If-Range`: the range is meant for the content that the client has begun to fetch.
    fn range_applies(&self, headers: &HeaderMap) -> bool {
        headers.get(header::IF_RANGE).is_none_or(|known| known.as_bytes() == self.etag().as_bytes())
    }

    fn unsatisfiable(&self) -> ApiError {
        let message = format!("the range lies outside of the content, which has {} bytes", self.size);
        ApiError::new(ErrorCode::SizeInvalid, message)
            .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
            .with_header(header::CONTENT_RANGE, format!("bytes */{}", self.size))
    }
}

/// Whether a list of entity tags names this one. A weak tag matches too: content under a digest is never just similar.
fn matches(list: &HeaderValue, etag: &str) -> bool {
    let list = list.to_str().unwrap_or_default();
    list.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// An entity tag.
fn quoted(text: &str) -> String {
    ["\"", text, "\""].concat()
}

/// The value becomes the header without being copied. What no header can hold is left out.
fn replace(mut response: Response, name: http::HeaderName, value: String) -> Response {
    match HeaderValue::try_from(value) {
        Ok(value) => {
            response.headers_mut().insert(name, value);
        }
        Err(_) => {
            tracing::error!(%name, "a header's value is no header text and was left out");
            response.headers_mut().remove(name);
        }
    }
    response
}

/// An answer of JSON bytes.
pub(super) fn json(body: Vec<u8>, content_type: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type)], Bytes::from(body)).into_response()
}
