//! Owns one line of a trace in the schema of the IBM registry traces (FAST'18), and the request that it stands for.

use serde::{Deserialize, Deserializer, Serialize};

use super::timestamp::Timestamp;

/// An object of the array, with its dotted keys. What a file says beyond these is passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) host: String,
    #[serde(rename = "http.request.duration", default, deserialize_with = "or_default")]
    pub(super) duration: f64,
    #[serde(rename = "http.request.method")]
    pub(super) method: String,
    #[serde(rename = "http.request.remoteaddr", default, deserialize_with = "or_default")]
    pub(super) client: String,
    #[serde(rename = "http.request.uri")]
    pub(super) uri: String,
    #[serde(rename = "http.request.useragent", default, deserialize_with = "or_default")]
    pub(super) user_agent: String,
    #[serde(rename = "http.response.status", default, deserialize_with = "or_default")]
    pub(super) status: u16,
    /// Of a push, what was pushed: the traces have it here too.
    #[serde(rename = "http.response.written", default, deserialize_with = "or_default")]
    pub(super) written: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) id: String,
    pub(super) timestamp: String,
}

/// What a log does not know, it may leave out or write as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What is replayed of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) at: Timestamp,
    pub(super) action: Action,
    pub(super) kind: Kind,
    /// `<user>/<repo>`.
    pub(super) repository: String,
    /// The blob's or manifest's name in the trace.
    pub(super) id: String,
    pub(super) client: String,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Get,
    Put,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Blob,
    Manifest,
}

impl Entry {
    /// The request, if it is one that moved content: a GET or PUT of a blob or manifest that was not refused.
    pub(super) fn request(&self) -> Option<Request> {
        let action = match self.method.as_str() {
            "GET" => Action::Get,
            "PUT" => Action::Put,
            _ => return None,
        };
        let (repository, kind, id) = parse_uri(&self.uri)?;
        // The traces that were published have no statuses in some files.
        let is_refused = self.status >= 300;
        if is_refused || self.written == 0 {
            return None;
        }
        let at = self.timestamp.parse().ok()?;
        let (repository, id, client) = (repository.to_owned(), id.to_owned(), self.client.clone());
        Some(Request { at, action, kind, repository, id, client, bytes: self.written })
    }
}

/// `v2/<user>/<repo>/(blobs|manifests)/<id>`, with or without a slash before it. Uploads count by their last part.
fn parse_uri(uri: &str) -> Option<(&str, Kind, &str)> {
    let path = uri.trim_start_matches('/').split('?').next()?.strip_prefix("v2/")?;
    let (rest, id) = path.rsplit_once('/')?;
    let rest = rest.strip_suffix("/uploads").unwrap_or(rest);
    let (repository, kind) = match rest.rsplit_once('/')? {
        (repository, "blobs") => (repository, Kind::Blob),
        (repository, "manifests") => (repository, Kind::Manifest),
        _ => return None,
    };
    (!repository.is_empty() && !id.is_empty()).then_some((repository, kind, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"host": "579633fd", "http.request.duration": 1.005269323, "http.request.method": "GET",
        "http.request.remoteaddr": "0ee76ffa", "http.request.uri": "v2/4715bf/b0a1/blobs/2f9a",
        "http.request.useragent": "docker/17.03.1-ce", "http.response.status": 200, "http.response.written": 1518,
        "id": "9f63984a80", "timestamp": "2017-06-20T02:41:18.399Z", "more": [1, {"x": null}]}"#;

    fn entry(change: impl FnOnce(&mut Entry)) -> Entry {
        let mut entry: Entry = serde_json::from_str(LINE).unwrap();
        change(&mut entry);
        entry
    }

    #[test]
    fn a_line_of_the_published_traces_is_read() {
        let request = entry(|_| {}).request().unwrap();
        assert_eq!((request.action, request.kind, request.bytes), (Action::Get, Kind::Blob, 1518));
        assert_eq!((request.repository.as_str(), request.id.as_str()), ("4715bf/b0a1", "2f9a"));
        assert_eq!(request.at.to_string(), "2017-06-20T02:41:18.399000Z");
    }

    #[test]
    fn what_is_not_known_may_be_missing_or_null() {
        let text = r#"{"http.request.method": "GET", "http.request.uri": "v2/a/b/blobs/x", "http.response.written": 5,
            "http.response.status": null, "host": null, "timestamp": "2017-06-20T02:41:18Z"}"#;
        let request = serde_json::from_str::<Entry>(text).unwrap().request().unwrap();
        assert_eq!((request.client.as_str(), request.bytes), ("", 5));
    }

    #[test]
    fn what_moved_nothing_is_passed_over() {
        assert_eq!(entry(|entry| entry.method = "HEAD".to_owned()).request(), None);
        assert_eq!(entry(|entry| entry.written = 0).request(), None);
        assert_eq!(entry(|entry| entry.status = 404).request(), None);
        assert_eq!(entry(|entry| entry.timestamp.clear()).request(), None);
        for uri in ["v2/", "v2/_catalog", "v2/a/b/tags/list", "v1/a/b/blobs/x", "v2/blobs/x", "v2/a/blobs/"] {
            assert_eq!(entry(|entry| entry.uri = uri.to_owned()).request(), None, "{uri}");
        }
    }

    #[test]
    fn an_upload_is_the_blob_that_it_brings() {
        let request = entry(|entry| entry.uri = "/v2/a/b/blobs/uploads/f00?digest=x".to_owned()).request().unwrap();
        assert_eq!((request.repository.as_str(), request.kind, request.id.as_str()), ("a/b", Kind::Blob, "f00"));
    }
}
