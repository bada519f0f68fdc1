//! Durations as people write them: `500ms`, `30s`, `24h`, `7d`, `1h30m`.
//!
//! Fields stay plain [`Duration`]s; `#[serde(with = "duration")]` reads and writes them. The finest unit is the millisecond.

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// Units with their milliseconds, largest first: the order in which a compound duration names them.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// A number alone, which could mean anything.
    #[error("{0:?} has no unit: add d, h, m, s or ms")]
    NoUnit(String),
    /// Not a row of number-unit pairs, largest unit first.
    #[error("{0:?} is not a duration: write whole numbers with d, h, m, s or ms, largest first")]
    Malformed(String),
    /// More than 2^64 - 1 milliseconds.
    #[error("{0:?} is too long")]
    TooLong(String),
}

/// Reads one or more number-unit pairs, largest unit first, each unit once.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let malformed = || DurationError::Malformed(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());
    if text.is_empty() {
        return Err(malformed());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::NoUnit(text.to_owned()));
    }
    let mut rest = text;
    let mut smaller_units = &UNITS[..];
    let mut milliseconds: u64 = 0;
    while !rest.is_empty() {
        let (digits, after_digits) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after_unit) = split_where(after_digits, |c| c.is_ascii_digit());
        let position = smaller_units.iter().position(|(name, _)| *name == unit).ok_or_else(malformed)?;
        if digits.is_empty() {
            return Err(malformed());
        }
        let count: u64 = digits.parse().map_err(|_| too_long())?;
        let part = count.checked_mul(smaller_units[position].1).ok_or_else(too_long)?;
        milliseconds = milliseconds.checked_add(part).ok_or_else(too_long)?;
        smaller_units = &smaller_units[position + 1..];
        rest = after_unit;
    }
    Ok(Duration::from_millis(milliseconds))
}

/// Cuts `text` before the first character that `ends` names.
fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// Writes a duration so that [`parse`] reads it back: one unit where one is exact (`24h`), else a compound (`1h30m`).
///
/// What is finer than a millisecond is dropped; settings cannot hold it.
pub fn format(duration: Duration) -> String {
    let total = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if total == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    let mut rest = total;
    for (unit, milliseconds) in UNITS {
        // A single day reads better as the 24 hours that people write.
        let unit_is_clumsy = unit == "d" && total < 2 * milliseconds;
        if unit_is_clumsy || rest < milliseconds {
            continue;
        }
        text.push_str(&format!("{}{unit}", rest / milliseconds));
        rest %= milliseconds;
    }
    text
}

/// For `#[serde(with = "duration")]`.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with = "duration")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(DurationVisitor)
}

/// For `#[serde(with = "duration::optional")]`.
pub(crate) mod optional {
    use super::Duration;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Text(#[serde(with = "super")] Duration);

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(Text).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Text>::deserialize(deserializer)?.map(|Text(duration)| duration))
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a duration such as \"30s\" or \"24h\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        let cases = [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("90m", 5_400_000),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "s", "1.5h", "-1s", "1 s", "1S", "1w", "30m1h", "1h1h", "1hm", "1h30", "1µs"] {
            assert_eq!(parse(text), Err(DurationError::Malformed(text.to_owned())));
        }
        assert_eq!(parse("60"), Err(DurationError::NoUnit("60".to_owned())));
        for text in ["99999999999999999999s", "18446744073709551615s", "213503982334d18446744073709551615ms"] {
            assert_eq!(parse(text), Err(DurationError::TooLong(text.to_owned())));
        }
    }

    #[test]
    fn writes_large_units_first() {
        let cases =
            [(0, "0s"), (1, "1ms"), (60_000, "1m"), (5_400_000, "1h30m"), (86_400_000, "24h"), (172_800_000, "2d")];
        for (milliseconds, text) in cases {
            assert_eq!(format(Duration::from_millis(milliseconds)), text);
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(milliseconds in any::<u64>(), divisor in 1_u64..u64::MAX) {
            let duration = Duration::from_millis(milliseconds / divisor);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
