//! Writing an object to an object store: what arrives fills segments; a full segment is hashed on a thread beside, and as
//! soon as there are enough of them they go to the store as a part, while more arrives.
//!
//! An object that fits into one part is written whole, in one request. What a session holds when its request ends and
//! is too little for a part is its *tail*: an object of its own, read back by the next writer.

use super::{
    Backend, SMALLEST_PART,
    budget::{Charge, Granted, Turn, UploadMemory},
    parts::{Parts, SavedPart, SavedParts},
    segment::{SEGMENT, Segment},
    tail,
};
use crate::{BlobHasher, Durable, Error, ObjectKey, Result};
use bytes::Bytes;
use futures_util::TryStreamExt;
use longshore_oci::Algorithm;
use std::{collections::VecDeque, mem, ops::Range, sync::Arc};
use tokio::task::{JoinHandle, spawn_blocking};

/// How an object was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// It is whole, under its own key.
    Whole,
    /// In parts.
    Parts {
        /// What the store calls the upload.
        upload: String,
        /// The parts that are new, in order.
        new: Vec<SavedPart>,
        /// CRC-64/NVME of the bytes after them, where there are any: those are in a tail.
        tail_checksum: Option<u64>,
        /// The first of its numbers that this writer has begun no part with; none where it was given none.
        unused: Option<u32>,
    },
}

/// What a writer is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take so many bytes more.
    Write(usize),
    /// Make durable what it has.
    Save,
    /// Make the whole object.
    Finish,
}

/// Appends to one object.
///
/// After an error the object is what was last saved; whoever goes on from there replaces the parts that came since.
pub struct RemoteWriter {
    backend: Arc<dyn Backend>,
    memory: Arc<UploadMemory>,
    turn: Option<Turn>,
    length: u64,
    hashing: Hashing,
    filling: Segment,
    filled: VecDeque<Segment>,
    parts: Parts,
    /// Whether an object may be there under the key.
    may_be_whole: bool,
}

impl std::fmt::Debug for RemoteWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RemoteWriter").field("key", self.key()).field("length", &self.length).finish()
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
        memory: Arc<UploadMemory>,
        key: ObjectKey,
        hasher: BlobHasher,
        saved: SavedParts,
    ) -> Self {
        let parts = Parts::new(backend.clone(), key, saved);
        Self {
            backend,
            memory,
            turn: None,
            length: parts.bytes(),
            hashing: Hashing::Idle(Box::new(hasher)),
            filling: Segment::default(),
            filled: VecDeque::new(),
            parts,
            may_be_whole: false,
        }
    }

    /// The object's key.
    pub fn key(&self) -> &ObjectKey {
        self.parts.key()
    }

    /// How long the object is with all that was given so far, durable or not.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes what the hasher has seen already: the session's first bytes.
    pub(super) async fn take_hashed(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(SEGMENT) {
            let mut segment = self.segment(piece.len()).await?;
            segment.bytes.extend_from_slice(piece);
            self.push_hashed(segment).await?;
        }
        Ok(())
    }

    /// Reads the tail of the writer before back, as it comes; the hasher has seen it, and `look` sees what comes. Ends early
    /// where it is shorter.
    pub(super) async fn take_tail(
        &mut self,
        tail: &ObjectKey,
        length: u64,
        mut look: impl FnMut(&[u8]) + Send,
    ) -> Result<()> {
        let mut pieces = self.backend.read(tail, 0..length).await?;
        let (mut left, mut piece) = (length, Bytes::new());
        while left > 0 {
            let size = usize::try_from(left).unwrap_or(SEGMENT).min(SEGMENT);
            let mut segment = self.segment(size).await?;
            while segment.bytes.len() < size {
                if piece.is_empty() {
                    let next = tokio::select! {
                        next = pieces.try_next() => next?,
                        refused = self.refusal() => return Err(refused),
                    };
                    let Some(next) = next else { return Ok(()) };
                    piece = next;
                }
                let taken = piece.split_to(piece.len().min(size - segment.bytes.len()));
                segment.bytes.extend_from_slice(&taken);
            }
            look(&segment.bytes);
            self.push_hashed(segment).await?;
            left -= size as u64;
        }
        Ok(())
    }

    /// A segment of this size, charged before it is there.
    async fn segment(&mut self, size: usize) -> Result<Segment> {
        Ok(Segment::of(size, self.charge(size).await?))
    }

    async fn push_hashed(&mut self, segment: Segment) -> Result<()> {
        self.length += segment.bytes.len() as u64;
        self.filled.push_back(segment);
        self.end_turn().await
    }

    /// Appends some bytes. Waits while the parts before are on their way, or memory is short.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if self.turn.as_ref().is_some_and(Turn::is_over) {
                return Err(self.memory.refuse());
            }
            if self.pending() >= self.parts.next_size() {
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
            self.end_turn().await?;
        }
        Ok(())
    }

    async fn fill(&mut self, bytes: &[u8]) -> Result<()> {
        // What is charged may be sent away while we wait for more: then all of it is to be charged anew.
        while let Some(missing) = self.filling.lacks(bytes.len()) {
            let more = self.charge(missing).await?;
            self.filling.add_charge(more);
        }
        self.filling.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Memory for so many bytes. Where it is short, this upload gives back first what it can: what is on its way comes
    /// back by itself, so that parts stay large; what is enough for a part is sent.
    async fn charge(&mut self, bytes: usize) -> Result<Charge> {
        loop {
            let charge = self.memory.take(bytes).or_else(|| self.turn.as_mut()?.draw(bytes));
            if let Some(charge) = charge {
                return Ok(charge);
            }
            if self.parts.wait_for_one().await? {
                continue;
            }
            if self.can_send() {
                self.send_part().await?;
                continue;
            }
            match self.memory.wait(bytes).await? {
                Granted::Charge(charge) => return Ok(charge),
                Granted::Turn(turn) => self.turn = Some(turn),
            }
        }
    }

    /// A turn is for one part, which goes as soon as it can.
    async fn end_turn(&mut self) -> Result<()> {
        if self.turn.is_some() && self.can_send() { self.send_part().await } else { Ok(()) }
    }

    /// Comes when this upload has to be given up, since others wait for memory and it holds what only one at a time may
    /// hold, for too long. To be waited for beside whatever may take long: its client's next bytes.
    pub async fn refusal(&self) -> Error {
        match &self.turn {
            Some(turn) => turn.end().await,
            None => std::future::pending().await,
        }
        self.memory.refuse()
    }

    /// How many bytes are in no part yet.
    fn pending(&self) -> u64 {
        self.length - self.parts.bytes()
    }

    /// Whether they are enough for a part, and there is a number for it.
    fn can_send(&self) -> bool {
        self.pending() >= SMALLEST_PART && self.parts.has_number()
    }

    /// How many part numbers that nobody else has are missing for the next step: others may write to the same upload, and
    /// a part that arrives late replaces another of its number. As many as parts may be sent where memory is short.
    pub fn lacks_numbers(&self, next: Step) -> u32 {
        let parts = match next {
            Step::Write(more) => (self.pending() + more as u64) / SMALLEST_PART,
            Step::Save => u64::from(self.pending() >= self.parts.least_saved()),
            Step::Finish => u64::from(self.pending() > 0),
        };
        self.parts.lacks_numbers(u32::try_from(parts).unwrap_or(u32::MAX))
    }

    /// Gives it such numbers.
    pub fn grant_numbers(&mut self, numbers: Range<u32>) {
        self.parts.grant(numbers);
    }

    /// Whether the bytes in no part need an object of their own to be durable: then they have to be given its key.
    pub fn needs_tail(&self) -> bool {
        !self.parts.is_empty() && (1..self.parts.least_saved()).contains(&self.pending())
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
            Hashing::Lost => Err(Error::UploadLost { key: self.key().clone() }),
        }
    }

    /// The hash of all that was given.
    pub async fn hash(&mut self) -> Result<BlobHasher> {
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
        self.hash().await?;
        self.turn = None;
        Ok(mem::take(&mut self.filled).into_iter().map(Bytes::from_owner).collect())
    }

    /// Sends all bytes that are in no part as the next one.
    async fn send_part(&mut self) -> Result<()> {
        let size = self.pending();
        let bytes = self.take_pending().await?;
        self.parts.send(bytes, size).await
    }

    /// Makes all that was given durable, so that another writer can go on.
    ///
    /// `tail` is a key that was never used, for a writer that [needs](Self::needs_tail) one.
    pub async fn save(&mut self, tail: Option<ObjectKey>) -> Result<Durable> {
        let mut tail_checksum = None;
        if self.parts.is_empty() {
            self.put_whole().await?;
        } else if let Some(tail) = tail {
            let bytes = self.take_pending().await?;
            tail_checksum = Some(tail::checksum(&bytes).await?);
            self.backend.put(&tail, bytes).await?;
        } else if self.pending() > 0 {
            self.send_part().await?;
        }
        self.parts.wait(0).await?;
        let hasher = self.hash().await?;
        let layout = match self.parts.new_parts() {
            Some((upload, new)) => Layout::Parts { upload, new, tail_checksum, unused: self.parts.unused_number() },
            None => Layout::Whole,
        };
        Ok(Durable { length: self.length, hasher, layout })
    }

    async fn put_whole(&mut self) -> Result<()> {
        let bytes = self.take_pending().await?;
        self.may_be_whole = true;
        self.backend.put(self.parts.key(), bytes).await
    }

    /// Makes the whole object of what was given; it is durable when this returns.
    pub async fn finish(&mut self) -> Result<()> {
        if self.parts.is_empty() {
            return self.put_whole().await;
        }
        match self.complete().await {
            Err(Error::UploadLost { key }) => self.recognise(key).await,
            outcome => outcome,
        }
    }

    async fn complete(&mut self) -> Result<()> {
        if self.pending() > 0 {
            self.send_part().await?;
        }
        self.may_be_whole = true;
        self.parts.complete().await
    }

    /// Where the store knows the upload no more, it may have made the object of it before, and whoever asked was not told
    /// or could not record it: the object itself tells whether it has these bytes.
    async fn recognise(&mut self, key: ObjectKey) -> Result<()> {
        let expected = self.hash().await?.digest();
        match hash_object(&*self.backend, &key, expected.algorithm(), self.length).await {
            Ok(hasher) if hasher.digest() == expected => Ok(()),
            Ok(_) | Err(Error::Lost { .. }) => Err(Error::UploadLost { key }),
            Err(error) => Err(error),
        }
    }

    /// Takes back what this writer has sent, if it was never saved: to be called only where it is known that it was not.
    pub async fn abandon(self) -> Result<()> {
        let (backend, key) = (self.backend, self.parts.key().clone());
        let was_written = self.may_be_whole && self.parts.is_unsaved();
        self.parts.abandon().await?;
        if was_written { backend.delete(&key).await } else { Ok(()) }
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
