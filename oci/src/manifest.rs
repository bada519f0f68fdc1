//! Manifests: what a registry needs to know of them.
//!
//! Owns the judgement whether a body is one manifest that every client reads the same way, and the list of what it
//! points at. It does not keep the bytes, does not check that what is pointed at exists, and never writes a manifest
//! again.

mod collector;
mod error;
mod fields;
mod kind;

use std::collections::BTreeMap;

use collector::{Collector, blobs_of, unique_children};
pub use error::ManifestError;
use fields::Fields;
pub(crate) use fields::{Place, read_descriptor};
pub use kind::ManifestKind;

use crate::json::{self, Json, JsonLimits};
use crate::{Descriptor, Digest, MediaType};

/// What a registry needs to know of a manifest. The exact bytes stay with the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Which of the three shapes it has.
    pub kind: ManifestKind,
    /// The type to store and serve it with.
    pub media_type: MediaType,
    /// The `artifactType` as written in it; an empty one counts as absent.
    pub artifact_type: Option<String>,
    /// The type of the config of an image; and of a BuildKit cache that is an index, where the config is an entry.
    pub config_media_type: Option<String>,
    /// The manifest that this one refers to.
    pub subject: Option<Descriptor>,
    /// Its own annotations, not those of its descriptors.
    pub annotations: BTreeMap<String, String>,
    /// Config and layers of an image, blobs of an artifact: in order, each digest once.
    pub blobs: Vec<BlobReference>,
    /// The entries of an index: in order, each digest once. An entry may point at anything; BuildKit's cache lists
    /// blobs here.
    pub children: Vec<Descriptor>,
}

/// The type of the config of a cache that BuildKit has exported.
const BUILD_CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// A blob that a manifest points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobReference {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes, as the manifest has it.
    pub size: u64,
    /// Its type, as the manifest has it.
    pub media_type: MediaType,
    /// Whether the repository has to hold it: false for a non-distributable layer that says where else it is (`urls`).
    pub required: bool,
}

/// Bounds on what one manifest may hold, so that the work for a push follows from them and not from a client's
/// imagination.
///
/// The length of the body is bounded by whoever reads it (4 MiB in this registry, the least that the spec asks for).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestLimits {
    /// Lists and objects inside each other, the manifest itself counted; more than 127 has no effect.
    pub max_depth: usize,
    /// Descriptors: config, layers, blobs, entries and subject, repeated ones counted. Each can become a row of the
    /// database.
    pub max_descriptors: usize,
    /// Annotations of the manifest and of all its descriptors.
    pub max_annotations: usize,
    /// JSON values of every kind, known fields and unknown ones: bounds the memory of a parse to some 20 MB.
    pub max_values: usize,
}

impl Default for ManifestLimits {
    /// Far above what is in use, far below what hurts. The deepest manifests known nest five levels (an entry of an
    /// index with a list in its platform); images stop at 127 layers, and the longest indexes list a few hundred
    /// referrers or cache layers. Four annotations and 32 values a descriptor leave room for the most talkative build
    /// tools.
    fn default() -> Self {
        Self { max_depth: 32, max_descriptors: 4096, max_annotations: 16_384, max_values: 131_072 }
    }
}

impl Manifest {
    /// Reads a manifest that was sent with this `Content-Type` header, if with any.
    ///
    /// The header's parameters are ignored. `application/json` and `application/octet-stream` say no more than a
    /// missing header: then the body's `mediaType` decides, and without that the fields, if they leave no doubt.
    ///
    /// The work is linear in the body (a sort per object aside): some tens of milliseconds at 4 MiB.
    ///
    /// # Errors
    /// [`ManifestError`] when the body is no manifest of a known type, could be read in two ways, or exceeds `limits`.
    /// Each is the client's to mend and maps to `MANIFEST_INVALID`.
    pub fn parse(body: &[u8], content_type: Option<&str>, limits: &ManifestLimits) -> Result<Self, ManifestError> {
        let json_limits = JsonLimits { max_depth: limits.max_depth, max_values: limits.max_values };
        let document = json::read(body, json_limits)?;
        let Json::Object(object) = &document else {
            return Err(ManifestError::NotAnObject { found: document.kind() });
        };
        let fields = Fields::new(object, Place::Manifest)?;
        let media_type = kind::decide_media_type(content_type, &fields)?;
        let kind = kind::decide_kind(&media_type, &fields)?;

        let mut collector = Collector::new(limits);
        let annotations = collector.annotations(&fields)?;
        let subject = collector.descriptor(&fields, "subject")?;
        let mut manifest = Self {
            kind,
            media_type,
            artifact_type: fields.artifact_type()?.map(str::to_owned),
            config_media_type: None,
            subject,
            annotations,
            blobs: Vec::new(),
            children: Vec::new(),
        };
        match kind {
            ManifestKind::Image => {
                let config = collector.descriptor(&fields, "config")?.ok_or_else(|| fields.missing("config"))?;
                let layers = collector.required_descriptors(&fields, "layers")?;
                manifest.config_media_type = Some(config.media_type.as_str().to_owned());
                manifest.blobs = blobs_of(std::iter::once(config).chain(layers));
            }
            ManifestKind::Index => {
                manifest.children = unique_children(collector.required_descriptors(&fields, "manifests")?);
                let is_cache = manifest.children.iter().any(|child| child.media_type.as_str() == BUILD_CACHE_CONFIG);
                manifest.config_media_type = is_cache.then(|| BUILD_CACHE_CONFIG.to_owned());
            }
            ManifestKind::Artifact => manifest.blobs = blobs_of(collector.descriptors(&fields, "blobs")?),
        }
        Ok(manifest)
    }

    /// The `artifactType` of the descriptor that lists this manifest as a referrer: its own, else the type of the
    /// config of an image, else none (distribution spec, listing referrers).
    pub fn referrer_artifact_type(&self) -> Option<&str> {
        self.artifact_type.as_deref().or(self.config_media_type.as_deref())
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
