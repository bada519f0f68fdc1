//! Gigabytes of content that are never in memory: any part of it can be made at any time.

use sha2::{Digest, Sha256};

use crate::MIB;

/// What is made in one go, in bytes.
const PIECE: usize = MIB as usize;
/// Each page of this many bytes begins with its own number: no page can stand in for another.
const PAGE: usize = 4096;

/// A blob of a given length that differs from that of any other number.
#[derive(Debug)]
pub(crate) struct Content {
    number: u64,
    length: u64,
    piece: Vec<u8>,
}

impl Content {
    pub(crate) fn new(number: u64, length: u64) -> Self {
        let mut state = number;
        let noise = (0..PIECE / 8).flat_map(|_| {
            // Any generator will do (this one is Knuth's): the bytes must differ, not surprise.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()
        });
        Self { number, length, piece: noise.collect() }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Makes the bytes from `start`, which begins a mebibyte, up to `end`, and hands them over in pieces.
    pub(crate) fn each_piece(&mut self, start: u64, end: u64, mut take: impl FnMut(&[u8])) {
        assert_eq!(start % MIB, 0, "parts begin where pieces begin");
        let mut offset = start;
        while offset < end {
            for (index, page) in self.piece.chunks_exact_mut(PAGE).enumerate() {
                let position = offset + (index * PAGE) as u64;
                page[..8].copy_from_slice(&position.to_le_bytes());
                page[8..16].copy_from_slice(&self.number.to_le_bytes());
            }
            let length = usize::try_from(end - offset).map_or(PIECE, |rest| rest.min(PIECE));
            take(&self.piece[..length]);
            offset += length as u64;
        }
    }

    /// The digest of all of it.
    pub(crate) fn digest(&mut self) -> String {
        let mut hash = Sha256::new();
        self.each_piece(0, self.length, |piece| hash.update(piece));
        digest_of(hash)
    }
}

/// A finished hash as a digest.
pub(crate) fn digest_of(hash: Sha256) -> String {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
