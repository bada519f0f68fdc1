//! The bytes that a client sends: a stream that ends in an error when nothing comes for too long, and the headers that
//! say how many there are.

use super::Call;
use crate::{app::App, error::ApiError};
use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use longshore_oci::ErrorCode;
use longshore_registry::{BodyError, Chunk};
use std::sync::Arc;

/// The request's body as a chunk of a blob, with what its headers say of it.
pub(super) fn chunk(call: Call) -> Result<Chunk, ApiError> {
    let range = content_range(call.headers())?;
    let declared = content_length(call.headers())?;
    let announced = range.map(|(start, end)| end - start + 1);
    if let (Some(announced), Some(declared)) = (announced, declared)
        && announced != declared
    {
        let message = format!("Content-Range names {announced} bytes, but Content-Length says {declared}");
        return Err(ApiError::new(ErrorCode::SizeInvalid, message));
    }
    let body = stream(call.app, call.request.into_body());
    Ok(Chunk { start: range.map(|(start, _)| start), length: announced.or(declared), body })
}

/// The body, bounded in time; its bytes are counted.
fn stream(app: Arc<App>, body: Body) -> longshore_registry::Body {
    let patience = app.settings.http.idle_timeout;
    let frames = futures_util::stream::unfold(Some((app, body)), move |state| async move {
        let (app, mut body) = state?;
        let frame = match tokio::time::timeout(patience, body.frame()).await {
            Err(_) => {
                return Some((Err(BodyError::Idle { seconds: patience.as_secs() }), None));
            }
            Ok(None) => return None,
            Ok(Some(Err(error))) => return Some((Err(BodyError::Broken(Box::new(error))), None)),
            Ok(Some(Ok(frame))) => frame,
        };
        let bytes = frame.into_data().unwrap_or_default();
        app.metrics.received(bytes.len() as u64);
        Some((Ok(bytes), Some((app, body))))
    });
    frames.boxed()
}

/// A body that has to be in memory as a whole. What is over the limit is refused before it is read, or as soon as it
/// shows.
pub(super) async fn whole(call: Call, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || longshore_registry::Error::ManifestTooLarge { limit };
    if content_length(call.headers())?.is_some_and(|length| length > limit as u64) {
        return Err(too_large().into());
    }
    let mut body = stream(call.app, call.request.into_body());
    let mut bytes = Vec::new();
    while let Some(part) = body.next().await {
        let part = part.map_err(longshore_registry::Error::from)?;
        if bytes.len() + part.len() > limit {
            return Err(too_large().into());
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.into())
}

/// `Content-Length`.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| ApiError::new(ErrorCode::SizeInvalid, "Content-Length is no number"))
}

/// `Content-Range` of a chunk: first and last byte, as the specification writes it: `0-1023`.
fn content_range(headers: &HeaderMap) -> Result<Option<(u64, u64)>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let range = value.to_str().ok().and_then(parse_content_range);
    range.map(Some).ok_or_else(|| {
        let message = "Content-Range is not understood: write the first and the last byte of the chunk, like 0-1023";
        ApiError::new(ErrorCode::BlobUploadInvalid, message)
    })
}

fn parse_content_range(text: &str) -> Option<(u64, u64)> {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (start, end) = text.split_once('-')?;
    let (start, end) = (number(start)?, number(end)?);
    (start <= end && end < u64::MAX).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(parse_content_range("0-0"), Some((0, 0)));
        assert_eq!(parse_content_range("500-1499"), Some((500, 1499)));
        for wrong in [
            "",
            "-",
            "0-",
            "-5",
            "5-4",
            "a-b",
            "bytes 0-5",
            "0-5/6",
            "+1-2",
            "0-18446744073709551615",
            "0-99999999999999999999",
        ] {
            assert_eq!(parse_content_range(wrong), None, "{wrong}");
        }
    }
}
