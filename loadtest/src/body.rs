//! Owns the bytes that are pushed: random-looking, different in every push, and almost free to make.
//!
//! A body is a fixed pattern of 1 MiB, repeated, with a number stamped into every block of 4 KiB. No number is used
//! twice, so neither whole blobs nor aligned parts of them can be deduplicated, and the pattern cannot be compressed.
//! Whoever sends a body stamps 256 numbers per MiB; nothing is generated or hashed while the clock runs.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

/// How much of a body is made and sent at once.
pub(crate) const SEGMENT_BYTES: usize = 1 << 20;
const BLOCK_BYTES: usize = 4096;

/// A SHA-256 digest, displayed as `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub(crate) fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl Display for Sha256Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0u8; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        formatter.write_str("sha256:")?;
        formatter.write_str(&String::from_utf8_lossy(&hex))
    }
}

/// A body of `size` bytes, told wholly by the number in its first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Body {
    first_block: u64,
    pub(crate) size: u64,
}

impl Body {
    /// The body of this size that is the same in every run: what pulls ask for.
    pub(crate) fn fixed(size: u64) -> Self {
        Self { first_block: 0, size }
    }

    /// Hashes the body with the given segment as scratch space.
    pub(crate) fn digest(self, segment: &mut Segment) -> Sha256Digest {
        let mut hasher = Sha256::new();
        let mut offset = 0;
        while offset < self.size {
            let bytes = segment.fill(self, offset, self.size);
            hasher.update(bytes);
            offset += bytes.len() as u64;
        }
        Sha256Digest::finish(hasher)
    }
}

/// Gives out bodies that no run before has pushed.
pub(crate) struct UniqueBodies {
    next_block: AtomicU64,
}

impl UniqueBodies {
    /// Numbers begin at the nanoseconds since 1970. A later run begins higher than an earlier one ended, for nobody
    /// makes a block of 4 KiB in less than a nanosecond.
    pub(crate) fn from_clock() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { next_block: AtomicU64::new(u64::try_from(since_1970.as_nanos()).unwrap_or(0)) }
    }

    /// The number that the next body begins with: new in every run.
    pub(crate) fn first_number(&self) -> u64 {
        self.next_block.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self, size: u64) -> Body {
        let blocks = size.div_ceil(BLOCK_BYTES as u64).max(1);
        Body { first_block: self.next_block.fetch_add(blocks, Ordering::Relaxed), size }
    }
}

/// Hashes bodies on all processors, in the order given. Done before a timed window, never inside.
pub(crate) fn digests(bodies: &[Body]) -> Vec<(Body, Sha256Digest)> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let share = bodies.len().div_ceil(processors).max(1);
    thread::scope(|scope| {
        let workers: Vec<_> = bodies
            .chunks(share)
            .map(|bodies| {
                scope.spawn(move || {
                    let mut segment = Segment::new();
                    bodies.iter().map(|body| (*body, body.digest(&mut segment))).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut all = Vec::with_capacity(bodies.len());
        for worker in workers {
            match worker.join() {
                Ok(hashed) => all.extend(hashed),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

/// 1 MiB of pattern that one connection stamps and sends again and again.
pub(crate) struct Segment {
    bytes: Box<[u8]>,
}

impl Segment {
    pub(crate) fn new() -> Self {
        let mut bytes = vec![0; SEGMENT_BYTES].into_boxed_slice();
        let mut state = 0x4c6f_6e67_7368_6f72u64;
        for word in bytes.chunks_exact_mut(8) {
            word.copy_from_slice(&splitmix64(&mut state).to_le_bytes());
        }
        Self { bytes }
    }

    /// The bytes of `body` from `offset`, a multiple of 1 MiB, to the end of that segment or to `end`.
    fn fill(&mut self, body: Body, offset: u64, end: u64) -> &[u8] {
        debug_assert!(offset.is_multiple_of(SEGMENT_BYTES as u64), "segments begin at multiples of 1 MiB");
        let length = (end - offset).min(SEGMENT_BYTES as u64) as usize;
        let first_number = body.first_block + offset / BLOCK_BYTES as u64;
        for (number, block) in (first_number..).zip(self.bytes[..length].chunks_mut(BLOCK_BYTES)) {
            let stamp = number.to_le_bytes();
            let stamped = stamp.len().min(block.len());
            block[..stamped].copy_from_slice(&stamp[..stamped]);
        }
        &self.bytes[..length]
    }
}

/// A small generator with good statistics (Steele, Lea, Flood 2014): the pattern must merely not compress.
pub(crate) fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What a request carries, piece by piece.
pub(crate) trait BodySource {
    /// The bytes that all pieces together have: the `Content-Length`.
    fn length(&self) -> u64;
    /// The next piece. Empty at the end.
    fn next_piece(&mut self) -> &[u8];
}

/// A part of a body (or all of it), made on the way out.
pub(crate) struct BodyRange<'a> {
    segment: &'a mut Segment,
    body: Body,
    position: u64,
    end: u64,
}

impl<'a> BodyRange<'a> {
    pub(crate) fn whole(segment: &'a mut Segment, body: Body) -> Self {
        Self::part(segment, body, 0, body.size)
    }

    /// The bytes from `start`, a multiple of 1 MiB, up to but not including `end`.
    pub(crate) fn part(segment: &'a mut Segment, body: Body, start: u64, end: u64) -> Self {
        Self { segment, body, position: start, end }
    }
}

impl BodySource for BodyRange<'_> {
    fn length(&self) -> u64 {
        self.end - self.position
    }

    fn next_piece(&mut self) -> &[u8] {
        if self.position >= self.end {
            return &[];
        }
        let piece = self.segment.fill(self.body, self.position, self.end);
        self.position += piece.len() as u64;
        piece
    }
}

/// Bytes that lie ready: a manifest, a config, nothing at all.
pub(crate) struct ReadyBytes<'a>(pub(crate) &'a [u8]);

impl BodySource for ReadyBytes<'_> {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn next_piece(&mut self) -> &[u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn collect(mut source: impl BodySource) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let piece = source.next_piece();
            if piece.is_empty() {
                return bytes;
            }
            bytes.extend_from_slice(piece);
        }
    }

    #[test]
    fn a_digest_is_displayed_in_full() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Sha256Digest::of(b"").to_string(), empty);
    }

    #[test]
    fn no_block_repeats_within_a_body_or_between_bodies() {
        let unique = UniqueBodies::from_clock();
        let mut segment = Segment::new();
        let mut seen = HashSet::new();
        for _ in 0..3 {
            let body = unique.take(2 * SEGMENT_BYTES as u64 + 10);
            for block in collect(BodyRange::whole(&mut segment, body)).chunks(BLOCK_BYTES) {
                assert!(seen.insert(Sha256Digest::of(block)), "a block repeats");
            }
        }
    }

    #[test]
    fn digests_come_in_the_order_of_the_bodies() {
        let unique = UniqueBodies::from_clock();
        let bodies: Vec<Body> = (0..7).map(|_| unique.take(10_000)).collect();
        let mut segment = Segment::new();
        for (index, (body, digest)) in digests(&bodies).into_iter().enumerate() {
            assert_eq!(body, bodies[index]);
            assert_eq!(digest, body.digest(&mut segment));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_sent_is_what_was_hashed(size in 0u64..3_000_000) {
            let mut segment = Segment::new();
            let body = UniqueBodies::from_clock().take(size);
            let sent = collect(BodyRange::whole(&mut segment, body));
            prop_assert_eq!(sent.len() as u64, size);
            prop_assert_eq!(Sha256Digest::of(&sent), body.digest(&mut segment));
            let middle = size.min(SEGMENT_BYTES as u64);
            let mut parts = collect(BodyRange::part(&mut segment, body, 0, middle));
            parts.extend(collect(BodyRange::part(&mut segment, body, middle, size)));
            prop_assert!(parts == sent || middle == size);
        }
    }
}
