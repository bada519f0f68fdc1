//! Patterns of tags, in which people say which tags a rule is for.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::Tag;
use crate::excerpt::excerpt;
use crate::text_serde;

/// What a compiled pattern may take of memory: some thousand characters with counted repetitions.
const MAX_BYTES: usize = 1 << 20;

/// Which tags are meant, as a regular expression for the whole tag: `v[0-9]+`, `pr-.*`, `main|release-.*`.
///
/// The syntax is that of the `regex` crate, for the ASCII that tags are of: no look-around and no back-references, and
/// so the time to match is in proportion to the length of the tag, whoever wrote the pattern.
#[derive(Clone)]
pub struct TagPattern {
    text: Box<str>,
    regex: Regex,
}

/// Why a text is no pattern of tags.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("tag pattern `{pattern}` is invalid: {fault}")]
pub struct TagPatternError {
    pattern: String,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Fault {
    #[error("write .* for all tags")]
    Empty,
    #[error("tags are ASCII, so none has {character:?}")]
    Character { character: char },
    #[error("it is too large: write fewer or smaller repetitions")]
    TooLarge,
    #[error("{0}; it is a regular expression for the whole tag, such as v[0-9]+ or pr-.*")]
    Syntax(String),
}

impl TagPattern {
    /// The pattern that means all tags: `.*`.
    pub fn all() -> Self {
        ".*".parse().expect("a test parses it")
    }

    /// Whether the tag is meant.
    pub fn matches(&self, tag: &Tag) -> bool {
        self.regex.is_match(tag.as_str().as_bytes())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for TagPattern {
    type Err = TagPatternError;

    fn from_str(pattern: &str) -> Result<Self, TagPatternError> {
        let invalid = |fault| TagPatternError { pattern: excerpt(pattern), fault };
        if pattern.is_empty() {
            return Err(invalid(Fault::Empty));
        }
        if let Some(character) = pattern.chars().find(|character| !character.is_ascii()) {
            return Err(invalid(Fault::Character { character }));
        }
        let compile = |text: &str| {
            let compiled = RegexBuilder::new(text).unicode(false).size_limit(MAX_BYTES).build();
            compiled.map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => invalid(Fault::TooLarge),
                other => invalid(Fault::Syntax(reason(&other))),
            })
        };
        // Alone first: what closes a group that it has not opened would reach out of ours.
        compile(pattern)?;
        let regex = compile(&format!("\\A(?:{pattern})\\z"))?;
        Ok(Self { text: pattern.into(), regex })
    }
}

/// What is wrong, in one line: the crate's own text draws the place over several.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl PartialEq for TagPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TagPattern {}

impl Hash for TagPattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for TagPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("TagPattern").field(&self.text).finish()
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

impl Serialize for TagPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for TagPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_serde::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, tag: &str) -> bool {
        pattern.parse::<TagPattern>().unwrap().matches(&tag.parse().unwrap())
    }

    fn error(pattern: &str) -> String {
        pattern.parse::<TagPattern>().unwrap_err().to_string()
    }

    #[test]
    fn a_pattern_is_for_the_whole_tag() {
        for (pattern, tag, expected) in [
            ("v1", "v1", true),
            ("v1", "v10", false),
            ("v1", "dev1", false),
            ("main|release-.*", "release-1", true),
            ("main|release-.*", "mainline", false),
            (r"\d+\.\d+", "1.22", true),
            ("(?i)latest", "LATEST", true),
            ("a|b$|^c", "ab", false),
            ("x{0}", "x", false),
        ] {
            assert_eq!(matches(pattern, tag), expected, "{pattern} {tag}");
        }
        assert!(TagPattern::all().matches(&"anything-1.0_x".parse().unwrap()));
    }

    #[test]
    fn the_texts_say_what_to_change() {
        assert_eq!(error(""), "tag pattern `` is invalid: write .* for all tags");
        assert_eq!(
            error("v["),
            "tag pattern `v[` is invalid: unclosed character class; \
             it is a regular expression for the whole tag, such as v[0-9]+ or pr-.*"
        );
        assert!(error("a)|(b").contains("unopened group"), "{}", error("a)|(b"));
        assert!(error("(?!latest).*").contains("look-around"), "{}", error("(?!latest).*"));
        assert!(error("(a{999}){999}").contains("too large"), "{}", error("(a{999}){999}"));
        assert_eq!(error("v-ä"), "tag pattern `v-ä` is invalid: tags are ASCII, so none has 'ä'");
    }

    #[test]
    fn serde_uses_the_text() {
        let pattern: TagPattern = serde_json::from_str("\"v.*\"").unwrap();
        assert_eq!(pattern, "v.*".parse().unwrap());
        assert_eq!(serde_json::to_string(&pattern).unwrap(), "\"v.*\"");
        assert!(serde_json::from_str::<TagPattern>("\"[\"").is_err());
    }

    proptest! {
        #[test]
        fn a_tag_means_itself(tag in "[a-zA-Z0-9_][a-zA-Z0-9_-]{0,60}", other in "[a-zA-Z0-9_][a-zA-Z0-9_-]{0,60}") {
            prop_assert!(matches(&tag, &tag));
            prop_assert_eq!(matches(&tag, &other), tag == other);
        }

        #[test]
        fn no_pattern_makes_it_panic(pattern in ".{0,40}") {
            let _ = pattern.parse::<TagPattern>();
        }
    }
}
