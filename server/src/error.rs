//! The one place where errors become answers: status, OCI code, text, headers.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use longshore_oci::ErrorCode;
use longshore_registry::{BodyError, Error};
use serde_json::{Value, json};

/// What a client is told when something is not as it should be.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    detail: Value,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// How long a client that is sent away is to wait: short, since the reason is a passing one.
const RETRY_AFTER_SECONDS: &str = "5";

impl ApiError {
    /// An error with the status that goes with its code.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let status = match code {
            ErrorCode::BlobUnknown
            | ErrorCode::BlobUploadUnknown
            | ErrorCode::ManifestBlobUnknown
            | ErrorCode::ManifestUnknown
            | ErrorCode::NameUnknown => StatusCode::NOT_FOUND,
            ErrorCode::BlobUploadInvalid
            | ErrorCode::DigestInvalid
            | ErrorCode::ManifestInvalid
            | ErrorCode::NameInvalid
            | ErrorCode::SizeInvalid => StatusCode::BAD_REQUEST,
            ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::Denied => StatusCode::FORBIDDEN,
            ErrorCode::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, code, message: message.into(), detail: Value::Null, headers: Vec::new() }
    }

    /// The same with another status.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with something for programs to read.
    pub(crate) fn with_detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }

    /// The same with a header. A value that no header can hold is left out.
    pub(crate) fn with_header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.push((name, value));
        }
        self
    }

    /// Our fault, or that of what we stand on: logged with all that is known, told as one line.
    fn internal(error: &(dyn std::error::Error + 'static), status: StatusCode, message: &str) -> Self {
        tracing::error!(error = %chain(error), "a request failed");
        Self::new(ErrorCode::Unknown, format!("{message}; the server's log says more under this answer's X-Request-Id"))
            .with_status(status)
    }

    /// Passing trouble: come again.
    fn unavailable(error: &(dyn std::error::Error + 'static), message: &str) -> Self {
        Self::internal(error, StatusCode::SERVICE_UNAVAILABLE, message)
            .with_header(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code.as_str(), "message": self.message });
        if !self.detail.is_null() {
            error["detail"] = self.detail;
        }
        let body = Bytes::from(json!({ "errors": [error] }).to_string());
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let told = |code| Self::new(code, message.clone());
        match error {
            Error::NameUnknown { repository } => {
                told(ErrorCode::NameUnknown).with_detail(json!({ "name": repository.as_str() }))
            }
            Error::BlobUnknown { digest } => {
                told(ErrorCode::BlobUnknown).with_detail(json!({ "digest": digest.to_string() }))
            }
            Error::BlobInUse { by, .. } => told(ErrorCode::Denied)
                .with_status(StatusCode::METHOD_NOT_ALLOWED)
                .with_detail(json!({ "manifest": by.to_string() })),
            Error::BlobTooLarge { .. } => told(ErrorCode::BlobUploadInvalid).with_status(StatusCode::PAYLOAD_TOO_LARGE),
            Error::UploadUnknown { .. } => told(ErrorCode::BlobUploadUnknown),
            Error::PushLost => Self::unavailable(&error, "nothing was written, try again"),
            Error::UploadBusy { .. } => told(ErrorCode::BlobUploadInvalid).with_status(StatusCode::CONFLICT),
            Error::ChunkOutOfOrder { .. } => {
                told(ErrorCode::BlobUploadInvalid).with_status(StatusCode::RANGE_NOT_SATISFIABLE)
            }
            Error::ChunkLength { .. } => told(ErrorCode::SizeInvalid),
            Error::DigestMismatch { declared, computed } => told(ErrorCode::DigestInvalid)
                .with_detail(json!({ "declared": declared.to_string(), "computed": computed.to_string() })),
            Error::ManifestUnknown { reference } => {
                told(ErrorCode::ManifestUnknown).with_detail(json!({ "reference": reference.to_string() }))
            }
            Error::ManifestInvalid(_) => told(ErrorCode::ManifestInvalid),
            Error::ManifestTooLarge { .. } => {
                told(ErrorCode::ManifestInvalid).with_status(StatusCode::PAYLOAD_TOO_LARGE)
            }
            Error::ManifestBlobUnknown { digests } => told(ErrorCode::ManifestBlobUnknown)
                .with_detail(json!({ "digests": digests.iter().map(ToString::to_string).collect::<Vec<_>>() })),
            Error::ManifestInUse { by, .. } => told(ErrorCode::Denied)
                .with_status(StatusCode::METHOD_NOT_ALLOWED)
                .with_detail(json!({ "index": by.to_string() })),
            Error::TagImmutable { tag, digest, rule } => told(ErrorCode::Denied)
                .with_detail(json!({ "tag": tag.as_str(), "digest": digest.to_string(), "rule": rule })),
            Error::TagUndeletable { tag, rule } => told(ErrorCode::Denied)
                .with_status(StatusCode::METHOD_NOT_ALLOWED)
                .with_detail(json!({ "tag": tag.as_str(), "rule": rule })),
            Error::TooManyTags { .. } => told(ErrorCode::ManifestInvalid).with_status(StatusCode::URI_TOO_LONG),
            Error::Body(BodyError::Idle { .. }) => {
                told(ErrorCode::BlobUploadInvalid).with_status(StatusCode::REQUEST_TIMEOUT)
            }
            Error::Body(BodyError::Broken(_)) => told(ErrorCode::BlobUploadInvalid),
            Error::Metadata(ref inner) => Self::from_metadata(&error, inner),
            Error::Storage(ref inner) => Self::from_storage(&error, inner),
            Error::ShuttingDown => Self::unavailable(&error, "the server is shutting down"),
        }
    }
}

impl ApiError {
    fn from_metadata(error: &Error, inner: &longshore_metadata::Error) -> Self {
        use longshore_metadata::Error as Metadata;
        match inner {
            Metadata::Unavailable(_) => Self::unavailable(error, "the database does not answer, try again"),
            Metadata::NotCommitted(_) => Self::unavailable(error, "nothing was written, try again"),
            Metadata::DiskFull(_) => Self::disk_full(error),
            Metadata::OverQuota { namespace, quota, held, wanted } => Self::new(
                ErrorCode::Denied,
                format!("{inner}: delete images that nobody needs, or have the quota raised"),
            )
            .with_detail(json!({ "namespace": namespace, "quota": quota, "held": held, "wanted": wanted })),
            Metadata::Address { .. }
            | Metadata::Statement(_)
            | Metadata::Migration(_)
            | Metadata::Schema { .. }
            | Metadata::Damaged { .. } => {
                Self::internal(error, StatusCode::INTERNAL_SERVER_ERROR, "the database failed")
            }
        }
    }

    fn from_storage(error: &Error, inner: &longshore_storage::Error) -> Self {
        use longshore_storage::Error as Storage;
        match inner {
            Storage::DiskFull(_) => Self::disk_full(error),
            Storage::ShuttingDown => Self::unavailable(error, "the server is shutting down"),
            Storage::Backend { .. } => Self::unavailable(error, "the object store does not answer, try again"),
            Storage::Overloaded => Self::unavailable(error, "too many uploads at once, try again"),
            Storage::ReadersOverloaded => Self::unavailable(error, "too many downloads at once, try again"),
            Storage::UploadLost { .. } => Self::lost_upload(error),
            Storage::Lost { .. }
            | Storage::Io { .. }
            | Storage::Locked { .. }
            | Storage::Folder { .. }
            | Storage::DiskCache { .. }
            | Storage::NoDocument { .. }
            | Storage::Document { .. }
            | Storage::Unusable { .. } => Self::internal(error, StatusCode::INTERNAL_SERVER_ERROR, "storage failed"),
        }
    }

    /// The client can do nothing but begin again.
    fn lost_upload(error: &Error) -> Self {
        tracing::warn!(error = %chain(error), "an upload was lost");
        Self::new(ErrorCode::BlobUploadUnknown, "the upload cannot be gone on with: start a new one with POST")
    }

    fn disk_full(error: &Error) -> Self {
        let message = "the registry's disk is full: nothing of this request was kept, what was pushed before is safe";
        Self::internal(error, StatusCode::INSUFFICIENT_STORAGE, message)
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
