//! Patterns of repository names, in which people say which repositories a rule is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::RepositoryName;
use crate::excerpt::excerpt;
use crate::name;
use crate::text_serde;

/// Which repositories are meant: `ml/*`, `team-*/**`, `library/busybox`.
///
/// `*` stands for any characters within a part between slashes, `**` for any characters, slashes too; either may stand
/// for none. So `ml/*` names `ml/bert` and not `ml/nlp/bert`, `ml/**` names both and not `ml` itself, and `**` names
/// all.
///
/// A pattern that no name could match is refused. Matching takes no memory, and time in proportion to the two lengths
/// at most, whoever wrote the pattern.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RepositoryPattern(Box<[Token]>);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Token {
    /// This character, which is ASCII.
    Character(u8),
    /// `*`
    WithinPart,
    /// `**`
    AcrossParts,
}

/// Why a text is no pattern of repositories.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("repository pattern `{pattern}` is invalid: {fault}")]
pub struct PatternError {
    pattern: String,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Fault {
    #[error("write ** for all repositories, or a name in which * stands for any characters between two slashes")]
    Empty,
    #[error("write * for any characters between two slashes, ** for any characters, not more of them")]
    Stars,
    #[error("no repository has such a name: {0}")]
    Name(name::Fault),
}

impl RepositoryPattern {
    /// The pattern that names all repositories: `**`.
    pub fn all() -> Self {
        Self(Box::from([Token::AcrossParts]))
    }

    /// Whether the repository is meant.
    pub fn matches(&self, repository: &RepositoryName) -> bool {
        // Which places of the pattern can be reached by what of the name has been read.
        let mut reached = [false; name::MAX_BYTES + 1];
        reached[0] = true;
        self.pass_stars(&mut reached);
        for byte in repository.as_str().bytes() {
            self.read(byte, &mut reached);
            self.pass_stars(&mut reached);
        }
        reached[self.0.len()]
    }

    /// Takes one more character of the name.
    fn read(&self, byte: u8, reached: &mut [bool]) {
        // From the end, so that each place is asked for before it is changed.
        for place in (0..=self.0.len()).rev() {
            let stays = match self.0.get(place) {
                Some(Token::AcrossParts) => reached[place],
                Some(Token::WithinPart) => reached[place] && byte != b'/',
                Some(Token::Character(_)) | None => false,
            };
            let before = place.checked_sub(1);
            let comes = before.is_some_and(|before| reached[before] && self.0[before] == Token::Character(byte));
            reached[place] = stays || comes;
        }
    }

    /// A star may stand for nothing.
    fn pass_stars(&self, reached: &mut [bool]) {
        for (place, token) in self.0.iter().enumerate() {
            if reached[place] && !matches!(token, Token::Character(_)) {
                reached[place + 1] = true;
            }
        }
    }
}

impl FromStr for RepositoryPattern {
    type Err = PatternError;

    fn from_str(pattern: &str) -> Result<Self, PatternError> {
        let invalid = |fault| PatternError { pattern: excerpt(pattern), fault };
        if pattern.is_empty() {
            return Err(invalid(Fault::Empty));
        }
        if pattern.contains("***") {
            return Err(invalid(Fault::Stars));
        }
        // A letter fits wherever anything fits: if this is no name, neither is anything else that the stars could stand
        // for.
        let example = pattern.replace("**", "*").replace('*', "a");
        name::check(&example).map_err(|fault| invalid(Fault::Name(fault)))?;
        let mut rest = pattern.bytes().peekable();
        let mut tokens = Vec::with_capacity(example.len());
        while let Some(byte) = rest.next() {
            tokens.push(match byte {
                b'*' if rest.next_if_eq(&b'*').is_some() => Token::AcrossParts,
                b'*' => Token::WithinPart,
                byte => Token::Character(byte),
            });
        }
        Ok(Self(tokens.into()))
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.0.len() + 1);
        for token in &self.0 {
            match token {
                Token::Character(byte) => text.push(char::from(*byte)),
                Token::WithinPart => text.push('*'),
                Token::AcrossParts => text.push_str("**"),
            }
        }
        formatter.pad(&text)
    }
}

impl Serialize for RepositoryPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RepositoryPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_serde::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<RepositoryPattern>().unwrap().matches(&name.parse().unwrap())
    }

    /// What the two stars mean, written down without a thought of how long it takes.
    fn oracle(pattern: &str, name: &str) -> bool {
        if let Some(rest) = pattern.strip_prefix("**") {
            return (0..=name.len()).any(|taken| oracle(rest, &name[taken..]));
        }
        if let Some(rest) = pattern.strip_prefix('*') {
            let most = name.find('/').unwrap_or(name.len());
            return (0..=most).any(|taken| oracle(rest, &name[taken..]));
        }
        match pattern.chars().next() {
            Some(first) => name.strip_prefix(first).is_some_and(|name| oracle(&pattern[1..], name)),
            None => name.is_empty(),
        }
    }

    #[test]
    fn one_star_ends_at_a_slash_and_two_do_not() {
        for (pattern, yes, no) in [
            ("ml/bert", &["ml/bert"][..], &["ml", "ml/bert/v2", "ml/bertha", "a/ml/bert"][..]),
            ("ml/*", &["ml/bert", "ml/a_b"], &["ml", "ml/nlp/bert", "mlops/x"]),
            ("ml/**", &["ml/bert", "ml/nlp/bert"], &["ml", "mlops/x", "a/ml/b"]),
            ("ml**", &["ml", "ml/bert", "mlops/x"], &["a/ml"]),
            ("*", &["ml", "busybox"], &["ml/bert"]),
            ("**", &["ml", "ml/nlp/bert"], &[]),
            ("**/cache", &["a/cache", "a/b/cache"], &["cache", "a/cache/b"]),
            (
                "team-*/*-dev/**",
                &["team-a/x-dev/y", "team-b/a-dev/b/c"],
                &["team/x-dev/y", "team-a/x-dev", "team-a/b/x-dev/y"],
            ),
            ("a*b*c", &["abc", "axbxc", "abbcc"], &["ab/c", "abcd"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} does not name {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} names {name}");
            }
        }
    }

    #[test]
    fn the_texts_say_what_to_change() {
        let error = |pattern: &str| pattern.parse::<RepositoryPattern>().unwrap_err().to_string();
        assert_eq!(
            error(""),
            "repository pattern `` is invalid: \
             write ** for all repositories, or a name in which * stands for any characters between two slashes"
        );
        assert_eq!(
            error("a/***"),
            "repository pattern `a/***` is invalid: \
             write * for any characters between two slashes, ** for any characters, not more of them"
        );
        assert_eq!(
            error("ML/*"),
            "repository pattern `ML/*` is invalid: no repository has such a name: \
             use lower-case letters, digits, `.`, `_`, `-` and `/` only, not 'M'"
        );
        assert!(error("/ml/*").ends_with("begin and end each part between slashes with a lower-case letter or digit"));
        assert!(error(&"a".repeat(256)).ends_with("it has 256 bytes, shorten it to at most 255"));
        assert!("a*".repeat(127).parse::<RepositoryPattern>().is_ok());
    }

    #[test]
    fn serde_uses_the_text() {
        let pattern: RepositoryPattern = serde_json::from_str("\"ml/**\"").unwrap();
        assert_eq!(serde_json::to_string(&pattern).unwrap(), "\"ml/**\"");
        assert!(serde_json::from_str::<RepositoryPattern>("\"ML\"").is_err());
        assert_eq!(RepositoryPattern::all(), "**".parse().unwrap());
    }

    #[test]
    fn the_longest_of_both_are_matched() {
        let name = "a".repeat(255);
        assert!(matches(&format!("{}b**", "*a".repeat(126)), &format!("{}b", "a".repeat(254))));
        assert!(!matches(&format!("{}b", "**a".repeat(127)), &name));
    }

    const NAME: &str = "[ab]{1,3}(/[ab]{1,3}){0,3}";

    proptest! {
        #[test]
        fn names_are_matched_as_the_oracle_does(pattern in "[ab/*]{1,8}", name in NAME) {
            if let Ok(parsed) = pattern.parse::<RepositoryPattern>() {
                let found = parsed.matches(&name.parse().unwrap());
                prop_assert_eq!(found, oracle(&pattern, &name), "{} {}", pattern, name);
            }
        }

        #[test]
        fn a_pattern_that_was_a_name_names_it(
            name in NAME,
            places in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..3),
        ) {
            // Characters of a name become stars: the pattern still names it.
            let mut pattern: Vec<String> = name.chars().map(String::from).collect();
            for (place, double) in places {
                let place = place.index(pattern.len());
                let is_slash = name.as_bytes()[place] == b'/';
                pattern[place] = if double || is_slash { "**" } else { "*" }.to_owned();
            }
            let pattern = pattern.concat();
            prop_assume!(!pattern.contains("***"));
            prop_assert!(matches(&pattern, &name), "{} {}", pattern, name);
        }

        #[test]
        fn every_pattern_names_some_repository(pattern in "[ab._/*-]{1,10}") {
            if let Ok(parsed) = pattern.parse::<RepositoryPattern>() {
                let example = pattern.replace("**", "*").replace('*', "a").parse::<RepositoryName>();
                prop_assert!(example.is_ok_and(|example| parsed.matches(&example)), "{}", pattern);
            }
        }

        #[test]
        fn what_is_refused_names_no_repository(pattern in "[ab._/*-]{1,6}", name in "[ab]([._/-]{0,2}[ab]){0,4}") {
            if let (Err(_), Ok(name)) = (pattern.parse::<RepositoryPattern>(), name.parse::<RepositoryName>()) {
                prop_assert!(pattern.contains("***") || !oracle(&pattern, name.as_str()), "{} {}", pattern, name);
            }
        }

        #[test]
        fn patterns_are_shown_as_they_were_written(pattern in "[ab/*]{1,8}") {
            if let Ok(parsed) = pattern.parse::<RepositoryPattern>() {
                prop_assert_eq!(parsed.to_string(), pattern);
            }
        }

        #[test]
        fn no_text_makes_it_panic(pattern in ".{0,40}") {
            let _ = pattern.parse::<RepositoryPattern>();
        }
    }
}
