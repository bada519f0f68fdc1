//! The parts of one object: those that earlier writers saved, and those that this one sends.

use super::{Backend, SMALLEST_PART, SavedTail};
use crate::{Error, ObjectKey, Result};
use bytes::Bytes;
use std::{mem, ops::Range, sync::Arc};
use tokio::task::JoinHandle;

/// The size of the first parts, and of the largest object that is written whole.
const FIRST_PART: u64 = 8 * 1024 * 1024;
/// Parts double after so many of them.
const SAME_SIZE: usize = 1000;
const LARGEST_PART: u64 = 64 * 1024 * 1024;
/// The most parts, and the most numbers, that S3 has.
const MOST_PARTS: u32 = 10_000;
/// Parts of one object that are on their way at the same time.
const IN_FLIGHT: usize = 3;

/// An object that is not whole yet, as it was saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedParts {
    /// What the store calls the upload, if there is one.
    pub upload: Option<String>,
    /// Its parts, in order.
    pub parts: Vec<SavedPart>,
    /// Where the bytes after them are.
    pub tail: Option<SavedTail>,
    /// Numbers for new parts, see [`RemoteWriter::lacks_numbers`](super::RemoteWriter::lacks_numbers): a tail that is
    /// enough for parts may have to be sent while it is read.
    pub numbers: Range<u32>,
}

/// A part that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedPart {
    /// Its number in the upload: they rise, with gaps.
    pub number: u32,
    /// What the store calls it.
    pub name: String,
    /// In bytes.
    pub size: u64,
}

/// All parts of an object.
pub(super) struct Parts {
    backend: Arc<dyn Backend>,
    key: ObjectKey,
    saved: SavedParts,
    /// The upload, once it is begun: by an earlier writer, or by this one.
    upload: Option<String>,
    new: Vec<Part>,
    /// Numbers that no part was begun with, neither by this writer nor by another. None where other writers may write to
    /// the same upload, and it was given none.
    numbers: Option<Range<u32>>,
    bytes: u64,
}

/// A part of this writer's: on its way, or there.
enum Part {
    Sending { number: u32, size: u64, task: JoinHandle<Result<String>> },
    Sent(SavedPart),
}

impl Parts {
    pub(super) fn new(backend: Arc<dyn Backend>, key: ObjectKey, saved: SavedParts) -> Self {
        let bytes = saved.parts.iter().map(|part| part.size).sum();
        let upload = saved.upload.clone();
        let numbers = match &upload {
            // An upload that nobody has saved is known to this writer only.
            None => Some(0..MOST_PARTS),
            Some(_) => Some(saved.numbers.clone()).filter(|numbers| !numbers.is_empty()),
        };
        Self { backend, key, upload, saved, new: Vec::new(), numbers, bytes }
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

    /// How many numbers are missing for so many new parts.
    pub(super) fn lacks_numbers(&self, parts: u32) -> u32 {
        let has = self.numbers.as_ref().map_or(0, |numbers| numbers.end.saturating_sub(numbers.start));
        if self.is_unsaved() { 0 } else { parts.saturating_sub(has) }
    }

    pub(super) fn has_number(&self) -> bool {
        self.numbers.as_ref().is_some_and(|numbers| !numbers.is_empty())
    }

    /// Takes numbers that are this writer's alone. While it holds the session nobody else is given any, so they go on
    /// where those before ended.
    pub(super) fn grant(&mut self, more: Range<u32>) {
        match &mut self.numbers {
            Some(numbers) if numbers.end == more.start => numbers.end = more.end,
            numbers => *numbers = Some(more),
        }
    }

    /// The first number that no part was begun with, if there were any to begin with.
    pub(super) fn unused_number(&self) -> Option<u32> {
        self.numbers.as_ref().map(|numbers| numbers.start)
    }

    fn next_number(&mut self) -> Result<u32> {
        let number = self.numbers.as_mut().and_then(Iterator::next);
        number.filter(|number| *number < MOST_PARTS).ok_or_else(|| Error::Backend {
            key: self.key.clone(),
            reason: format!("an upload takes {MOST_PARTS} parts at most, and has used up their numbers"),
        })
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
        let (backend, key, number) = (self.backend.clone(), self.key.clone(), self.next_number()?);
        let task = tokio::spawn(async move { backend.put_part(&key, &upload, number, bytes).await });
        self.new.push(Part::Sending { number, size, task });
        self.bytes += size;
        Ok(())
    }

    fn on_their_way(&self) -> usize {
        self.new.iter().filter(|part| matches!(part, Part::Sending { .. })).count()
    }

    /// Waits for one that is on its way; false where there is none.
    pub(super) async fn wait_for_one(&mut self) -> Result<bool> {
        match self.on_their_way() {
            0 => Ok(false),
            sending => self.wait(sending - 1).await.map(|()| true),
        }
    }

    /// Waits until at most so many parts are on their way.
    pub(super) async fn wait(&mut self, at_most: usize) -> Result<()> {
        let mut sending = self.on_their_way();
        for place in 0..self.new.len() {
            if sending <= at_most {
                break;
            }
            if let Part::Sending { number, size, task } = &mut self.new[place] {
                let (number, size, outcome) = (*number, *size, task.await);
                match outcome {
                    Ok(Ok(name)) => self.new[place] = Part::Sent(SavedPart { number, name, size }),
                    // Nobody may wait for it again.
                    failed => {
                        self.new.remove(place);
                        return Err(
                            failed.map_or(Error::ShuttingDown, |answer| answer.err().unwrap_or(Error::ShuttingDown))
                        );
                    }
                }
                sending -= 1;
            }
        }
        Ok(())
    }

    /// The upload and the parts of this writer's, all of which have arrived; none where the object is whole.
    pub(super) fn new_parts(&self) -> Option<(String, Vec<SavedPart>)> {
        Some((self.upload.clone()?, self.sent().cloned().collect()))
    }

    fn sent(&self) -> impl Iterator<Item = &SavedPart> {
        self.new.iter().filter_map(|part| match part {
            Part::Sent(part) => Some(part),
            Part::Sending { .. } => None,
        })
    }

    /// Makes the object of all parts.
    pub(super) async fn complete(&mut self) -> Result<()> {
        self.wait(0).await?;
        let upload = self.upload.as_deref().unwrap_or_default();
        let parts = self.saved.parts.iter().chain(self.sent());
        let parts = parts.map(|part| (part.number, part.name.clone())).collect();
        self.backend.complete(&self.key, upload, parts).await
    }

    /// Waits for what is on its way, whatever becomes of it. Then ends the upload, if nobody has saved it.
    pub(super) async fn abandon(mut self) -> Result<()> {
        for part in mem::take(&mut self.new) {
            if let Part::Sending { task, .. } = part
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
            if let Part::Sending { task, .. } = part {
                task.abort();
            }
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
        let part = SavedPart { number: 0, name: String::new(), size: 0 };
        let parts = |count| SavedParts { parts: vec![part.clone(); count], ..SavedParts::default() };
        let least = |count| Parts::new(memory_backend(), ObjectKey::random(), parts(count)).least_saved();
        let smallest: u64 = (0..10).map(|thousands| 1000 * least(thousands * 1000)).sum();
        assert!(smallest > 200 << 30, "{smallest}");
    }
}
