//! The bytes of one upload session while a request writes them: few of them stay in the database's row, more of them
//! go to an object.

use crate::{
    Error, Registry, Result,
    resting::{self, Changed, Resting, damaged, reserve_numbers},
};
use bytes::Bytes;
use longshore_metadata::{CommitOutcome, CommitUpload, SaveProgress, StoredContent, UploadId, UploadRecord};
use longshore_oci::{Algorithm, Digest};
use longshore_storage::{BlobHasher, ObjectKey, ObjectWriter, Step};
use std::time::{Duration, Instant};

/// How long a session is taken to be ours without asking again, where other replicas may take it: what is sent after that
/// is sent in vain.
const OURS: Duration = Duration::from_secs(1);

/// How many part numbers are reserved at first and at most: doubled each time, for one who needs many will need more. What
/// is not needed is given back when the session is saved.
const FIRST_NUMBERS: u32 = 2;
const MOST_NUMBERS: u32 = 16;

/// A session that a request holds.
#[derive(Debug)]
pub(crate) struct Session {
    registry: Registry,
    id: UploadId,
    fence: i64,
    /// How many bytes of the object were saved by earlier requests.
    saved: u64,
    /// Whether the writer has taken up a tail.
    has_tail: bool,
    /// How many part numbers are to be reserved next.
    numbers: u32,
    /// When the session was last given its whole lifetime.
    extended: Instant,
    bytes: SessionBytes,
}

#[derive(Debug)]
enum SessionBytes {
    /// Few enough for the row. They are hashed when it is known by which algorithm.
    Staged { bytes: Vec<u8>, algorithm: Algorithm },
    /// In objects that this request has not touched yet.
    Resting(Resting),
    /// In an object that this request appends to.
    Written(Box<ObjectWriter>),
}

/// What a session came to.
struct Finished {
    content: StoredContent,
    size: u64,
}

impl Session {
    /// Takes up a session where it was left.
    pub(crate) fn resume(registry: &Registry, record: UploadRecord) -> Result<Self> {
        let (id, fence) = (record.id, record.fence);
        let (saved, bytes) = match Resting::of(&record)? {
            Some(resting) => (resting.length, SessionBytes::Resting(resting)),
            None => {
                let hasher = BlobHasher::restore(&record.hash_state).map_err(|error| damaged(id, &error))?;
                (0, SessionBytes::Staged { bytes: record.staged, algorithm: hasher.algorithm() })
            }
        };
        let (registry, extended) = (registry.clone(), Instant::now());
        Ok(Self { registry, id, fence, saved, has_tail: false, numbers: FIRST_NUMBERS, extended, bytes })
    }

    /// How many bytes it holds.
    pub(crate) fn length(&self) -> u64 {
        match &self.bytes {
            SessionBytes::Staged { bytes, .. } => bytes.len() as u64,
            SessionBytes::Resting(resting) => resting.length,
            SessionBytes::Written(writer) => writer.length(),
        }
    }

    /// Lets an empty session be hashed by this algorithm from its first byte.
    pub(crate) fn expect(&mut self, expected: Algorithm) {
        if let SessionBytes::Staged { algorithm, .. } = &mut self.bytes {
            *algorithm = expected;
        }
    }

    /// Appends some bytes.
    pub(crate) async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.registry.rules.check_blob_size(self.length() + chunk.len() as u64)?;
        self.stay_open().await?;
        if let SessionBytes::Staged { bytes, .. } = &mut self.bytes
            && bytes.len() + chunk.len() <= self.registry.rules.inline_max
        {
            bytes.extend_from_slice(&chunk);
            return Ok(());
        }
        self.writer(Step::Write(chunk.len())).await?.write(chunk).await?;
        Ok(())
    }

    /// Sends what has come so far on its way to the disk: the client is slow, and its bytes should not wait in memory.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        match &mut self.bytes {
            SessionBytes::Written(writer) => Ok(writer.flush().await?),
            SessionBytes::Staged { .. } | SessionBytes::Resting(_) => Ok(()),
        }
    }

    /// Comes when the session has to be given up, see [`ObjectWriter::refusal`].
    pub(crate) async fn refusal(&self) -> Error {
        match &self.bytes {
            SessionBytes::Written(writer) => writer.refusal().await.into(),
            SessionBytes::Staged { .. } | SessionBytes::Resting(_) => std::future::pending().await,
        }
    }

    /// Keeps the session from expiring while bytes arrive, however long that takes; and sees that no other replica has
    /// taken it.
    async fn stay_open(&mut self) -> Result<()> {
        let lifetime = self.registry.rules.upload_lifetime;
        let is_shared = !self.registry.storage.appends() && matches!(self.bytes, SessionBytes::Written(_));
        let patience = if is_shared { OURS.min(lifetime / 4) } else { lifetime / 4 };
        if self.extended.elapsed() < patience {
            return Ok(());
        }
        self.extended = Instant::now();
        let open = self.registry.metadata.extend_upload(self.id, self.fence, lifetime).await?;
        if open { Ok(()) } else { Err(Error::UploadBusy { id: self.id }) }
    }

    /// The session's object, opened or made, with numbers for the parts that it may send in its next step.
    async fn writer(&mut self, next: Step) -> Result<&mut ObjectWriter> {
        let writer = match &mut self.bytes {
            SessionBytes::Written(_) => None,
            SessionBytes::Resting(resting) => {
                self.has_tail = resting.has_tail(&self.registry.storage);
                Some(resting.resume(&self.registry, self.id, self.fence).await?)
            }
            SessionBytes::Staged { bytes, algorithm } => {
                let key = ObjectKey::random();
                let (metadata, storage) = (&self.registry.metadata, &self.registry.storage);
                // The intent first: if we die after this, garbage collection finds the object by its session.
                if !metadata.attach_object(self.id, self.fence, &key.to_string(), storage.backend()).await? {
                    return Err(Error::UploadBusy { id: self.id });
                }
                let mut hasher = BlobHasher::new(*algorithm);
                hasher.update(bytes);
                Some(storage.create(key, hasher, std::mem::take(bytes)).await?)
            }
        };
        if let Some(writer) = writer {
            self.bytes = SessionBytes::Written(Box::new(writer));
        }
        let SessionBytes::Written(writer) = &mut self.bytes else { unreachable!("the writer was put there just now") };
        if let lacking @ 1.. = writer.lacks_numbers(next) {
            let count = lacking.max(self.numbers);
            writer.grant_numbers(reserve_numbers(&self.registry, self.id, self.fence, count).await?);
            self.numbers = (self.numbers * 2).min(MOST_NUMBERS);
        }
        Ok(writer)
    }

    /// Makes what came durable and saves how far the session is.
    pub(crate) async fn save(mut self) -> Result<u64> {
        let length = self.length();
        let progress = match self.make_durable().await {
            Ok(progress) => progress,
            Err(error) => return Err(self.undo(error).await),
        };
        if self.registry.metadata.save_progress(progress).await? {
            return Ok(length);
        }
        let lost = Error::UploadBusy { id: self.id };
        Err(self.undo(lost).await)
    }

    /// Makes what came durable; answers what is to be saved of it.
    async fn make_durable(&mut self) -> Result<SaveProgress> {
        self.stay_open().await?;
        let (received, storage) = (self.length(), &self.registry.storage);
        let (staged, hash_state, changed) = match &mut self.bytes {
            SessionBytes::Staged { bytes, algorithm } => {
                (std::mem::take(bytes), BlobHasher::new(*algorithm).save(), Changed::NOTHING)
            }
            SessionBytes::Resting(resting) => (Vec::new(), resting.hasher(storage).await?.save(), Changed::NOTHING),
            SessionBytes::Written(_) => {
                let (registry, id, fence) = (self.registry.clone(), self.id, self.fence);
                let durable = resting::save(&registry, id, fence, self.writer(Step::Save).await?).await?;
                (Vec::new(), durable.hasher.save(), Changed::to(durable.layout, self.has_tail))
            }
        };
        let (id, fence, lifetime) = (self.id, self.fence, self.registry.rules.upload_lifetime);
        let Changed { multipart, next_part, tail } = changed;
        Ok(SaveProgress { id, fence, received, hash_state, staged, multipart, next_part, tail, lifetime })
    }

    /// Ends the session with a blob of this digest. Where the bytes have another one, the session stays as it was
    /// before this request.
    pub(crate) async fn commit(mut self, declared: Digest) -> Result<()> {
        let Finished { content, size } = match self.finish(declared).await {
            Ok(finished) => finished,
            Err(error) => return Err(self.undo(error).await),
        };
        let commit = CommitUpload { id: self.id, fence: self.fence, digest: declared, size, content };
        match self.registry.metadata.commit_upload(commit).await? {
            CommitOutcome::Committed => Ok(()),
            CommitOutcome::SessionLost => {
                let lost = Error::UploadBusy { id: self.id };
                Err(self.undo(lost).await)
            }
        }
    }

    /// Makes everything durable, and sees that it has this digest.
    async fn finish(&mut self, declared: Digest) -> Result<Finished> {
        self.stay_open().await?;
        let algorithm = declared.algorithm();
        let storage = self.registry.storage.clone();
        let (key, size, hasher) = match &mut self.bytes {
            SessionBytes::Staged { bytes, .. } => {
                verify(declared, Digest::of(algorithm, bytes))?;
                let size = bytes.len() as u64;
                let content = StoredContent::Inline(std::mem::take(bytes));
                return Ok(Finished { content, size });
            }
            SessionBytes::Resting(resting) if let Some(key) = resting.whole() => {
                (key.clone(), resting.length, resting.hasher(&storage).await?)
            }
            SessionBytes::Resting(_) | SessionBytes::Written(_) => {
                let writer = self.writer(Step::Finish).await?;
                let hasher = writer.hash().await?;
                if hasher.algorithm() == algorithm {
                    verify(declared, hasher.digest())?;
                }
                writer.finish().await?;
                (writer.key().clone(), writer.length(), hasher)
            }
        };
        let computed = if hasher.algorithm() == algorithm {
            hasher.digest()
        } else {
            storage.hash(&key, algorithm, size).await?.digest()
        };
        verify(declared, computed)?;
        Ok(Finished { content: StoredContent::AttachedObject, size })
    }

    /// Cuts off what this request has written, after the failure that is handed through: its room is free at once and
    /// not only when the session ends. Not to be called where the outcome of a save or a commit is unknown: the
    /// database may name those bytes.
    pub(crate) async fn undo(self, failure: Error) -> Error {
        if let SessionBytes::Written(writer) = self.bytes {
            let key = writer.key().clone();
            if let Err(error) = self.registry.storage.undo(*writer, self.saved).await {
                tracing::warn!(%key, %error, "an object keeps bytes that nobody needs until its upload ends");
            }
        }
        failure
    }
}

fn verify(declared: Digest, computed: Digest) -> Result<()> {
    if computed == declared { Ok(()) } else { Err(Error::DigestMismatch { declared, computed }) }
}
