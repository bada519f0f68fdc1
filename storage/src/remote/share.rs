//! How much of an object is in the caches.

use super::flights::Flights;
use crate::{ObjectKey, hot::SEGMENT};

/// So many segments of an object, evenly apart, are looked for before it is worth looking for all.
const SAMPLE: u64 = 64;

/// How much of an object is in the caches.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Share {
    All,
    Half,
    Less,
}

impl Share {
    /// Of so many segments. Of an object of which less than half seems to be there, no more than a sample is looked at.
    fn of(segments: u64, is_held: impl Fn(u64) -> bool) -> Self {
        let of_every = |step: u64| {
            let numbers = (0..segments).step_by(step as usize);
            let all = numbers.clone().count();
            match numbers.filter(|number| is_held(*number)).count() {
                held if held == all => Self::All,
                held if held * 2 >= all => Self::Half,
                _ => Self::Less,
            }
        };
        match of_every(segments.div_ceil(SAMPLE).max(1)) {
            Self::Less => Self::Less,
            Self::Half | Self::All => of_every(1),
        }
    }
}

impl Flights {
    /// How much of it is in memory or on the disk.
    pub(super) fn share(&self, key: &ObjectKey, size: u64) -> Share {
        let is_on_disk =
            |number| self.disk.as_ref().is_some_and(|disk| !disk.held(key, size, number..number + 1).is_empty());
        Share::of(size.div_ceil(SEGMENT), |number| self.hot.holds(key, number) || is_on_disk(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, ops::Range};

    #[test]
    fn of_an_object_of_which_little_is_there_only_a_sample_is_looked_at() {
        let share = |segments: u64, held: Range<u64>| {
            let looks = Cell::new(0);
            let is_held = |number: u64| {
                looks.set(looks.get() + 1);
                held.contains(&number)
            };
            (Share::of(segments, is_held), looks.get())
        };
        assert_eq!(share(10_240, 0..4_000), (Share::Less, SAMPLE));
        assert_eq!(share(10_240, 0..10_240).0, Share::All);
        assert_eq!(share(10_240, 1..10_240).0, Share::Half);
        assert_eq!(share(10_240, 0..10_239).0, Share::Half, "where much is there, all of it is looked at");
        assert_eq!(share(65, 0..33).0, Share::Half);
        assert_eq!(share(65, 0..32).0, Share::Less);
        assert_eq!(share(1, 0..0).0, Share::Less);
        assert_eq!(share(0, 0..0).0, Share::All);
    }
}
