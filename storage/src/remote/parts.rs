//! The parts of one object: those that earlier writers saved, and those that this one sends.

use super::{Backend, SMALLEST_PART};
use crate::{Error, ObjectKey, Result};
use bytes::Bytes;
use std::{mem, sync::Arc};
use tokio::task::JoinHandle;

/// The size of the first parts, and of the largest object that is written whole.
const FIRST_PART: u64 = 8 * 1024 * 1024;
/// Parts double after so many of them: 10,000 is the most that an object may have.
const SAME_SIZE: usize = 1000;
const LARGEST_PART: u64 = 64 * 1024 * 1024;
/// Parts of one object that are on their way at the same time.
const IN_FLIGHT: usize = 3;

/// An object that is not whole yet, as it was saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedParts {
    /// What the store calls the upload, if there is one.
    pub upload: Option<String>,
    /// Names and sizes of its parts, in order.
    pub parts: Vec<(String, u64)>,
    /// The object with the bytes after them.
    pub tail: Option<ObjectKey>,
}

/// All parts of an object.
pub(super) struct Parts {
    backend: Arc<dyn Backend>,
    key: ObjectKey,
    saved: SavedParts,
    /// The upload, once it is begun: by an earlier writer, or by this one.
    upload: Option<String>,
    new: Vec<Part>,
    bytes: u64,
}

/// A part of this writer's: on its way, or there.
enum Part {
    Sending(u64, JoinHandle<Result<String>>),
    Sent(u64, String),
}

impl Parts {
    pub(super) fn new(backend: Arc<dyn Backend>, key: ObjectKey, saved: SavedParts) -> Self {
        let bytes = saved.parts.iter().map(|(_, size)| size).sum();
        Self { backend, key, upload: saved.upload.clone(), saved, new: Vec::new(), bytes }
    }

    pub(super) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// How many bytes are in parts.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the object can still be written whole.
    pub(super) fn is_empty(&self) -> bool {
        self.upload.is_none()
    }

    fn count(&self) -> usize {
        self.saved.parts.len() + self.new.len()
    }

    /// How large the next part is to be.
    pub(super) fn next_size(&self) -> u64 {
        part_size(self.count())
    }

    /// The least that is saved as a part, and not in a tail: with parts of 5 MiB only, 10,000 of them would be 49 GiB.
    pub(super) fn least_saved(&self) -> u64 {
        (self.next_size() / 2).max(SMALLEST_PART)
    }

    /// Sends the next part, once fewer than three are on their way.
    pub(super) async fn send(&mut self, bytes: Vec<Bytes>, size: u64) -> Result<()> {
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => {
                let upload = self.backend.begin(&self.key).await?;
                self.upload.insert(upload).clone()
            }
        };
        self.wait(IN_FLIGHT - 1).await?;
        let (backend, key, number) = (self.backend.clone(), self.key.clone(), self.count());
        let sending = tokio::spawn(async move { backend.put_part(&key, &upload, number, bytes).await });
        self.new.push(Part::Sending(size, sending));
        self.bytes += size;
        Ok(())
    }

    /// Waits until at most so many parts are on their way.
    pub(super) async fn wait(&mut self, at_most: usize) -> Result<()> {
        let mut sending = self.new.iter().filter(|part| matches!(part, Part::Sending(..))).count();
        for part in &mut self.new {
            if sending <= at_most {
                break;
            }
            if let Part::Sending(size, task) = part {
                let name = task.await.map_err(|_| Error::ShuttingDown)?;
                *part = Part::Sent(*size, name?);
                sending -= 1;
            }
        }
        Ok(())
    }

    /// The upload and the parts of this writer's, all of which have arrived; none where the object is whole.
    pub(super) fn new_parts(&self) -> Option<(String, Vec<(String, u64)>)> {
        let upload = self.upload.clone()?;
        let new = self.new.iter().map(|part| (part.name().to_owned(), part.size()));
        Some((upload, new.collect()))
    }

    /// Makes the object of all parts.
    pub(super) async fn complete(&mut self) -> Result<()> {
        self.wait(0).await?;
        let upload = self.upload.as_deref().unwrap_or_default();
        let saved = self.saved.parts.iter().map(|(name, _)| name.clone());
        let names = saved.chain(self.new.iter().map(|part| part.name().to_owned())).collect();
        self.backend.complete(&self.key, upload, names).await
    }

    /// Waits for what is on its way, whatever becomes of it: a part that arrives after its writer has gone could take the
    /// place of that of the next one. Then ends the upload, if nobody has saved it.
    pub(super) async fn abandon(mut self) -> Result<()> {
        for part in mem::take(&mut self.new) {
            if let Part::Sending(_, task) = part
                && let Ok(Err(error)) = task.await
            {
                tracing::debug!(key = %self.key, %error, "a part that nobody needs was not written");
            }
        }
        match &self.upload {
            Some(upload) if self.is_unsaved() => self.backend.abort(&self.key, upload).await,
            _ => Ok(()),
        }
    }

    /// Whether no row names anything of this object but its key.
    pub(super) fn is_unsaved(&self) -> bool {
        self.saved.upload.is_none()
    }
}

/// A writer that is dropped takes what is on its way with it, as far as it can.
impl Drop for Parts {
    fn drop(&mut self) {
        for part in &self.new {
            if let Part::Sending(_, task) = part {
                task.abort();
            }
        }
    }
}

impl Part {
    fn size(&self) -> u64 {
        match self {
            Self::Sending(size, _) | Self::Sent(size, _) => *size,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Sent(_, name) => name,
            Self::Sending(..) => "",
        }
    }
}

/// How large the part of this number is.
fn part_size(number: usize) -> u64 {
    let doubled = u32::try_from(number / SAME_SIZE).unwrap_or(u32::MAX).min(3);
    (FIRST_PART << doubled).min(LARGEST_PART)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_backend;

    #[test]
    fn ten_thousand_parts_are_a_layer_of_any_size() {
        let whole: u64 = (0..10_000).map(part_size).sum();
        assert!(whole > 450 << 30, "{whole}");
        // As small as chunks that are saved one by one can make them.
        let parts = |count| SavedParts { parts: vec![(String::new(), 0); count], ..SavedParts::default() };
        let least = |count| Parts::new(memory_backend(), ObjectKey::random(), parts(count)).least_saved();
        let smallest: u64 = (0..10).map(|thousands| 1000 * least(thousands * 1000)).sum();
        assert!(smallest > 200 << 30, "{smallest}");
    }
}
