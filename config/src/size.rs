//! Sizes in bytes, written as people write them: `16KiB`, `4MiB`, `10GB`, `65536`.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Units with their factors, largest first: the first that divides a size gives its shortest exact form.
const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SizeError {
    /// Not digits followed by a known unit.
    #[error("{0:?} is not a size: write bytes, or a whole number with kB, KiB, MB, MiB, GB, GiB, TB or TiB")]
    Malformed(String),
    /// More than 2^64 - 1 bytes.
    #[error("{0:?} is beyond 16 EiB")]
    TooLarge(String),
}

impl ByteSize {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many times 1,024 bytes.
    pub const fn kib(count: u32) -> Self {
        Self((count as u64) << 10)
    }

    /// So many times 1,048,576 bytes.
    pub const fn mib(count: u32) -> Self {
        Self((count as u64) << 20)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let malformed = || SizeError::Malformed(text.to_owned());
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, rest) = text.split_at(digits_end);
        if digits.is_empty() {
            return Err(malformed());
        }
        let unit = rest.trim_start_matches(' ');
        let factor = unit_factor(unit).ok_or_else(malformed)?;
        let too_large = || SizeError::TooLarge(text.to_owned());
        let count: u64 = digits.parse().map_err(|_| too_large())?;
        count.checked_mul(factor).map(Self).ok_or_else(too_large)
    }
}

/// The bytes in one unit; letter case does not matter, and bare `K`, `M`, `G` are refused as ambiguous.
fn unit_factor(unit: &str) -> Option<u64> {
    if unit.is_empty() || unit.eq_ignore_ascii_case("B") {
        return Some(1);
    }
    UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match exact {
            Some((unit, factor)) => write!(formatter, "{}{unit}", self.0 / factor),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a size such as \"16KiB\", or a number of bytes")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        let cases = [
            ("0", 0),
            ("65536", 65_536),
            ("512B", 512),
            ("16KiB", 16 << 10),
            ("16 KiB", 16 << 10),
            ("4mib", 4 << 20),
            ("10GB", 10_000_000_000),
            ("1kB", 1000),
            ("2TiB", 2 << 40),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(ByteSize::new(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "KiB", "1.5GiB", "-1", "+1", "16K", "16Ki", "1e3", "1 2", " 1", "1\u{a0}KiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(SizeError::Malformed(text.to_owned())));
        }
        for text in ["18446744073709551616", "16777216TiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(SizeError::TooLarge(text.to_owned())));
        }
    }

    #[test]
    fn writes_the_shortest_exact_form() {
        let cases = [
            (0, "0"),
            (1, "1"),
            (1000, "1kB"),
            (1001, "1001"),
            (1024, "1KiB"),
            (4 << 20, "4MiB"),
            (10_000_000_000, "10GB"),
            (1 << 40, "1TiB"),
            (1_048_577, "1048577"),
            (1_024_000, "1000KiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(ByteSize::new(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn a_written_size_reads_back(count in any::<u64>(), shift in 0_u32..64) {
            let size = ByteSize::new(count.wrapping_shl(shift));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
