//! Digests: the names that content has by its own bytes.
//!
//! Owns the text form (`sha256:<hex>`), the database form (an algorithm byte, then the hash) and one-shot hashing.
//! Hashing of streams, with its saved mid-state, belongs to whoever reads the stream.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

use crate::excerpt::excerpt;
use crate::{Tag, text_serde};

/// The bytes of the longest hash that a [`Digest`] holds.
const LONGEST_HASH: usize = 64;

/// A hash algorithm that this registry takes. The image spec registers these two; sha256 is the one everybody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, in the order of their names.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The algorithm as a digest names it: `sha256`, `sha512`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the raw hash in bytes; its text has twice as many hexadecimal digits.
    pub const fn hash_length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The first byte of the database form. These numbers are stored: never change one.
    const fn database_byte(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestError::UnsupportedAlgorithm { algorithm: excerpt(text) }),
        }
    }
}

/// Why a digest is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DigestError {
    /// The text does not have the shape of a digest, or its hash is not lower-case hexadecimal.
    #[error(
        "digest `{digest}` is malformed: send algorithm, colon and lower-case hexadecimal hash, such as `sha256:` and 64 digits"
    )]
    Malformed {
        /// What was sent, cut to a length fit for a message.
        digest: String,
    },
    /// The shape is right, the algorithm is none of [`Algorithm::ALL`].
    #[error("digest algorithm `{algorithm}` is not supported: send a sha256 or sha512 digest")]
    UnsupportedAlgorithm {
        /// The algorithm that was named.
        algorithm: String,
    },
    /// The hash is too long or too short for its algorithm.
    #[error("the hash of a {algorithm} digest has {expected} hexadecimal digits, not {actual}: send the whole hash")]
    WrongLength {
        /// The algorithm that was named.
        algorithm: Algorithm,
        /// Hexadecimal digits that it needs.
        expected: usize,
        /// Hexadecimal digits that came.
        actual: usize,
    },
}

impl DigestError {
    fn malformed(text: &str) -> Self {
        Self::Malformed { digest: excerpt(text) }
    }
}

/// The digest of a manifest or blob: an algorithm and a hash of exactly its length.
///
/// It holds its bytes in itself and is [`Copy`]. Digests of different algorithms are different even where they name the
/// same content: nothing is made canonical. Text gets in by [`FromStr`] only; the order is that of the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    /// The hash, and zeroes up to the longest: so the derived equality, order and hash are right.
    padded_hash: [u8; LONGEST_HASH],
}

impl Digest {
    /// Hashes content that is in memory.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut padded_hash = [0; LONGEST_HASH];
        match algorithm {
            Algorithm::Sha256 => padded_hash[..32].copy_from_slice(&Sha256::digest(content)),
            Algorithm::Sha512 => padded_hash.copy_from_slice(&Sha512::digest(content)),
        }
        Self { algorithm, padded_hash }
    }

    /// A digest from the raw bytes that a hasher gave.
    ///
    /// # Errors
    /// [`DigestError::WrongLength`] when the bytes are not as many as the algorithm makes.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Result<Self, DigestError> {
        if hash.len() != algorithm.hash_length() {
            return Err(DigestError::WrongLength {
                algorithm,
                expected: 2 * algorithm.hash_length(),
                actual: 2 * hash.len(),
            });
        }
        let mut padded_hash = [0; LONGEST_HASH];
        padded_hash[..hash.len()].copy_from_slice(hash);
        Ok(Self { algorithm, padded_hash })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw hash: 32 bytes of sha256, 64 of sha512.
    pub fn hash(&self) -> &[u8] {
        &self.padded_hash[..self.algorithm.hash_length()]
    }

    /// The hash in lower-case hexadecimal, without the algorithm.
    pub fn hex(&self) -> String {
        let mut hex = String::with_capacity(2 * self.hash().len());
        for byte in self.hash() {
            hex.push(hexadecimal_digit(byte >> 4));
            hex.push(hexadecimal_digit(byte & 0x0f));
        }
        hex
    }

    /// The database form: a byte for the algorithm (1 sha256, 2 sha512), then the raw hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.hash().len());
        bytes.push(self.algorithm.database_byte());
        bytes.extend_from_slice(self.hash());
        bytes
    }

    /// Reads the database form that [`Digest::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`DigestError`] when the bytes are not of that form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DigestError> {
        let Some((&number, hash)) = bytes.split_first() else {
            return Err(DigestError::malformed(""));
        };
        for algorithm in Algorithm::ALL {
            if algorithm.database_byte() == number {
                return Self::from_hash(algorithm, hash);
            }
        }
        Err(DigestError::UnsupportedAlgorithm { algorithm: format!("number {number}") })
    }

    /// The tag under which clients without the referrers API keep the referrers of this digest: `sha256-<hex>`.
    ///
    /// Referrers tag schema of the distribution spec: the algorithm is cut to 32 characters (ours are shorter), the
    /// hash to 64.
    pub fn fallback_tag(&self) -> Tag {
        let mut hex = self.hex();
        hex.truncate(64);
        Tag::from_valid(format!("{}-{hex}", self.algorithm))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text.split_once(':').ok_or_else(|| DigestError::malformed(text))?;
        if !is_algorithm(algorithm) || !is_encoded(encoded) {
            return Err(DigestError::malformed(text));
        }
        let algorithm: Algorithm = algorithm.parse()?;
        let expected = 2 * algorithm.hash_length();
        if encoded.len() != expected {
            return Err(DigestError::WrongLength { algorithm, expected, actual: encoded.len() });
        }
        let mut padded_hash = [0; LONGEST_HASH];
        for (position, pair) in encoded.as_bytes().chunks_exact(2).enumerate() {
            let high = hexadecimal_value(pair[0]).ok_or_else(|| DigestError::malformed(text))?;
            let low = hexadecimal_value(pair[1]).ok_or_else(|| DigestError::malformed(text))?;
            padded_hash[position] = high << 4 | low;
        }
        Ok(Self { algorithm, padded_hash })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_serde::deserialize(deserializer)
    }
}

/// `[a-z0-9]+([+._-][a-z0-9]+)*`, so that a strange algorithm is told from a malformed digest.
fn is_algorithm(text: &str) -> bool {
    let mut after_component = false;
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => after_component = true,
            b'+' | b'.' | b'_' | b'-' if after_component => after_component = false,
            _ => return false,
        }
    }
    after_component
}

/// `[a-zA-Z0-9=_-]+`.
fn is_encoded(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-'))
}

fn hexadecimal_digit(nibble: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(nibble)])
}

/// Lower case only: the image spec says that upper-case hashes are no valid digests.
fn hexadecimal_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const EMPTY_512: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                             47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

    #[test]
    fn known_hashes() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), EMPTY);
        assert_eq!(Digest::of(Algorithm::Sha512, b"").to_string(), EMPTY_512);
    }

    #[test]
    fn debug_is_the_text() {
        assert_eq!(format!("{:?}", Digest::of(Algorithm::Sha256, b"")), EMPTY);
    }

    #[test]
    fn it_lives_on_the_stack() {
        assert_eq!(size_of::<Digest>(), 65);
        assert_eq!(size_of::<Option<Digest>>(), 65);
    }

    #[test]
    fn the_order_is_that_of_the_text() {
        let mut digests = Vec::new();
        for number in 0..100_u8 {
            digests.push(Digest::of(Algorithm::Sha512, &[number]));
            digests.push(Digest::of(Algorithm::Sha256, &[number]));
        }
        digests.sort_unstable();
        let texts: Vec<String> = digests.iter().map(Digest::to_string).collect();
        assert!(texts.is_sorted());
    }

    #[test]
    fn each_mistake_has_its_variant() {
        let malformed = [
            "",
            ":",
            "sha256",
            "sha256:",
            ":abc",
            "SHA256:abc",
            "sha256:a b",
            "sha256:é",
            "-a:b",
            "a-:b",
            "a--b:c",
            " sha256:00",
            "sha256:sha256:00",
        ];
        for text in malformed {
            assert!(matches!(text.parse::<Digest>(), Err(DigestError::Malformed { .. })), "{text}");
        }
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        assert!(matches!(upper.parse::<Digest>(), Err(DigestError::Malformed { .. })));
        assert_eq!(
            "sha256+b64u.x:YWJj=".parse::<Digest>(),
            Err(DigestError::UnsupportedAlgorithm { algorithm: "sha256+b64u.x".to_owned() })
        );
        assert_eq!(
            "sha256:baddigeststring".parse::<Digest>(),
            Err(DigestError::WrongLength { algorithm: Algorithm::Sha256, expected: 64, actual: 15 })
        );
        assert_eq!(
            Digest::from_hash(Algorithm::Sha512, &[0; 32]),
            Err(DigestError::WrongLength { algorithm: Algorithm::Sha512, expected: 128, actual: 64 })
        );
    }

    #[test]
    fn the_texts_say_what_to_send() {
        let text = "sha256:zz\n".parse::<Digest>().unwrap_err().to_string();
        assert_eq!(
            text,
            "digest `sha256:zz\\n` is malformed: send algorithm, colon and lower-case hexadecimal hash, such as `sha256:` and 64 digits"
        );
    }

    #[test]
    fn the_database_form_begins_with_the_algorithm() {
        let bytes = Digest::of(Algorithm::Sha512, b"x").to_bytes();
        assert_eq!((bytes[0], bytes.len()), (2, 65));
        let bytes = Digest::of(Algorithm::Sha256, b"x").to_bytes();
        assert_eq!((bytes[0], bytes.len()), (1, 33));
        assert!(matches!(Digest::from_bytes(&[]), Err(DigestError::Malformed { .. })));
        assert!(matches!(Digest::from_bytes(&[3; 33]), Err(DigestError::UnsupportedAlgorithm { .. })));
        assert!(matches!(Digest::from_bytes(&[1; 65]), Err(DigestError::WrongLength { .. })));
    }

    #[test]
    fn the_fallback_tag_cuts_long_hashes() {
        let short: Digest = EMPTY.parse().unwrap();
        assert_eq!(short.fallback_tag().as_str(), EMPTY.replace(':', "-"));
        let long: Digest = EMPTY_512.parse().unwrap();
        assert_eq!(long.fallback_tag().as_str(), &EMPTY_512.replace(':', "-")[..7 + 64]);
    }

    #[test]
    fn serde_uses_the_text() {
        let digest: Digest = serde_json::from_str(&format!("\"{EMPTY}\"")).unwrap();
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{EMPTY}\""));
        assert!(serde_json::from_str::<Digest>("\"sha256:\"").is_err());
        assert!(serde_json::from_str::<Digest>("7").is_err());
    }

    /// Any digest of either algorithm.
    fn any_digest() -> impl Strategy<Value = Digest> {
        (prop::sample::select(&Algorithm::ALL[..]), any::<[u8; 64]>())
            .prop_map(|(algorithm, bytes)| Digest::from_hash(algorithm, &bytes[..algorithm.hash_length()]).unwrap())
    }

    proptest! {
        #[test]
        fn text_and_bytes_lead_back(digest in any_digest()) {
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            prop_assert_eq!(Digest::from_bytes(&digest.to_bytes()).unwrap(), digest);
            prop_assert_eq!(Digest::from_hash(digest.algorithm(), digest.hash()).unwrap(), digest);
            prop_assert!(digest.fallback_tag().as_str().parse::<Tag>().is_ok());
        }

        #[test]
        fn what_is_accepted_is_its_own_text(text in "(sha256|sha512|md5)[:-]?[0-9a-fA-F]{62,66}|\\PC{0,80}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
