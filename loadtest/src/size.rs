//! Owns sizes as they are written on a command line: bytes, or KiB, MiB, GiB.

use anyhow::{Context, Result};

const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads `1048576`, `1024KiB`, `1MiB`.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (digits, bytes) = unit.unwrap_or((text, 1));
    let number: u64 = digits.parse().with_context(|| format!("{text:?} is no size such as 64MiB"))?;
    number.checked_mul(bytes).with_context(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("0", 0), ("17", 17), ("2KiB", 2048), ("64MiB", 64 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(parse_size(text).unwrap(), bytes);
        }
        for odd in ["", "MiB", "1.5GiB", "-1", "1 MiB", "1MB", "99999999999GiB"] {
            assert!(parse_size(odd).is_err(), "{odd:?} was accepted");
        }
    }
}
