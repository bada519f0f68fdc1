//! URLs by which others read an object.

use std::{fmt, time::Duration};

/// How long it may take to make one. Some providers are asked for a signature, and whoever waits for it can be served
/// without.
pub(super) const SIGNING_TIMEOUT: Duration = Duration::from_secs(3);

/// A URL by which whoever has it can read one object, all of it or ranges, for a while, and do nothing else.
///
/// It is as good as a password for that object: `Debug` shows it without its query, where the signature is.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedUrl(String);

impl PresignedUrl {
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL itself, for the one who is to have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PresignedUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.0.split('?').next().unwrap_or_default();
        write!(formatter, "PresignedUrl({place}?********)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_shown() {
        let url = PresignedUrl::new("https://s3.example.com/b/k?X-Amz-Credential=id&X-Amz-Signature=0123");
        assert_eq!(format!("{url:?}"), "PresignedUrl(https://s3.example.com/b/k?********)");
        assert!(url.expose().ends_with("X-Amz-Signature=0123"));
    }
}
