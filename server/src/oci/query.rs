//! The query of a request, each known parameter by its type.

use crate::error::ApiError;
use http::StatusCode;
use longshore_oci::{Algorithm, Digest, ErrorCode, RepositoryName, Tag};

/// The parameters, decoded, in their order.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

/// More parameters than this are no honest request; tags of one push have a limit of their own below it.
const MAX_PARAMETERS: usize = 1024;

impl Query {
    /// Reads what stands behind the `?`.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let query = query.unwrap_or_default();
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(query.as_bytes()).take(MAX_PARAMETERS + 1).map(into_owned).collect();
        if pairs.len() > MAX_PARAMETERS {
            let message = format!("a request may have at most {MAX_PARAMETERS} parameters");
            return Err(ApiError::new(ErrorCode::Unsupported, message).with_status(StatusCode::URI_TOO_LONG));
        }
        Ok(Self(pairs))
    }

    /// The first value of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter that is looked for in the database, which holds any text without NUL.
    pub(super) fn searched(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.text(name) {
            Some(text) if text.contains('\0') => {
                let message = format!("the parameter {name} has a NUL character: leave it out");
                Err(ApiError::new(ErrorCode::Unsupported, message).with_status(StatusCode::BAD_REQUEST))
            }
            text => Ok(text),
        }
    }

    /// `digest`, `mount` and the like.
    pub(super) fn digest(&self, name: &str) -> Result<Option<Digest>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|error: longshore_oci::DigestError| {
                ApiError::new(ErrorCode::DigestInvalid, format!("the parameter {name}: {error}"))
            })
        };
        self.text(name).map(parse).transpose()
    }

    /// `digest-algorithm`.
    pub(super) fn algorithm(&self) -> Result<Option<Algorithm>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|error: longshore_oci::DigestError| {
                ApiError::new(ErrorCode::DigestInvalid, format!("the parameter digest-algorithm: {error}"))
            })
        };
        self.text("digest-algorithm").map(parse).transpose()
    }

    /// `from`.
    pub(super) fn source(&self) -> Result<Option<RepositoryName>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|error: longshore_oci::NameError| {
                ApiError::new(ErrorCode::NameInvalid, format!("the parameter from: {error}"))
            })
        };
        self.text("from").map(parse).transpose()
    }

    /// Every `tag`, once each.
    pub(super) fn tags(&self) -> Result<Vec<Tag>, ApiError> {
        let mut tags = Vec::new();
        for (_, text) in self.0.iter().filter(|(key, _)| key == "tag") {
            let tag: Tag = text.parse().map_err(|error: longshore_oci::TagError| {
                ApiError::new(ErrorCode::ManifestInvalid, format!("the parameter tag: {error}"))
            })?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    /// `n`: how many a page may have. More than `most` is as much as `most`.
    pub(super) fn page_size(&self, most: u32) -> Result<u32, ApiError> {
        let Some(text) = self.text("n") else { return Ok(most) };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("the parameter n is {text:?}: write a whole number, 0 or more");
            return Err(ApiError::new(ErrorCode::Unsupported, message).with_status(StatusCode::BAD_REQUEST));
        }
        // Only a number too large for its type fails here.
        Ok(text.parse::<u32>().unwrap_or(u32::MAX).min(most))
    }
}

fn into_owned((key, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)) -> (String, String) {
    (key.into_owned(), value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes() {
        let size = |query: &str| Query::parse(Some(query)).unwrap().page_size(1000);
        assert_eq!(size("").unwrap(), 1000);
        assert_eq!(size("n=0").unwrap(), 0);
        assert_eq!(size("n=7").unwrap(), 7);
        assert_eq!(size("n=9223372036854775808").unwrap(), 1000);
        for wrong in ["n=", "n=-1", "n=abc", "n=1.5", "n=+1", "n=%20"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tags_come_once_each() {
        let query = Query::parse(Some("tag=a&tag=b&tag=a")).unwrap();
        assert_eq!(query.tags().unwrap(), ["a".parse().unwrap(), "b".parse().unwrap()]);
        assert!(Query::parse(Some("tag=..")).unwrap().tags().is_err());
    }
}
