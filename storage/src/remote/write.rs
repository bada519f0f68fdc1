//! Writing an object to an object store: what arrives fills segments; a full segment is hashed on a thread beside, and as
//! soon as there are enough of them they go to the store as a part, while more arrives.
//!
//! An object that fits into one part is written whole, in one request. What a session holds when its request ends and
//! is too little for a part is its *tail*: an object of its own, read back by the next writer.

use super::{Backend, SMALLEST_PART};
use crate::{BlobHasher, Durable, Error, ObjectKey, Result};
use bytes::Bytes;
use futures_util::TryStreamExt;
use longshore_oci::Algorithm;
use std::{collections::VecDeque, mem, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, spawn_blocking},
};

/// How much is hashed in one go, and how large the pieces are that a part is sent in.
const SEGMENT: usize = 1024 * 1024;
/// The size of the first parts, and of the largest object that is written whole.
const FIRST_PART: u64 = 8 * 1024 * 1024;
/// Parts double after so many of them: 10,000 is the most that an object may have.
const SAME_SIZE: usize = 1000;
const LARGEST_PART: u64 = 64 * 1024 * 1024;
/// Parts of one object that are on their way at the same time.
const IN_FLIGHT: usize = 3;
/// What is charged to the budget at a time.
pub(super) const CHARGE: usize = 64 * 1024;
/// How long an upload waits for memory before its client is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// How an object was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// It is whole, under its own key.
    Whole,
    /// In parts.
    Parts {
        /// What the store calls the upload.
        upload: String,
        /// Names and sizes of the parts that are new, in order.
        new: Vec<(String, u64)>,
        /// Whether there are bytes after them, in a tail.
        has_tail: bool,
    },
}

/// Appends to one object.
///
/// After an error the object is what was last saved; whoever goes on from there replaces the parts that came since.
pub struct RemoteWriter {
    backend: Arc<dyn Backend>,
    memory: Arc<Semaphore>,
    key: ObjectKey,
    length: u64,
    /// How many of these bytes are in parts, of earlier writers and of this one.
    in_parts: u64,
    hashing: Hashing,
    saved: SavedParts,
    /// The upload, once it is begun: by an earlier writer, or by this one.
    upload: Option<String>,
    filling: Segment,
    filled: VecDeque<Segment>,
    parts: Vec<Part>,
}

impl std::fmt::Debug for RemoteWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RemoteWriter").field("key", &self.key).field("length", &self.length).finish()
    }
}

/// A piece of memory, charged to the budget as long as it lives.
#[derive(Default)]
struct Segment {
    bytes: Vec<u8>,
    charge: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Segment {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A part of this writer's: on its way, or there.
enum Part {
    Sending(u64, Task<String>),
    Sent(u64, String),
}

/// A task that ends with whoever waits for it: a part that arrives after its writer has gone could replace that of the
/// next one.
struct Task<T>(JoinHandle<Result<T>>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Task<T> {
    async fn end(mut self) -> Result<T> {
        (&mut self.0).await.map_err(|_| Error::ShuttingDown)?
    }
}

/// The hash is either here, or with the thread that hashes a segment.
enum Hashing {
    Idle(Box<BlobHasher>),
    Busy(JoinHandle<(Box<BlobHasher>, Segment)>),
    Lost,
}

impl RemoteWriter {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        memory: Arc<Semaphore>,
        key: ObjectKey,
        hasher: BlobHasher,
        saved: SavedParts,
    ) -> Self {
        let in_parts = saved.parts.iter().map(|(_, size)| size).sum();
        Self {
            backend,
            memory,
            key,
            length: in_parts,
            in_parts,
            hashing: Hashing::Idle(Box::new(hasher)),
            upload: saved.upload.clone(),
            saved,
            filling: Segment::default(),
            filled: VecDeque::new(),
            parts: Vec::new(),
        }
    }

    /// The object's key.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// How long the object is with all that was given so far, durable or not.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes what the hasher has seen already: the session's first bytes, or its tail.
    pub(super) async fn take_hashed(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(SEGMENT) {
            let charge = self.charge(piece.len()).await?;
            self.filled.push_back(Segment { bytes: piece.to_vec(), charge: Some(charge) });
            self.length += piece.len() as u64;
        }
        Ok(())
    }

    /// Reads the tail of the writer before back.
    pub(super) async fn take_tail(&mut self, tail: &ObjectKey, length: u64) -> Result<()> {
        let pieces: Vec<Bytes> = self.backend.read(tail, 0..length).await?.try_collect().await?;
        self.take_hashed(&pieces.concat()).await
    }

    /// Appends some bytes. Waits while the parts before are on their way, or memory is short.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if self.pending() >= part_size(self.count()) {
                self.send_part().await?;
            }
            let room = SEGMENT - self.filling.bytes.len();
            let (taken, left) = rest.split_at(rest.len().min(room));
            self.fill(taken).await?;
            self.length += taken.len() as u64;
            rest = left;
            if self.filling.bytes.len() == SEGMENT {
                self.hash_segment().await?;
            }
        }
        Ok(())
    }

    async fn fill(&mut self, bytes: &[u8]) -> Result<()> {
        let charged = self.filling.charge.as_ref().map_or(0, |charge| charge.num_permits() * CHARGE);
        let needed = self.filling.bytes.len() + bytes.len();
        if needed > charged {
            let more = self.charge(needed - charged).await?;
            match &mut self.filling.charge {
                Some(charge) => charge.merge(more),
                none => *none = Some(more),
            }
        }
        self.filling.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Memory for so many bytes. Where it is short, this upload gives back first what it can.
    async fn charge(&mut self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(CHARGE)).map_err(|_| Error::Overloaded)?;
        if let Ok(charge) = self.memory.clone().try_acquire_many_owned(units) {
            return Ok(charge);
        }
        if self.pending() >= SMALLEST_PART {
            self.send_part().await?;
        }
        let charge = self.memory.clone().acquire_many_owned(units);
        match tokio::time::timeout(PATIENCE, charge).await {
            Ok(charge) => charge.map_err(|_| Error::ShuttingDown),
            Err(_) => Err(Error::Overloaded),
        }
    }

    /// How many bytes are in no part yet.
    fn pending(&self) -> u64 {
        self.length - self.in_parts
    }

    fn count(&self) -> usize {
        self.saved.parts.len() + self.parts.len()
    }

    /// Whether the bytes in no part need an object of their own to be durable: then they have to be given its key.
    pub fn needs_tail(&self) -> bool {
        (1..SMALLEST_PART).contains(&self.pending()) && self.count() > 0
    }

    /// Hashes what has come, on a thread of its own.
    async fn hash_segment(&mut self) -> Result<()> {
        let mut hasher = self.hasher().await?;
        let segment = mem::take(&mut self.filling);
        self.hashing = Hashing::Busy(spawn_blocking(move || {
            hasher.update(&segment.bytes);
            (hasher, segment)
        }));
        Ok(())
    }

    /// Waits for the segment that is being hashed.
    async fn hasher(&mut self) -> Result<Box<BlobHasher>> {
        match mem::replace(&mut self.hashing, Hashing::Lost) {
            Hashing::Idle(hasher) => Ok(hasher),
            Hashing::Busy(thread) => {
                let (hasher, segment) = thread.await.map_err(|_| Error::ShuttingDown)?;
                self.filled.push_back(segment);
                Ok(hasher)
            }
            Hashing::Lost => Err(Error::UploadLost { key: self.key.clone() }),
        }
    }

    async fn hash_all(&mut self) -> Result<BlobHasher> {
        if !self.filling.bytes.is_empty() {
            self.hash_segment().await?;
        }
        let hasher = self.hasher().await?;
        let copy = (*hasher).clone();
        self.hashing = Hashing::Idle(hasher);
        Ok(copy)
    }

    /// All bytes that are in no part.
    async fn take_pending(&mut self) -> Result<Vec<Bytes>> {
        self.hash_all().await?;
        Ok(mem::take(&mut self.filled).into_iter().map(Bytes::from_owner).collect())
    }

    /// Sends all bytes that are in no part as the next one.
    async fn send_part(&mut self) -> Result<()> {
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => {
                let upload = self.backend.begin(&self.key).await?;
                self.upload.insert(upload).clone()
            }
        };
        self.wait_for_parts(IN_FLIGHT - 1).await?;
        let (size, number) = (self.pending(), self.count());
        let bytes = self.take_pending().await?;
        let (backend, key) = (self.backend.clone(), self.key.clone());
        let sending = tokio::spawn(async move { backend.put_part(&key, &upload, number, bytes).await });
        self.parts.push(Part::Sending(size, Task(sending)));
        self.in_parts += size;
        Ok(())
    }

    /// Waits until at most so many parts are on their way.
    async fn wait_for_parts(&mut self, at_most: usize) -> Result<()> {
        let mut sending = self.parts.iter().filter(|part| matches!(part, Part::Sending(..))).count();
        for part in &mut self.parts {
            if sending <= at_most {
                break;
            }
            if let Part::Sending(size, _) = part {
                let size = *size;
                if let Part::Sending(_, task) = mem::replace(part, Part::Sent(size, String::new())) {
                    *part = Part::Sent(size, task.end().await?);
                    sending -= 1;
                }
            }
        }
        Ok(())
    }

    /// Makes all that was given durable, so that another writer can go on.
    ///
    /// `tail` is a key that was never used, for a writer that [needs](Self::needs_tail) one.
    pub async fn save(&mut self, tail: Option<ObjectKey>) -> Result<Durable> {
        let pending = self.pending();
        let is_whole = self.count() == 0 && self.upload.is_none();
        if is_whole {
            self.put_whole().await?;
        } else if let Some(tail) = tail {
            let bytes = self.take_pending().await?;
            self.backend.put(&tail, bytes).await?;
        } else if pending > 0 {
            self.send_part().await?;
        }
        self.wait_for_parts(0).await?;
        let hasher = self.hash_all().await?;
        let layout = match &self.upload {
            Some(upload) => Layout::Parts {
                upload: upload.clone(),
                new: self.parts.iter().map(|part| (part.name().to_owned(), part.size())).collect(),
                has_tail: self.pending() > 0,
            },
            None => Layout::Whole,
        };
        Ok(Durable { length: self.length, hasher, layout })
    }

    async fn put_whole(&mut self) -> Result<()> {
        let bytes = self.take_pending().await?;
        self.backend.put(&self.key, bytes).await
    }

    /// The hash of all that was given.
    pub async fn hash(&mut self) -> Result<BlobHasher> {
        self.hash_all().await
    }

    /// Makes the whole object of what was given; it is durable when this returns.
    pub async fn finish(&mut self) -> Result<()> {
        if self.count() == 0 && self.upload.is_none() {
            return self.put_whole().await;
        }
        if self.pending() > 0 {
            match self.send_part().await {
                // An earlier end of this session was not recorded: see `complete`.
                Err(Error::UploadLost { .. }) => {}
                outcome => outcome?,
            }
        }
        let sent = self.wait_for_parts(0).await;
        if !matches!(sent, Err(Error::UploadLost { .. })) {
            sent?;
        }
        self.complete().await
    }

    /// Makes the object of its parts. Where the store knows the upload no more, it may have done so before, and whoever
    /// asked was not told or could not record it: the object itself tells whether it has these bytes.
    async fn complete(&mut self) -> Result<()> {
        let upload = self.upload.as_deref().unwrap_or_default();
        let saved = self.saved.parts.iter().map(|(name, _)| name.clone());
        let parts = saved.chain(self.parts.iter().map(|part| part.name().to_owned())).collect();
        match self.backend.complete(&self.key, upload, parts).await {
            Err(Error::UploadLost { key }) => {
                let expected = self.hash_all().await?.digest();
                match hash_object(&*self.backend, &self.key, expected.algorithm(), self.length).await {
                    Ok(hasher) if hasher.digest() == expected => Ok(()),
                    Ok(_) | Err(Error::Lost { .. }) => Err(Error::UploadLost { key }),
                    Err(error) => Err(error),
                }
            }
            outcome => outcome,
        }
    }

    /// Ends an upload that this writer has begun and that was never saved.
    pub async fn abandon(mut self) -> Result<()> {
        self.parts.clear(); // what is on its way is of no use
        match &self.upload {
            Some(upload) if self.saved.upload.is_none() => self.backend.abort(&self.key, upload).await,
            _ => Ok(()),
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

/// Hashes an object that is whole.
pub(super) async fn hash_object(
    backend: &dyn Backend,
    key: &ObjectKey,
    algorithm: Algorithm,
    length: u64,
) -> Result<BlobHasher> {
    let mut hasher = BlobHasher::new(algorithm);
    if length > 0 {
        let mut pieces = backend.read(key, 0..length).await?;
        while let Some(piece) = pieces.try_next().await? {
            hasher.update(&piece);
        }
    }
    Ok(hasher)
}

/// How large the part of this number is.
fn part_size(number: usize) -> u64 {
    let doubled = u32::try_from(number / SAME_SIZE).unwrap_or(u32::MAX).min(3);
    (FIRST_PART << doubled).min(LARGEST_PART)
}
