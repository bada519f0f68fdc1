//! What earlier requests of an upload session made durable in objects, and how a request goes on from there.

use crate::{Error, Registry, Result};
use longshore_metadata::{Multipart, TailChange, UploadId, UploadPart, UploadRecord};
use longshore_oci::Algorithm;
use longshore_storage::{
    BlobHasher, Durable, Layout, ObjectKey, ObjectWriter, SMALLEST_PART, SavedPart, SavedParts, SavedTail, Storage,
};
use std::ops::Range;

/// The bytes of a session that no request has touched yet.
#[derive(Debug)]
pub(crate) struct Resting {
    /// The object with all bytes but those of the tail: there is none where all are in the tail.
    key: Option<ObjectKey>,
    parts: SavedParts,
    hash: Vec<u8>,
    pub(crate) length: u64,
}

impl Resting {
    /// What the session's row tells; none where its bytes are in the row itself.
    pub(crate) fn of(record: &UploadRecord) -> Result<Option<Self>> {
        if record.object_key.is_none() && record.tail_key.is_none() {
            return Ok(None);
        }
        let key_of = |key: &Option<String>| key.as_deref().map(str::parse).transpose();
        let damaged = |error| damaged(record.id, &error);
        let multipart = record.multipart.clone();
        let (upload, parts) = multipart.map(|multipart| (multipart.upload, multipart.parts)).unzip();
        let parts = parts.unwrap_or_default().into_iter().map(saved_part).collect();
        let tail = key_of(&record.tail_key).map_err(damaged)?;
        let tail = tail.map(|key| SavedTail { key, checksum: record.tail_checksum });
        Ok(Some(Self {
            key: key_of(&record.object_key).map_err(damaged)?,
            parts: SavedParts { upload, parts, tail, numbers: 0..0 },
            hash: record.hash_state.clone(),
            length: record.received,
        }))
    }

    /// The object, if it has all bytes and is whole.
    pub(crate) fn whole(&self) -> Option<&ObjectKey> {
        let is_whole = self.parts.upload.is_none() && self.parts.tail.is_none();
        self.key.as_ref().filter(|_| is_whole)
    }

    /// The hash as it was saved, or by reading the bytes again where the saved state is of another version.
    pub(crate) async fn hasher(&self, storage: &Storage) -> Result<BlobHasher> {
        match (BlobHasher::restore(&self.hash), self.whole()) {
            (Ok(hasher), _) => Ok(hasher),
            (Err(_), Some(key)) => Ok(storage.hash(key, Algorithm::Sha256, self.length).await?),
            // Parts cannot be read before they are an object.
            (Err(_), None) => Err(self.lost()),
        }
    }

    fn lost(&self) -> Error {
        let tail = self.parts.tail.as_ref().map(|tail| tail.key.clone());
        let key = self.key.clone().or(tail).unwrap_or_else(ObjectKey::random);
        longshore_storage::Error::UploadLost { key }.into()
    }

    /// A writer that goes on after these bytes.
    pub(crate) async fn resume(&self, registry: &Registry, id: UploadId, fence: i64) -> Result<ObjectWriter> {
        let (storage, metadata) = (&registry.storage, &registry.metadata);
        let hasher = self.hasher(storage).await?;
        let goes_on = storage.appends() || self.parts.upload.is_some();
        if let Some(key) = self.key.as_ref().filter(|_| goes_on) {
            let mut saved = self.parts.clone();
            saved.numbers = self.numbers_for_tail(registry, id, fence).await?;
            return Ok(storage.resume(key.clone(), hasher, self.length, saved).await?);
        }
        // Nothing is appended to a whole object of an object store: what is there becomes the tail of another one.
        let next = ObjectKey::random();
        let (text, backend) = (next.to_string(), storage.backend());
        let is_attached = match &self.key {
            Some(_) => metadata.attach_object_after(id, fence, &text, backend).await?,
            None => metadata.attach_object(id, fence, &text, backend).await?,
        };
        if !is_attached {
            return Err(Error::UploadBusy { id });
        }
        let whole = self.key.clone().map(|key| SavedTail { key, checksum: None });
        let tail = whole.or_else(|| self.parts.tail.clone());
        let saved = SavedParts { tail, ..SavedParts::default() };
        Ok(storage.resume(next, hasher, self.length, saved).await?)
    }

    /// Numbers for the parts that a long tail may have to be sent as while it is read, where memory is short.
    async fn numbers_for_tail(&self, registry: &Registry, id: UploadId, fence: i64) -> Result<Range<u32>> {
        let in_parts: u64 = self.parts.parts.iter().map(|part| part.size).sum();
        let parts = self.length.saturating_sub(in_parts) / SMALLEST_PART;
        match u32::try_from(parts) {
            Ok(parts @ 1..) if self.parts.upload.is_some() => reserve_numbers(registry, id, fence, parts).await,
            _ => Ok(0..0),
        }
    }

    /// Whether some of the bytes will be in a tail that a writer takes up.
    pub(crate) fn has_tail(&self, storage: &Storage) -> bool {
        self.parts.tail.is_some() || !storage.appends() && self.parts.upload.is_none()
    }
}

/// What has changed of the objects, as the database is told it.
pub(crate) struct Changed {
    pub(crate) multipart: Option<Multipart>,
    pub(crate) next_part: Option<u32>,
    pub(crate) tail: TailChange,
}

impl Changed {
    pub(crate) const NOTHING: Self = Self { multipart: None, next_part: None, tail: TailChange::Kept };

    /// What was made durable. `had_tail`: whether there was a tail before.
    pub(crate) fn to(durable: Layout, had_tail: bool) -> Self {
        let gone = if had_tail { TailChange::Gone } else { TailChange::Kept };
        match durable {
            Layout::Whole => Self { tail: gone, ..Self::NOTHING },
            Layout::Parts { upload, new, tail_checksum, unused } => {
                let parts = new.into_iter().map(upload_part).collect();
                let tail = tail_checksum.map_or(gone, |checksum| TailChange::Replaced { checksum });
                Self { multipart: Some(Multipart { upload, parts }), next_part: unused, tail }
            }
        }
    }
}

/// So many numbers for parts that no other writer has.
pub(crate) async fn reserve_numbers(registry: &Registry, id: UploadId, fence: i64, count: u32) -> Result<Range<u32>> {
    let first = registry.metadata.reserve_parts(id, fence, count).await?.ok_or(Error::UploadBusy { id })?;
    Ok(first..first.saturating_add(count))
}

fn saved_part(UploadPart { number, tag, size }: UploadPart) -> SavedPart {
    SavedPart { number, name: tag, size }
}

fn upload_part(SavedPart { number, name, size }: SavedPart) -> UploadPart {
    UploadPart { number, tag: name, size }
}

/// Makes what a writer was given durable, in the tail as well where there has to be one.
pub(crate) async fn save(registry: &Registry, id: UploadId, fence: i64, writer: &mut ObjectWriter) -> Result<Durable> {
    let mut tail = None;
    if writer.needs_tail() {
        let key = ObjectKey::random();
        if !registry.metadata.attach_tail(id, fence, &key.to_string(), registry.storage.backend()).await? {
            return Err(Error::UploadBusy { id });
        }
        tail = Some(key);
    }
    Ok(writer.save(tail).await?)
}

pub(crate) fn damaged(id: UploadId, error: &dyn std::error::Error) -> longshore_metadata::Error {
    longshore_metadata::Error::Damaged { table: "uploads", reason: format!("{id}: {error}") }
}
