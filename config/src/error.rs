//! What can be wrong with settings, and how it is told.

use crate::document::SyntaxError;
use crate::origin::Origin;
use std::fmt;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// All the mistakes that one reading of the settings found; never empty. Displays as one line for each.
#[derive(Debug)]
pub struct ConfigError {
    /// In the order of the sources: file, environment, flags; then the rules between keys.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{problem}")?;
        }
        Ok(())
    }
}

/// One mistake and where it stands.
#[derive(Debug)]
pub struct Problem {
    /// Where the offending value came from; `Default` when nobody wrote it.
    pub origin: Origin,
    /// What is wrong.
    pub mistake: Mistake,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => {}
            Origin::File { path, line, column } => write!(formatter, "{}:{line}:{column}: ", path.display())?,
            Origin::Environment(name) => write!(formatter, "environment {name}: ")?,
            Origin::Flag => formatter.write_str("flag: ")?,
        }
        write!(formatter, "{}", self.mistake)
    }
}

/// What is wrong. No variant ever holds the value of a secret.
#[derive(Debug, Error)]
pub enum Mistake {
    /// The settings file cannot be read.
    #[error("{}: cannot read the settings file: {error}", path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is not YAML, or uses YAML that settings do not take.
    #[error("{0}")]
    Syntax(String),
    /// A key that does not exist.
    #[error("unknown key {key:?}: {advice}")]
    UnknownKey {
        /// The dotted key as it was written.
        key: String,
        /// The nearest key, or the keys that there are.
        advice: String,
    },
    /// An environment variable with our prefix that names no key.
    #[error("unknown variable: {advice}")]
    UnknownVariable {
        /// The nearest variable, or how variables are named.
        advice: String,
    },
    /// The same key twice in one file.
    #[error("duplicate key {key:?}: already set in line {first_line}")]
    DuplicateKey {
        /// The dotted key.
        key: String,
        /// Where it stood first.
        first_line: usize,
    },
    /// Two environment variables for the same key.
    #[error("{key} is already set by {other}: keep one of the two")]
    DuplicateVariable {
        /// The dotted key.
        key: String,
        /// The other variable.
        other: String,
    },
    /// A value that the key's type does not take.
    #[error("{key}: {problem}, for example {example}")]
    WrongValue {
        /// The dotted key.
        key: String,
        /// What is wrong and what was expected.
        problem: String,
        /// A value that would be accepted, as YAML.
        example: String,
    },
    /// A value where a section with keys belongs.
    #[error("{key} is a section: set one of its keys ({children})")]
    SectionExpected {
        /// The dotted name of the section.
        key: String,
        /// Its keys.
        children: String,
    },
    /// The file of a secret cannot be read.
    #[error("{key}: cannot read the secret from {}: {error}", path.display())]
    SecretUnreadable {
        /// The dotted key.
        key: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Settings that are well formed but must not be used.
    #[error("{key}: {rule}")]
    Rule {
        /// The dotted key to change.
        key: &'static str,
        /// Why, and what to change.
        rule: String,
    },
}

impl From<SyntaxError> for Mistake {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error.message)
    }
}
