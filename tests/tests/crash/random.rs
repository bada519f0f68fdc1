//! Random choices that a seed repeats.

use std::env;

use longshore_tests::image::random_bytes;

/// The variable that repeats a run.
const SEED: &str = "LONGSHORE_CRASH_SEED";

/// A generator of numbers and bytes (splitmix64).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by the environment, or afresh; says on standard output by what.
    pub(crate) fn announced(purpose: &str) -> Self {
        let given = env::var(SEED).ok();
        let seed = match given {
            Some(text) => text.parse().unwrap_or_else(|error| panic!("{SEED}={text}: {error}")),
            None => u64::from_le_bytes(random_bytes(8).try_into().expect("eight were asked for")),
        };
        println!("{purpose}: {SEED}={seed}");
        Self(seed)
    }

    /// Another generator, which runs apart from this one.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.number())
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` up to but not including `end`.
    pub(crate) fn between(&mut self, least: usize, end: usize) -> usize {
        let span = (end - least) as u64;
        least + usize::try_from(self.number() % span).expect("less than a usize")
    }

    /// True once in `times` calls, on the whole.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.between(0, times) == 0
    }

    /// `length` bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.number().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}
