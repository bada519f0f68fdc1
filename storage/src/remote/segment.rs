//! The pieces in which an object's bytes wait for the store.

use super::budget::Charge;

/// How much is hashed in one go, and how large the pieces are that a part is sent in, in bytes.
pub(super) const SEGMENT: usize = 1024 * 1024;

/// A piece of memory, at most [`SEGMENT`] long. It is charged to the budget as long as it lives, as much as it has room for.
#[derive(Default)]
pub(super) struct Segment {
    pub(super) bytes: Vec<u8>,
    charge: Option<Charge>,
}

impl AsRef<[u8]> for Segment {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Segment {
    /// One with room for so many bytes, which the charge covers.
    pub(super) fn of(size: usize, charge: Charge) -> Self {
        Self { bytes: Vec::with_capacity(size), charge: Some(charge) }
    }

    fn charged(&self) -> usize {
        self.charge.as_ref().map_or(0, Charge::bytes)
    }

    /// What has to be charged before it takes so many bytes more: as much again as it has at least, so that its bytes are
    /// not moved each time.
    pub(super) fn lacks(&self, more: usize) -> Option<usize> {
        let charged = self.charged();
        let missing = (self.bytes.len() + more).checked_sub(charged).filter(|missing| *missing > 0)?;
        Some(missing.max(charged.min(SEGMENT.saturating_sub(charged))))
    }

    /// Makes room for what is charged, and no more.
    pub(super) fn add_charge(&mut self, more: Charge) {
        match &mut self.charge {
            Some(charge) => charge.add(more),
            none => *none = Some(more),
        }
        self.bytes.reserve_exact(self.charged() - self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::budget::UploadMemory;

    #[test]
    fn a_segment_has_room_for_what_is_charged_and_no_more() {
        let memory = UploadMemory::of(64 * SEGMENT as u64);
        for step in [1, 1000, 128 * 1024, 400_000, SEGMENT] {
            let mut segment = Segment::default();
            while segment.bytes.len() < SEGMENT {
                let more = step.min(SEGMENT - segment.bytes.len());
                if let Some(missing) = segment.lacks(more) {
                    segment.add_charge(memory.take(missing).unwrap());
                }
                assert_eq!(segment.lacks(more), None);
                segment.bytes.resize(segment.bytes.len() + more, 7);
                assert_eq!(segment.bytes.capacity(), segment.charged(), "{} in steps of {step}", segment.bytes.len());
            }
            assert_eq!(segment.charged(), SEGMENT);
        }
    }
}
