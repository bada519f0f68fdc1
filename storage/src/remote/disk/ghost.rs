//! What has gone from probation not long ago, by a hash each.

use super::segment::SegmentId;
use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
};

/// A bounded memory of segments. Two that have the same hash are taken for each other, which does no harm.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    order: VecDeque<u64>,
    known: HashSet<u64>,
    hasher: RandomState,
}

impl Ghost {
    /// Remembers one, and of all no more than so many.
    pub(super) fn remember(&mut self, id: &SegmentId, at_most: usize) {
        let hash = self.hasher.hash_one(id);
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        while self.order.len() > at_most {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// Whether it is remembered: once.
    pub(super) fn recall(&mut self, id: &SegmentId) -> bool {
        self.known.remove(&self.hasher.hash_one(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectKey;

    #[test]
    fn the_oldest_are_forgotten() {
        let key = ObjectKey::random();
        let ids: Vec<_> = (0..5).map(|number| SegmentId::new(&key, number).unwrap()).collect();
        let mut ghost = Ghost::default();
        for id in &ids {
            ghost.remember(id, 3);
        }
        let recalled: Vec<_> = ids.iter().map(|id| ghost.recall(id)).collect();
        assert_eq!(recalled, [false, false, true, true, true]);
        assert!(!ghost.recall(&ids[4]), "once");
        for _ in 0..100 {
            ghost.remember(&ids[0], 3);
            ghost.recall(&ids[0]);
        }
        assert!(ghost.order.len() <= 3);
    }
}
