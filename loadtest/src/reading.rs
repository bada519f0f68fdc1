//! Owns the operation of reading one small thing again and again: what the manifest and the listing cases share.

use anyhow::{Context, Result, ensure};

use crate::body::Sha256Digest;
use crate::case::{Operation, Repeated};
use crate::client::{Connection, Method, Request, expect_length};

/// One GET or HEAD, repeated.
pub(crate) struct Reading {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Further header lines, each ended by CRLF.
    pub(crate) headers: &'static str,
    pub(crate) expected: Expected,
}

/// What the answer must be.
pub(crate) enum Expected {
    /// Status 200 and nothing more.
    Success,
    /// Content with this digest and length; of HEAD, the length alone.
    Content { digest: Sha256Digest, length: u64 },
    /// A JSON object with a list of so many names under this key, all sorting after `after`.
    Page { key: &'static str, entries: usize, after: String },
}

impl Operation for Reading {
    fn rehearse(&self, connection: &mut Connection<'_>) -> Result<Option<String>> {
        let mut body = Vec::new();
        connection.read(&self.request(), &mut |piece| body.extend_from_slice(piece))?;
        match &self.expected {
            Expected::Success => Ok(None),
            // HEAD has no body; its length is looked at in every repetition.
            Expected::Content { .. } if self.method == Method::Head => Ok(None),
            Expected::Content { digest, .. } => {
                let actual = Sha256Digest::of(&body);
                ensure!(actual == *digest, "{} was served with bytes that hash to {actual}", self.path);
                Ok(None)
            }
            Expected::Page { key, entries, after } => {
                let names = names_of_page(&body, key).with_context(|| format!("{} answered no page", self.path))?;
                Ok(complaint_about(&names, *entries, after))
            }
        }
    }

    fn on_one_connection(&self) -> Repeated<'_> {
        Box::new(|connection, _number| {
            let answer = connection.ask(&self.request())?;
            if let Expected::Content { length, .. } = self.expected {
                expect_length(&answer, length, &self.path)?;
            }
            Ok(if self.method == Method::Head { 0 } else { answer.length })
        })
    }
}

impl Reading {
    fn request(&self) -> Request<'_> {
        Request { method: self.method, path: &self.path, headers: self.headers, expected_status: 200 }
    }
}

fn names_of_page(body: &[u8], key: &str) -> Result<Vec<String>> {
    let page: serde_json::Value = serde_json::from_slice(body)?;
    let names = page.get(key).and_then(serde_json::Value::as_array).with_context(|| format!("no list {key:?}"))?;
    names.iter().map(|name| Ok(name.as_str().context("a name that is no string")?.to_owned())).collect()
}

/// Registries exist that ignore `n` or `last`. Their figures are shown, with a remark.
fn complaint_about(names: &[String], entries: usize, after: &str) -> Option<String> {
    if names.len() != entries {
        return Some(format!("the registry answered {} names where {entries} were asked for", names.len()));
    }
    let misplaced = names.iter().find(|name| name.as_str() <= after)?;
    Some(format!("the registry answered {misplaced:?}, which does not sort after last={after:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_looked_at() {
        let names = names_of_page(br#"{"name":"a","tags":["b","c"]}"#, "tags").unwrap();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(complaint_about(&names, 2, "a"), None);
        assert!(complaint_about(&names, 3, "a").unwrap().contains("2 names where 3"));
        assert!(complaint_about(&names, 2, "b").unwrap().contains("\"b\""));
        for odd in [&b"{"[..], b"[]", br#"{"tags":null}"#, br#"{"tags":[1]}"#] {
            assert!(names_of_page(odd, "tags").is_err());
        }
    }
}
