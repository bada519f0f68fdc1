//! What a manifest is asked for by: a tag or a digest, and nothing else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::{Digest, DigestError, Tag, TagError, text_serde};

/// The last element of a manifest's path. A colon makes it a digest: no tag holds one, every digest does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

/// Why a reference is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// It holds a colon and is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// It holds no colon and is no tag.
    #[error(transparent)]
    Tag(#[from] TagError),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(formatter),
            Self::Digest(digest) => digest.fmt(formatter),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_serde::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Algorithm;

    #[test]
    fn a_colon_decides() {
        let digest = Digest::of(Algorithm::Sha256, b"content");
        assert_eq!(digest.to_string().parse(), Ok(Reference::Digest(digest)));
        let tag: Tag = "latest".parse().unwrap();
        assert_eq!("latest".parse(), Ok(Reference::Tag(tag)));
        assert!(matches!("sha256:totallywrong".parse::<Reference>(), Err(ReferenceError::Digest(_))));
        assert!(matches!("latest:1".parse::<Reference>(), Err(ReferenceError::Digest(_))));
        assert!(matches!("a+b".parse::<Reference>(), Err(ReferenceError::Tag(_))));
        assert!(matches!("".parse::<Reference>(), Err(ReferenceError::Tag(_))));
    }

    #[test]
    fn the_fallback_tag_is_a_tag() {
        let digest = Digest::of(Algorithm::Sha512, b"content");
        assert_eq!(digest.fallback_tag().to_string().parse(), Ok(Reference::from(digest.fallback_tag())));
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_its_own_text(text in "[a-zA-Z0-9._:-]{0,20}|sha256:[0-9a-f]{64}|\\PC{0,10}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }
}
