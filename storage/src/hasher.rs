//! A hash that can be put away between two requests and taken up again, by this process or another one.
//!
//! The sha2 crate uses the SHA instructions of the CPU and lets its state be serialised; measured beside ring and
//! aws-lc-rs it is as fast (see `docs/adr/0003-sha2-for-digests.md`), and the other two cannot put their state away.

use longshore_oci::{Algorithm, Digest};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

/// A running SHA-256 or SHA-512.
#[derive(Debug, Clone)]
pub enum BlobHasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

/// A saved state that cannot be taken up: of another version of the hash crate, or damaged. Hash the bytes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the saved state of the hash cannot be read")]
pub struct HashStateError;

/// The first byte of a saved state: the format of sha2 0.11, and which of the two hashes.
const SHA256_OF_SHA2_0_11: u8 = 0x11;
const SHA512_OF_SHA2_0_11: u8 = 0x12;

impl BlobHasher {
    /// A hash of no bytes yet.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Which hash it is.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Hashes some more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all bytes so far. The hash can go on afterwards.
    pub fn digest(&self) -> Digest {
        let digest = match self {
            Self::Sha256(hash) => Digest::from_hash(Algorithm::Sha256, &hash.clone().finalize()),
            Self::Sha512(hash) => Digest::from_hash(Algorithm::Sha512, &hash.clone().finalize()),
        };
        digest.expect("a hash has the length of its algorithm")
    }

    /// The state, to be taken up by [`BlobHasher::restore`]: 105 or 209 bytes.
    pub fn save(&self) -> Vec<u8> {
        let (format, state) = match self {
            Self::Sha256(hash) => (SHA256_OF_SHA2_0_11, hash.serialize().to_vec()),
            Self::Sha512(hash) => (SHA512_OF_SHA2_0_11, hash.serialize().to_vec()),
        };
        [&[format], state.as_slice()].concat()
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// Where the state was saved by a version that this one does not read.
    pub fn restore(saved: &[u8]) -> Result<Self, HashStateError> {
        let (format, state) = saved.split_first().ok_or(HashStateError)?;
        match *format {
            SHA256_OF_SHA2_0_11 => restore_state(state).map(Self::Sha256),
            SHA512_OF_SHA2_0_11 => restore_state(state).map(Self::Sha512),
            _ => Err(HashStateError),
        }
    }
}

fn restore_state<H: SerializableState>(state: &[u8]) -> Result<H, HashStateError> {
    let state: &SerializedState<H> = state.try_into().map_err(|_| HashStateError)?;
    H::deserialize(state).map_err(|_| HashStateError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_hash_that_was_put_away_anywhere_gives_the_same_digest(
            bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
            cut in any::<prop::sample::Index>(),
            sha512 in any::<bool>(),
        ) {
            let algorithm = if sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut first = BlobHasher::new(algorithm);
            first.update(head);
            let mut second = BlobHasher::restore(&first.save()).unwrap();
            second.update(tail);
            prop_assert_eq!(second.digest(), Digest::of(algorithm, &bytes));
        }

        #[test]
        fn no_saved_state_makes_it_panic(saved in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = BlobHasher::restore(&saved);
        }
    }

    /// Saved states lie in databases: a new version of the hash crate must read them, or be found out here.
    #[test]
    fn a_state_saved_long_ago_is_still_read() {
        let mut hasher = BlobHasher::new(Algorithm::Sha256);
        hasher.update(b"longshore");
        let hex: String = hasher.save().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../testdata/sha256-state.hex").trim());
    }
}
