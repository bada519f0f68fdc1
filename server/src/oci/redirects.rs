//! Sending clients to the object store for a blob, where the operator has said so (`storage.redirects`).
//!
//! What decides is what the operator wrote, never what happens to be in memory: where bytes go has to be foreseeable.

use super::Call;
use crate::{
    app::App,
    telemetry::{Metrics, Redirected},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use longshore_oci::RepositoryName;
use longshore_registry::{Blob, Error, PresignedUrl};
use std::{ops::Range, time::Duration};

/// Conditions that a client repeats where it is sent, and that the store would judge by tags and dates of its own.
static CONDITIONS: [HeaderName; 5] =
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_RANGE, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];

/// How long the client is to have for fetching these parts of a blob, or all of it if there are none, from the object
/// store. None: it gets them here.
pub(super) fn lifetime(
    call: &Call,
    repository: &RepositoryName,
    blob: &Blob,
    parts: &[Range<u64>],
) -> Option<Duration> {
    let redirects = call.app.settings.storage.redirects.as_ref()?;
    let is_meant = blob.size >= redirects.from_size.bytes()
        && call.client.is_in(&redirects.networks)
        && redirects.repositories.iter().any(|pattern| pattern.matches(repository))
        && can_be_repeated(call.headers(), parts);
    is_meant.then_some(redirects.lifetime)
}

/// Where the client is to fetch the blob. None: here, since the object store has it not, or no URL could be signed.
pub(super) async fn location(app: &App, blob: &Blob, lifetime: Duration) -> Option<HeaderValue> {
    in_a_header(app.registry.presign_blob(blob, lifetime).await, &app.metrics)
}

fn in_a_header(signed: Result<Option<PresignedUrl>, Error>, metrics: &Metrics) -> Option<HeaderValue> {
    let location = signed.map_err(|error| crate::error::chain(&error)).and_then(|url| {
        let location = url.map(|url| HeaderValue::from_str(url.expose())).transpose();
        location.map_err(|_| "the URL fits into no header".to_owned())
    });
    match location {
        Ok(location) => {
            let mut location = location?;
            // Whoever has it can read the blob: no log shows it.
            location.set_sensitive(true);
            metrics.redirected(Redirected::Sent);
            Some(location)
        }
        Err(error) => {
            tracing::warn!(error, "no URL of the object store could be signed: the blob is served here");
            metrics.redirected(Redirected::Failed);
            None
        }
    }
}

/// Whether the store takes what this client will send it, which is the same again: one range at most, which it
/// understands, and no condition.
fn can_be_repeated(headers: &HeaderMap, parts: &[Range<u64>]) -> bool {
    let mut ranges = headers.get_all(header::RANGE).iter();
    let is_simple = match (ranges.next(), ranges.next()) {
        (None, _) => true,
        (Some(range), None) => parts.len() == 1 && !range.as_bytes().contains(&b','),
        (Some(_), Some(_)) => false,
    };
    is_simple && !CONDITIONS.iter().any(|condition| headers.contains_key(condition))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can(lines: &[(&'static str, &'static str)], parts: &[Range<u64>]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        can_be_repeated(&headers, parts)
    }

    #[test]
    fn where_nothing_can_be_signed_the_blob_is_served_here_and_that_is_counted() {
        let metrics = Metrics::new();
        assert_eq!(in_a_header(Ok(None), &metrics), None);
        assert!(!metrics.encode().contains("longshore_blob_redirects_total{"), "it is a file: nobody was to be sent");
        let failed = Err(Error::Storage(longshore_storage::Error::ShuttingDown));
        assert_eq!(in_a_header(failed, &metrics), None);
        let counted = metrics.encode();
        assert!(counted.contains("longshore_blob_redirects_total{outcome=\"failed\"} 1"), "{counted}");
    }

    #[test]
    fn only_what_a_store_understands_as_we_do_is_sent_there() {
        let one = std::slice::from_ref(&(0..10));
        assert!(can(&[], &[]));
        assert!(can(&[("accept", "*/*"), ("if-none", "x")], &[]));
        assert!(can(&[("range", "bytes=0-9")], one));
        assert!(!can(&[("range", "bytes=0-9,20-29")], &[0..10, 20..30]));
        assert!(!can(&[("range", "bytes=0-9,9000-")], one), "one of them lies outside");
        assert!(!can(&[("range", "bytes=0-,0-")], &[]), "together they are more than all of it");
        assert!(!can(&[("range", "bytes=a-b")], &[]) && !can(&[("range", "lines=1-2")], &[]), "not understood here");
        assert!(!can(&[("range", "bytes=0-9"), ("range", "bytes=20-29")], one));
        for condition in ["if-match", "if-none-match", "if-range", "if-modified-since", "if-unmodified-since"] {
            assert!(!can(&[(condition, "x")], &[]), "{condition}");
        }
    }
}
