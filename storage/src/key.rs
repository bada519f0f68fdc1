//! The name of an object: random, sortable by time, never used twice.

use std::{
    fmt,
    path::PathBuf,
    str::FromStr,
    time::{Duration, SystemTime},
};
use uuid::Uuid;

/// The key of an object: `objects/<uuidv7>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey(Uuid);

/// A text that is no key of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not the key of an object")]
pub struct KeyError(String);

const PREFIX: &str = "objects/";

impl ObjectKey {
    /// A key that no object has had before.
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }

    /// The key of the one object that holds no blob: it is there from the first start on, bears the mark of the store,
    /// and is looked at by readiness probes. (To look at what is not there is refused where listing is: that would tell
    /// nothing.)
    pub(crate) fn probe() -> Self {
        Self(Uuid::nil())
    }

    /// When it was made, by the clock of the process that made it; none for a key that tells no time.
    pub fn made_at(&self) -> Option<SystemTime> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
    }

    /// What is random in it, as 32 hexadecimal digits.
    pub(crate) fn name(&self) -> String {
        self.0.simple().to_string()
    }

    /// The key of this [`ObjectKey::name`].
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Uuid::try_parse(name).ok().map(Self).filter(|key| key.name() == name)
    }

    /// Where a file of this key lies below the storage folder: spread over 256 folders by the random end of the key.
    pub(crate) fn path(&self) -> PathBuf {
        let name = self.name();
        PathBuf::from("objects").join(&name[30..]).join(name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}", self.name())
    }
}

impl FromStr for ObjectKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        text.strip_prefix(PREFIX).and_then(Self::of_name).ok_or_else(|| KeyError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text() {
        let key = ObjectKey::random();
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn no_text_leads_out_of_the_folder() {
        for text in ["", "objects/", "objects/../../etc/passwd", "0192f3a4b5c67d8e9f00112233445566", "objects/../x"] {
            assert!(text.parse::<ObjectKey>().is_err(), "{text}");
        }
    }
}
