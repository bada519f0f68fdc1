//! Random choices that a seed repeats.

use std::env;

use crate::image::random_bytes;

/// A generator of numbers and bytes (splitmix64).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded by this variable of the environment, or afresh; says on standard output by what.
    #[must_use]
    pub fn announced(purpose: &str, variable: &str) -> Self {
        let given = env::var(variable).ok();
        let seed = match given {
            Some(text) => text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")),
            None => u64::from_le_bytes(random_bytes(8).try_into().expect("eight were asked for")),
        };
        println!("{purpose}: {variable}={seed}");
        Self(seed)
    }

    /// Another generator, which runs apart from this one.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.number())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` up to but not including `end`.
    pub fn between(&mut self, least: usize, end: usize) -> usize {
        let span = (end - least) as u64;
        least + usize::try_from(self.number() % span).expect("less than a usize")
    }

    /// True once in `times` calls, on the whole.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.between(0, times) == 0
    }

    /// `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.number().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}
