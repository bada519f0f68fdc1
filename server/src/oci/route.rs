//! Which thing a path names. Repository names hold slashes, so a path is read from its end; it is split into elements
//! before they are decoded, so that no `%2F` can move a border, and every element is checked by the grammar of what it
//! is.

use crate::error::ApiError;
use http::StatusCode;
use longshore_metadata::UploadId;
use longshore_oci::{Digest, ErrorCode, Reference, ReferenceError, RepositoryName};
use std::borrow::Cow;

/// What a path below `/v2` names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(RepositoryName, UploadId),
}

impl Route {
    /// Reads a path.
    pub(super) fn parse(path: &str) -> Result<Self, ApiError> {
        let rest = path.strip_prefix("/v2").unwrap_or(path);
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        match rest {
            "" => return Ok(Self::Base),
            "_catalog" => return Ok(Self::Catalog),
            _ => {}
        }
        let elements: Vec<&str> = rest.split('/').collect();
        match elements.as_slice() {
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads(repository(name)?))
            }
            [name @ .., "blobs", "uploads", id] => Ok(Self::Upload(repository(name)?, upload(id)?)),
            [name @ .., "blobs", text] => Ok(Self::Blob(repository(name)?, digest(text)?)),
            [name @ .., "manifests", text] => Ok(Self::Manifest(repository(name)?, reference(text)?)),
            [name @ .., "referrers", text] => Ok(Self::Referrers(repository(name)?, digest(text)?)),
            _ => Err(ApiError::new(ErrorCode::NameUnknown, "no such path: see the OCI distribution specification")),
        }
    }

    /// The repository that it is about.
    pub(super) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Tags(name) | Self::Uploads(name) => Some(name),
            Self::Referrers(name, _) | Self::Blob(name, _) => Some(name),
            Self::Manifest(name, _) => Some(name),
            Self::Upload(name, _) => Some(name),
        }
    }
}

/// The kind of thing that a path names, for metrics: a few words, whatever clients ask for.
pub(crate) fn route_name(path: &str) -> &'static str {
    let Some(rest) = path.strip_prefix("/v2") else {
        return match path {
            "/healthz" | "/readyz" => "probe",
            "/metrics" => "metrics",
            _ => "other",
        };
    };
    let mut from_the_end = rest.rsplit('/');
    match (from_the_end.next().unwrap_or_default(), from_the_end.next(), from_the_end.next()) {
        ("", None, _) | ("", Some(""), None) => "base",
        ("_catalog", Some(""), None) => "catalog",
        ("list", Some("tags"), _) => "tags",
        (_, Some("uploads"), Some("blobs")) | ("uploads", Some("blobs"), _) => "upload",
        (_, Some("blobs"), _) => "blob",
        (_, Some("manifests"), _) => "manifest",
        (_, Some("referrers"), _) => "referrers",
        _ => "other",
    }
}

/// An element with its `%XX` decoded, if what comes out is text.
fn decode(element: &str) -> Option<Cow<'_, str>> {
    if !element.contains('%') {
        return Some(Cow::Borrowed(element));
    }
    let mut bytes = Vec::with_capacity(element.len());
    let mut rest = element.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn repository(elements: &[&str]) -> Result<RepositoryName, ApiError> {
    let invalid = |reason: String| ApiError::new(ErrorCode::NameInvalid, reason);
    let mut name = String::new();
    for (position, element) in elements.iter().enumerate() {
        let element =
            decode(element).ok_or_else(|| invalid("the name is not valid: its % codes are no text".into()))?;
        if element.contains('/') {
            return Err(invalid("the name is not valid: write / and not %2F between its parts".into()));
        }
        if position > 0 {
            name.push('/');
        }
        name.push_str(&element);
    }
    name.parse().map_err(|error: longshore_oci::NameError| invalid(error.to_string()))
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    let text = decode(text).unwrap_or(Cow::Borrowed(text));
    text.parse().map_err(|error: longshore_oci::DigestError| ApiError::new(ErrorCode::DigestInvalid, error.to_string()))
}

fn reference(text: &str) -> Result<Reference, ApiError> {
    let text = decode(text).unwrap_or(Cow::Borrowed(text));
    text.parse().map_err(|error: ReferenceError| {
        let code = match error {
            ReferenceError::Digest(_) => ErrorCode::DigestInvalid,
            ReferenceError::Tag(_) => ErrorCode::ManifestInvalid,
        };
        ApiError::new(code, error.to_string())
    })
}

fn upload(text: &str) -> Result<UploadId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::new(ErrorCode::BlobUploadUnknown, "no upload has such a name: start one with POST")
            .with_status(StatusCode::NOT_FOUND)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn paths_name_things() {
        let parse = |path: &str| Route::parse(path).unwrap();
        assert_eq!(parse("/v2"), Route::Base);
        assert_eq!(parse("/v2/"), Route::Base);
        assert_eq!(parse("/v2/_catalog"), Route::Catalog);
        assert_eq!(parse("/v2/a/b/tags/list"), Route::Tags(name("a/b")));
        assert_eq!(parse("/v2/a/blobs/uploads/"), Route::Uploads(name("a")));
        assert_eq!(parse("/v2/a/blobs/uploads"), Route::Uploads(name("a")));
        assert_eq!(parse(&format!("/v2/a/blobs/{DIGEST}")), Route::Blob(name("a"), DIGEST.parse().unwrap()));
        assert_eq!(parse("/v2/a/manifests/v1"), Route::Manifest(name("a"), "v1".parse().unwrap()));
        let encoded = DIGEST.replace(':', "%3A");
        assert_eq!(parse(&format!("/v2/a/referrers/{encoded}")), Route::Referrers(name("a"), DIGEST.parse().unwrap()));
    }

    #[test]
    fn names_may_hold_the_words_of_the_api() {
        assert_eq!(Route::parse("/v2/blobs/uploads/tags/list").unwrap(), Route::Tags(name("blobs/uploads")));
        assert_eq!(
            Route::parse("/v2/tags/list/manifests/v1").unwrap(),
            Route::Manifest(name("tags/list"), "v1".parse().unwrap())
        );
    }

    #[test]
    fn no_path_leads_out_of_the_grammar() {
        for path in [
            "/v2/a/../b/tags/list",
            "/v2/%2e%2e/tags/list",
            "/v2/a%2fb/tags/list",
            "/v2/a//b/tags/list",
            "/v2//tags/list",
            "/v2//a/tags/list",
            "/v2//",
            "/v2/A/tags/list",
            "/v2/a%00/tags/list",
            "/v2/a%ff/tags/list",
            "/v2/a;b/tags/list",
            "/v2/a/manifests/..",
            "/v2/a/manifests/",
            "/v2/a/blobs/sha256:abc",
            "/v2/a/blobs/uploads/../../x",
            "/v2/a",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in ".{0,200}") {
            let _ = Route::parse(&path);
            let _ = route_name(&path);
        }

        #[test]
        fn every_name_is_read_back(text in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,4}", tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}") {
            prop_assert_eq!(
                Route::parse(&format!("/v2/{text}/manifests/{tag}")).unwrap(),
                Route::Manifest(name(&text), tag.parse().unwrap())
            );
        }
    }
}
