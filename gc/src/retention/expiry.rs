//! How long a manifest says that its tags live: `2w`, `36h`, `1d12h`.

use std::time::Duration;

const UNITS: [(char, u64); 5] = [('w', 7 * 24 * 3600), ('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)];

/// Longer is for ever, and so nothing that has to be said.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Reads what an annotation says; none where it is not understood, as if there were no such annotation.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut seconds: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds = seconds.checked_add(count.checked_mul(*length)?)?;
        rest = &rest[digits + 1..];
    }
    let duration = Duration::from_secs(seconds);
    (duration <= LONGEST).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, hours) in
            [("2w", 336), ("36h", 36), ("1d12h", 36), (" 90d ", 2160), ("120m", 2), ("7200s", 2), ("0h", 0)]
        {
            assert_eq!(parse(text), Some(Duration::from_secs(hours * 3600)), "{text}");
        }
        for wrong in ["", "2", "w", "2y", "-1h", "1.5h", "2w!", "never", "99999999999999999999h", "9999w", "1 h"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
