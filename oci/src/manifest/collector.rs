//! Gathers the descriptors of a manifest: counts them, holds them against each other, and folds those that repeat.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::fields::{Fields, Place, read_descriptor};
use super::{BlobReference, ManifestError, ManifestLimits};
use crate::json::Json;
use crate::{Descriptor, Digest};

/// The running totals of one manifest.
pub(super) struct Collector<'l> {
    limits: &'l ManifestLimits,
    descriptors: usize,
    annotations: usize,
    /// The size that each digest was first given.
    sizes: HashMap<Digest, u64>,
}

impl<'l> Collector<'l> {
    pub(super) fn new(limits: &'l ManifestLimits) -> Self {
        Self { limits, descriptors: 0, annotations: 0, sizes: HashMap::new() }
    }

    /// The manifest's own annotations.
    pub(super) fn annotations(&mut self, fields: &Fields<'_>) -> Result<BTreeMap<String, String>, ManifestError> {
        let annotations = fields.annotations()?;
        self.count_annotations(annotations.len())?;
        Ok(annotations)
    }

    /// The descriptor in a field, if there is one.
    pub(super) fn descriptor(
        &mut self,
        fields: &Fields<'_>,
        field: &'static str,
    ) -> Result<Option<Descriptor>, ManifestError> {
        match fields.get(field) {
            None => Ok(None),
            Some(json) => self.take(json, Place::Field(field)).map(Some),
        }
    }

    /// The descriptors of the list in a field; none if it is absent.
    pub(super) fn descriptors(
        &mut self,
        fields: &Fields<'_>,
        field: &'static str,
    ) -> Result<Vec<Descriptor>, ManifestError> {
        let mut descriptors = Vec::new();
        for (index, json) in fields.list(field)?.iter().enumerate() {
            descriptors.push(self.take(json, Place::Item(field, index))?);
        }
        Ok(descriptors)
    }

    /// The descriptors of a list that has to be there, be it as `null`: Go writes a list without elements so.
    pub(super) fn required_descriptors(
        &mut self,
        fields: &Fields<'_>,
        field: &'static str,
    ) -> Result<Vec<Descriptor>, ManifestError> {
        if !fields.holds(field) {
            return Err(fields.missing(field));
        }
        self.descriptors(fields, field)
    }

    fn take(&mut self, json: &Json<'_>, place: Place) -> Result<Descriptor, ManifestError> {
        self.descriptors += 1;
        if self.descriptors > self.limits.max_descriptors {
            return Err(ManifestError::TooManyDescriptors { limit: self.limits.max_descriptors });
        }
        let descriptor = read_descriptor(json, place)?;
        self.count_annotations(descriptor.annotations.len())?;
        let other_size = *self.sizes.entry(descriptor.digest).or_insert(descriptor.size);
        if other_size != descriptor.size {
            return Err(ManifestError::SizeConflict {
                path: place.path_of("size"),
                digest: descriptor.digest,
                size: descriptor.size,
                other_size,
            });
        }
        Ok(descriptor)
    }

    fn count_annotations(&mut self, count: usize) -> Result<(), ManifestError> {
        self.annotations += count;
        if self.annotations > self.limits.max_annotations {
            return Err(ManifestError::TooManyAnnotations { limit: self.limits.max_annotations });
        }
        Ok(())
    }
}

/// The blobs of these descriptors, each digest once where it stands first. What is required once is required.
pub(super) fn blobs_of(descriptors: impl IntoIterator<Item = Descriptor>) -> Vec<BlobReference> {
    let mut blobs: Vec<BlobReference> = Vec::new();
    let mut positions: HashMap<Digest, usize> = HashMap::new();
    for descriptor in descriptors {
        let required = !descriptor.media_type.is_nondistributable() || descriptor.urls.is_empty();
        match positions.entry(descriptor.digest) {
            Entry::Occupied(position) => blobs[*position.get()].required |= required,
            Entry::Vacant(position) => {
                position.insert(blobs.len());
                blobs.push(BlobReference {
                    digest: descriptor.digest,
                    size: descriptor.size,
                    media_type: descriptor.media_type,
                    required,
                });
            }
        }
    }
    blobs
}

/// The entries of an index, each digest once where it stands first.
pub(super) fn unique_children(entries: Vec<Descriptor>) -> Vec<Descriptor> {
    let mut seen = HashSet::new();
    let mut children = entries;
    children.retain(|child| seen.insert(child.digest));
    children
}
