//! Quotas: how many bytes a namespace may hold, as in `team=500GiB` and, for all others, `*=50GiB`.

use crate::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// How many bytes a namespace, the first part of a repository's name, may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Its name; none: each that has no quota of its own.
    pub namespace: Option<String>,
    /// How much it may hold.
    pub bytes: ByteSize,
}

/// Why a text is no quota.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuotaError {
    /// There is no `=`.
    #[error("{0:?} is not a quota: write team=500GiB, or *=50GiB for all other namespaces")]
    Malformed(String),
    /// Not the first part of a repository's name.
    #[error("{0:?} is not a namespace: it is the first part of a repository's name, such as team of team/app")]
    Namespace(String),
    /// Not a size.
    #[error("{text:?} is not a quota: {reason}")]
    Size {
        /// As it was written.
        text: String,
        /// What is wrong with the size.
        reason: String,
    },
}

impl FromStr for Quota {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        let (namespace, size) = text.split_once('=').ok_or_else(|| QuotaError::Malformed(text.to_owned()))?;
        let (namespace, size) = (namespace.trim(), size.trim());
        let is_name = !namespace.contains('/') && namespace.parse::<longshore_oci::RepositoryName>().is_ok();
        if namespace != "*" && !is_name {
            return Err(QuotaError::Namespace(namespace.to_owned()));
        }
        let bytes = size.parse::<ByteSize>();
        let bytes = bytes.map_err(|error| QuotaError::Size { text: text.to_owned(), reason: error.to_string() })?;
        Ok(Self { namespace: (namespace != "*").then(|| namespace.to_owned()), bytes })
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.namespace.as_deref().unwrap_or("*"), self.bytes)
    }
}

impl Serialize for Quota {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quota {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_survives_its_text() {
        for text in ["team=500GiB", "*=1MiB"] {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), text);
        }
        let others = Quota { namespace: None, bytes: ByteSize::mib(1) };
        assert_eq!(" * = 1MiB".parse(), Ok(others));
    }

    #[test]
    fn what_is_no_quota_is_told_why() {
        let told = |text: &str| text.parse::<Quota>().unwrap_err().to_string();
        assert!(told("team").contains("write team=500GiB"), "{}", told("team"));
        assert!(told("team/app=1GiB").contains("the first part of a repository's name"));
        assert!(told("Team=1GiB").contains("is not a namespace"));
        assert!(told("team=much").starts_with("\"team=much\" is not a quota: "), "{}", told("team=much"));
    }
}
