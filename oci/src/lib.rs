#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod descriptor;
mod digest;
mod error_code;
mod excerpt;
mod json;
mod manifest;
mod media_type;
mod name;
mod pattern;
mod reference;
mod referrers;
mod tag;
mod tag_pattern;
mod tag_rules;
mod text_serde;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError};
pub use error_code::ErrorCode;
pub use json::JsonError;
pub use manifest::{BlobReference, Manifest, ManifestError, ManifestKind, ManifestLimits};
pub use media_type::{MediaType, MediaTypeError};
pub use name::{NameError, RepositoryName};
pub use pattern::{PatternError, RepositoryPattern};
pub use reference::{Reference, ReferenceError};
pub use referrers::{ReferrersIndex, descriptors_of_index};
pub use tag::{Tag, TagError};
pub use tag_pattern::{TagPattern, TagPatternError};
pub use tag_rules::{ImmutableRule, ImmutableTags, TagScope};
