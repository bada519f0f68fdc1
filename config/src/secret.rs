//! A value that must never be shown.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::io;
use std::path::Path;

/// What stands in place of a secret wherever settings are printed.
pub(crate) const MASK: &str = "********";

/// A secret text: `Debug` and `Serialize` show `********`; only [`Secret::expose`] gives the value.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Reads a secret from a file of its own; line ends at the end of the file do not belong to it.
    ///
    /// A relative path starts at the working directory.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, or holds nothing.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let value = text.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
        }
        Ok(Self::new(value))
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}
