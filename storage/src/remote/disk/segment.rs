//! A segment on the disk: a file that holds its bytes and nothing else. What is known of it stands in its name, so that
//! a folder can be looked through without reading any of it.

use crate::{ObjectKey, hot::segment};

/// Which segment of which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SegmentId {
    key: ObjectKey,
    number: u32,
}

/// A segment that is on the disk, or about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) id: SegmentId,
    pub(super) length: u32,
    /// CRC-64/NVME of its bytes.
    pub(super) checksum: u64,
}

impl SegmentId {
    /// None beyond four billion segments.
    pub(super) fn new(key: &ObjectKey, number: u64) -> Option<Self> {
        Some(Self { key: key.clone(), number: u32::try_from(number).ok()? })
    }
}

/// The length of a segment of an object of this size.
pub(super) fn length_of(number: u64, size: u64) -> u32 {
    let range = segment(number, size);
    u32::try_from(range.end.saturating_sub(range.start)).unwrap_or_default()
}

impl Stored {
    pub(super) fn new(id: SegmentId, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self { id, length, checksum: crc_fast::crc64_nvme(bytes) }
    }

    /// Whether these are its bytes.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == u64::from(self.length) && crc_fast::crc64_nvme(bytes) == self.checksum
    }

    /// The file's name.
    pub(super) fn name(&self) -> String {
        let Self { id: SegmentId { key, number }, length, checksum } = self;
        format!("{}-{number}-{length}-{checksum:016x}", key.name())
    }

    /// The folder that the file lies in: one of 256, by the random end of the key.
    pub(super) fn part(&self) -> String {
        self.id.key.name().split_off(30)
    }

    /// What the name of a file says; none for one that is not ours.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let mut words = name.split('-');
        let key = ObjectKey::of_name(words.next()?)?;
        let number = words.next()?.parse().ok()?;
        let length = words.next()?.parse().ok()?;
        let checksum = u64::from_str_radix(words.next()?, 16).ok()?;
        let stored = Self { id: SegmentId { key, number }, length, checksum };
        (stored.name() == name).then_some(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hot::SEGMENT;

    #[test]
    fn a_segment_survives_its_name() {
        let id = SegmentId::new(&ObjectKey::random(), 70_000).unwrap();
        let stored = Stored::new(id, b"some bytes");
        assert_eq!(Stored::of_name(&stored.name()), Some(stored.clone()));
        assert!(stored.name().starts_with(|first: char| first.is_ascii_hexdigit()));
        assert!(stored.name()[..32].ends_with(&stored.part()));
    }

    #[test]
    fn other_files_are_not_ours() {
        let name = Stored::new(SegmentId::new(&ObjectKey::random(), 1).unwrap(), b"bytes").name();
        let others =
            ["", "lock", "-", "0-0-0-0", &name[1..], &format!("{name}-"), &format!("{name}0"), &name.to_uppercase()];
        for other in others {
            assert_eq!(Stored::of_name(other), None, "{other}");
        }
    }

    #[test]
    fn bytes_are_told_from_others() {
        let stored = Stored::new(SegmentId::new(&ObjectKey::random(), 0).unwrap(), &[7; 1000]);
        assert!(stored.is(&[7; 1000]));
        assert!(!stored.is(&[7; 999]));
        let mut flipped = [7; 1000];
        flipped[500] ^= 1;
        assert!(!stored.is(&flipped));
    }

    #[test]
    fn the_last_segment_is_as_long_as_what_is_left() {
        assert_eq!(length_of(0, 5), 5);
        assert_eq!(length_of(1, SEGMENT + 5), 5);
        assert_eq!(u64::from(length_of(0, SEGMENT + 5)), SEGMENT);
        assert_eq!(length_of(2, SEGMENT + 5), 0, "there is none");
    }
}
