//! Repository names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::excerpt::excerpt;
use crate::text_serde;

/// Longest repository name in bytes. Clients limit host and name together to 255 characters, so nothing longer could be
/// pulled.
pub(crate) const MAX_BYTES: usize = 255;

/// The name of a repository, such as `library/busybox`: grammar of the distribution spec, at most 255 bytes.
///
/// Cloning is cheap. Names that begin with `_` are reserved for extensions; the grammar does not admit them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a repository name is refused (`NAME_INVALID`).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("repository name `{name}` is invalid: {fault}")]
pub struct NameError {
    name: String,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Fault {
    #[error("name a repository")]
    Empty,
    #[error("it has {length} bytes, shorten it to at most {MAX_BYTES}")]
    TooLong { length: usize },
    #[error("use lower-case letters, digits, `.`, `_`, `-` and `/` only, not {character:?}")]
    Character { character: char },
    #[error("begin and end each part between slashes with a lower-case letter or digit")]
    Edge,
    #[error("separate letters and digits by one `.`, one or two `_`, or any number of `-`")]
    Separator,
}

/// What the scanner has just passed.
#[derive(Clone, Copy)]
enum Passed {
    /// The beginning of the name, or a slash.
    PartStart,
    Alphanumeric,
    Dot,
    OneUnderscore,
    TwoUnderscores,
    Dashes,
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`, in one pass.
pub(crate) fn check(name: &str) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::Empty);
    }
    if name.len() > MAX_BYTES {
        return Err(Fault::TooLong { length: name.len() });
    }
    let mut passed = Passed::PartStart;
    for character in name.chars() {
        passed = match (character, passed) {
            ('a'..='z' | '0'..='9', _) => Passed::Alphanumeric,
            ('.', Passed::Alphanumeric) => Passed::Dot,
            ('_', Passed::Alphanumeric) => Passed::OneUnderscore,
            ('_', Passed::OneUnderscore) => Passed::TwoUnderscores,
            ('-', Passed::Alphanumeric | Passed::Dashes) => Passed::Dashes,
            ('/', Passed::Alphanumeric) => Passed::PartStart,
            ('.' | '_' | '-', Passed::PartStart) | ('/', _) => return Err(Fault::Edge),
            ('.' | '_' | '-', _) => return Err(Fault::Separator),
            _ => return Err(Fault::Character { character }),
        };
    }
    match passed {
        Passed::Alphanumeric => Ok(()),
        _ => Err(Fault::Edge),
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        match check(name) {
            Ok(()) => Ok(Self(Arc::from(name))),
            Err(fault) => Err(NameError { name: excerpt(name), fault }),
        }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl AsRef<str> for RepositoryName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Serialize for RepositoryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RepositoryName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_serde::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The grammar as the distribution spec writes it.
    const SPEC_GRAMMAR: &str = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*";

    /// An independent reading of the grammar: split into parts, and each part into runs of separators.
    fn oracle(name: &str) -> bool {
        name.len() <= 255
            && name.split('/').all(|part| {
                let mut runs: Vec<&str> = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).collect();
                // A part that begins and ends with letters or digits splits into empty runs at both ends.
                if runs.len() < 2 || runs.first() != Some(&"") || runs.last() != Some(&"") {
                    return false;
                }
                runs.retain(|run| !run.is_empty());
                runs.iter().all(|run| matches!(*run, "." | "_" | "__") || run.chars().all(|c| c == '-'))
            })
    }

    fn accepted(name: &str) -> bool {
        name.parse::<RepositoryName>().is_ok()
    }

    #[test]
    fn ordinary_names() {
        for name in ["a", "busybox", "library/busybox", "0/1", "a.b/c_d/e__f/g-h/i---j", "x9"] {
            assert_eq!(name.parse::<RepositoryName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn refused_names() {
        let refused = [
            "", "/", "a/", "/a", "a//b", "A", "a.", ".a", "a..b", "a._b", "a___b", "_catalog", "a-", "-a", "a-.b", "é",
            "a b", "a:b", "a@b", "..", "a/../b", "a\0", "a\n", "a%2fb",
        ];
        for name in refused {
            assert!(!accepted(name), "{name:?}");
        }
    }

    #[test]
    fn the_length_is_limited() {
        assert!(accepted(&"a".repeat(255)));
        let error = "a".repeat(256).parse::<RepositoryName>().unwrap_err().to_string();
        assert!(error.ends_with("it has 256 bytes, shorten it to at most 255"), "{error}");
    }

    #[test]
    fn the_texts_say_what_to_change() {
        let text = |name: &str| name.parse::<RepositoryName>().unwrap_err().to_string();
        assert_eq!(
            text("Busybox"),
            "repository name `Busybox` is invalid: use lower-case letters, digits, `.`, `_`, `-` and `/` only, not 'B'"
        );
        assert!(text("a/").ends_with("begin and end each part between slashes with a lower-case letter or digit"));
        assert!(text("a..b").ends_with("separate letters and digits by one `.`, one or two `_`, or any number of `-`"));
    }

    #[test]
    fn serde_uses_the_text() {
        let name: RepositoryName = serde_json::from_str("\"a/b\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"a/b\"");
        assert!(serde_json::from_str::<RepositoryName>("\"A\"").is_err());
    }

    proptest! {
        #[test]
        fn what_the_grammar_makes_is_accepted(name in SPEC_GRAMMAR) {
            prop_assert_eq!(accepted(&name), name.len() <= 255);
        }

        #[test]
        fn one_changed_character_is_judged_as_the_oracle_does(
            name in SPEC_GRAMMAR,
            position in any::<prop::sample::Index>(),
            replacement in "[a-z0-9._/A-Z\\- é%:]{0,2}",
        ) {
            let position = position.index(name.len());
            let mutant = format!("{}{replacement}{}", &name[..position], &name[position + 1..]);
            prop_assert_eq!(accepted(&mutant), oracle(&mutant), "{:?}", mutant);
        }

        #[test]
        fn text_of_the_alphabet_is_judged_as_the_oracle_does(name in "[ab0._/-]{0,12}") {
            prop_assert_eq!(accepted(&name), oracle(&name), "{:?}", name);
        }

        #[test]
        fn any_text_is_judged_as_the_oracle_does(name in any::<String>()) {
            prop_assert_eq!(accepted(&name), oracle(&name));
        }
    }
}
