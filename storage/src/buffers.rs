//! Buffers of whole segments, which are used again.
//!
//! An allocator that gets a megabyte back puts something small into it, and has no room for a megabyte there ever after: with
//! two thousand readers the process held a fifth more than what was in use.

use crate::hot::SEGMENT;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many are kept: what is given back is usually taken at once.
const KEPT: usize = 32;

/// Buffers that nobody uses now.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty one with room for so many bytes and no more.
    pub(crate) fn take(&self, length: usize) -> Vec<u8> {
        let spare = if length == SEGMENT as usize { self.spare().pop() } else { None };
        spare.unwrap_or_else(|| Vec::with_capacity(length))
    }

    /// Takes one back.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare();
        if buffer.capacity() == SEGMENT as usize && spare.len() < KEPT {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = SEGMENT as usize;

    #[test]
    fn whole_segments_are_used_again_and_others_are_not() {
        let buffers = Buffers::default();
        let (mut whole, part) = (buffers.take(LENGTH), buffers.take(5));
        whole.push(1);
        let place = whole.as_ptr();
        buffers.give_back(part);
        buffers.give_back(whole);
        assert!(buffers.take(5).capacity() < LENGTH);
        let again = buffers.take(LENGTH);
        assert!(again.is_empty() && again.as_ptr() == place);
        for _ in 0..KEPT * 2 {
            buffers.give_back(Vec::with_capacity(LENGTH));
        }
        assert_eq!(buffers.spare().len(), KEPT);
    }
}
