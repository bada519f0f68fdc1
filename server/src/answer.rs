//! Small pieces of answers that many handlers share.

use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

/// `Docker-Content-Digest`.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// `Docker-Upload-UUID`.
pub(crate) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// `OCI-Subject`.
pub(crate) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// `OCI-Tag`.
pub(crate) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// `OCI-Filters-Applied`.
pub(crate) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// An answer with a header more. The value is made of digests, names and numbers that were parsed, all of them ASCII.
pub(crate) fn with(mut response: Response, name: HeaderName, value: impl AsRef<str>) -> Response {
    match HeaderValue::from_str(value.as_ref()) {
        Ok(value) => {
            response.headers_mut().append(name, value);
        }
        Err(_) => tracing::error!(%name, "a header's value is no header text and was left out"),
    }
    response
}
