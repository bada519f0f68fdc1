//! Tags.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::excerpt::excerpt;
use crate::text_serde;

/// Longest tag in bytes, from the distribution spec.
const MAX_BYTES: usize = 128;

/// A tag: a name of a manifest that can be moved. `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`; the order is that of its bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Tag(Box<str>);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A tag from text that this crate made and knows to be one.
    pub(crate) fn from_valid(text: String) -> Self {
        debug_assert_eq!(check(&text), Ok(()));
        Self(text.into_boxed_str())
    }
}

/// Why a tag is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("tag `{tag}` is invalid: {fault}")]
pub struct TagError {
    tag: String,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Fault {
    #[error("send at least one character")]
    Empty,
    #[error("it has {length} bytes, shorten it to at most {MAX_BYTES}")]
    TooLong { length: usize },
    #[error("begin it with a letter, a digit or `_`")]
    Beginning,
    #[error("use letters, digits, `.`, `_` and `-` only, not {character:?}")]
    Character { character: char },
}

fn check(tag: &str) -> Result<(), Fault> {
    if tag.len() > MAX_BYTES {
        return Err(Fault::TooLong { length: tag.len() });
    }
    let first = tag.chars().next().ok_or(Fault::Empty)?;
    if matches!(first, '.' | '-') {
        return Err(Fault::Beginning);
    }
    for character in tag.chars() {
        if !character.is_ascii_alphanumeric() && !matches!(character, '.' | '_' | '-') {
            return Err(Fault::Character { character });
        }
    }
    Ok(())
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(tag: &str) -> Result<Self, TagError> {
        match check(tag) {
            Ok(()) => Ok(Self(Box::from(tag))),
            Err(fault) => Err(TagError { tag: excerpt(tag), fault }),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_serde::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(tag: &str) -> String {
        tag.parse::<Tag>().unwrap_err().to_string()
    }

    #[test]
    fn ordinary_tags() {
        for tag in ["latest", "v1.2.3", "_", "1.0_build-7", "sha256-00.sig", "A"] {
            assert_eq!(tag.parse::<Tag>().unwrap().to_string(), tag);
        }
    }

    #[test]
    fn the_texts_say_what_to_change() {
        assert_eq!(error(""), "tag `` is invalid: send at least one character");
        assert_eq!(error(".a"), "tag `.a` is invalid: begin it with a letter, a digit or `_`");
        assert_eq!(error("-a"), "tag `-a` is invalid: begin it with a letter, a digit or `_`");
        assert_eq!(error("1+2"), "tag `1+2` is invalid: use letters, digits, `.`, `_` and `-` only, not '+'");
        assert!(error(&"a".repeat(129)).ends_with("it has 129 bytes, shorten it to at most 128"));
        assert!("a".repeat(128).parse::<Tag>().is_ok());
    }

    #[test]
    fn serde_uses_the_text() {
        let tag: Tag = serde_json::from_str("\"latest\"").unwrap();
        assert_eq!(serde_json::to_string(&tag).unwrap(), "\"latest\"");
        assert!(serde_json::from_str::<Tag>("\"a b\"").is_err());
    }

    proptest! {
        #[test]
        fn what_the_grammar_makes_is_accepted(tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            let parsed: Tag = tag.parse().unwrap();
            prop_assert_eq!(parsed.as_str(), tag);
        }

        #[test]
        fn a_strange_character_anywhere_is_refused(
            before in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}",
            strange in "[^a-zA-Z0-9._-]",
            after in "[a-zA-Z0-9._-]{0,20}",
        ) {
            for tag in [format!("{before}{strange}{after}"), format!("{strange}{before}{after}")] {
                prop_assert!(tag.parse::<Tag>().is_err(), "{:?}", tag);
            }
        }
    }
}
