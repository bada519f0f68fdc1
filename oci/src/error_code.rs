//! The error codes of the distribution spec.

use std::fmt;

use serde::{Serialize, Serializer};

/// A code of the `errors` list that a client gets. Which HTTP status goes with it is for the server to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The blob is not known in this repository.
    BlobUnknown,
    /// The upload cannot go on or be closed as asked.
    BlobUploadInvalid,
    /// The upload session is not known.
    BlobUploadUnknown,
    /// The digest is malformed, unsupported, or not that of the content.
    DigestInvalid,
    /// A manifest names a blob or manifest that is not in the repository.
    ManifestBlobUnknown,
    /// The manifest is refused for what it holds.
    ManifestInvalid,
    /// The manifest is not known in this repository.
    ManifestUnknown,
    /// The repository name does not follow the grammar.
    NameInvalid,
    /// The repository is not known.
    NameUnknown,
    /// The content has another size than it was said to have.
    SizeInvalid,
    /// The client has to log in.
    Unauthorized,
    /// The client is known and may not do this.
    Denied,
    /// The operation is not offered.
    Unsupported,
    /// Too many requests: try again later.
    TooManyRequests,
    /// A fault of the server's own. The spec leaves the codes of 5xx answers free.
    Unknown,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 15] = [
        Self::BlobUnknown,
        Self::BlobUploadInvalid,
        Self::BlobUploadUnknown,
        Self::DigestInvalid,
        Self::ManifestBlobUnknown,
        Self::ManifestInvalid,
        Self::ManifestUnknown,
        Self::NameInvalid,
        Self::NameUnknown,
        Self::SizeInvalid,
        Self::Unauthorized,
        Self::Denied,
        Self::Unsupported,
        Self::TooManyRequests,
        Self::Unknown,
    ];

    /// The code as it stands in the JSON body.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ErrorCode;

    #[test]
    fn codes_are_distinct_and_follow_the_grammar() {
        let codes: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), ErrorCode::ALL.len());
        for code in codes {
            assert!(code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{code}");
        }
    }

    #[test]
    fn the_odd_one_is_spelt_as_the_spec_spells_it() {
        assert_eq!(serde_json::to_string(&ErrorCode::TooManyRequests).unwrap(), "\"TOOMANYREQUESTS\"");
        assert_eq!(ErrorCode::TooManyRequests.to_string(), "TOOMANYREQUESTS");
    }
}
