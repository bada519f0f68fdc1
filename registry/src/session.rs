//! The bytes of one upload session while a request writes them: few of them stay in the database's row, more of them
//! go to an object.

use crate::{Error, Registry, Result};
use bytes::Bytes;
use longshore_metadata::{
    CommitOutcome, CommitUpload, SaveProgress, StoredContent, TailChange, UploadId, UploadRecord,
};
use longshore_oci::{Algorithm, Digest};
use longshore_storage::{BlobHasher, FileStore, ObjectKey, ObjectWriter};
use std::time::Instant;

/// A session that a request holds.
#[derive(Debug)]
pub(crate) struct Session {
    registry: Registry,
    id: UploadId,
    fence: i64,
    /// How many bytes of the object were saved by earlier requests.
    saved: u64,
    /// When the session was last given its whole lifetime.
    extended: Instant,
    bytes: SessionBytes,
}

#[derive(Debug)]
enum SessionBytes {
    /// Few enough for the row. They are hashed when it is known by which algorithm.
    Staged { bytes: Vec<u8>, algorithm: Algorithm },
    /// In an object that this request has not touched yet.
    Resting { key: ObjectKey, saved_hash: Vec<u8>, length: u64 },
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
        let saved = if record.object_key.is_some() { record.received } else { 0 };
        let bytes = match record.object_key {
            Some(key) => {
                let key = key.parse().map_err(|error| damaged(record.id, &error))?;
                SessionBytes::Resting { key, saved_hash: record.hash_state, length: record.received }
            }
            None => {
                let hasher = BlobHasher::restore(&record.hash_state).map_err(|error| damaged(record.id, &error))?;
                SessionBytes::Staged { bytes: record.staged, algorithm: hasher.algorithm() }
            }
        };
        Ok(Self {
            registry: registry.clone(),
            id: record.id,
            fence: record.fence,
            saved,
            extended: Instant::now(),
            bytes,
        })
    }

    /// How many bytes it holds.
    pub(crate) fn length(&self) -> u64 {
        match &self.bytes {
            SessionBytes::Staged { bytes, .. } => bytes.len() as u64,
            SessionBytes::Resting { length, .. } => *length,
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
        self.writer().await?.write(chunk).await?;
        Ok(())
    }

    /// Sends what has come so far on its way to the disk: the client is slow, and its bytes should not wait in memory.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        match &mut self.bytes {
            SessionBytes::Written(writer) => Ok(writer.flush().await?),
            SessionBytes::Staged { .. } | SessionBytes::Resting { .. } => Ok(()),
        }
    }

    /// Keeps the session from expiring while bytes arrive, however long that takes.
    async fn stay_open(&mut self) -> Result<()> {
        let lifetime = self.registry.rules.upload_lifetime;
        if self.extended.elapsed() < lifetime / 4 {
            return Ok(());
        }
        self.extended = Instant::now();
        let open = self.registry.metadata.extend_upload(self.id, self.fence, lifetime).await?;
        if open { Ok(()) } else { Err(Error::UploadUnknown { id: self.id }) }
    }

    /// The session's object, opened or made.
    async fn writer(&mut self) -> Result<&mut ObjectWriter> {
        let writer = match &mut self.bytes {
            SessionBytes::Written(_) => None,
            SessionBytes::Resting { key, saved_hash, length } => {
                let hasher = restore_hash(&self.registry.files, key, saved_hash, *length).await?;
                Some(self.registry.files.resume(key.clone(), hasher, *length).await?)
            }
            SessionBytes::Staged { bytes, algorithm } => {
                let key = ObjectKey::random();
                let metadata = &self.registry.metadata;
                // The intent first: if we die after this, garbage collection finds the object by its session.
                if !metadata.attach_object(self.id, self.fence, &key.to_string(), FileStore::BACKEND).await? {
                    return Err(Error::UploadUnknown { id: self.id });
                }
                let mut hasher = BlobHasher::new(*algorithm);
                hasher.update(bytes);
                Some(self.registry.files.create(key, hasher, std::mem::take(bytes)).await?)
            }
        };
        if let Some(writer) = writer {
            self.bytes = SessionBytes::Written(Box::new(writer));
        }
        match &mut self.bytes {
            SessionBytes::Written(writer) => Ok(writer),
            _ => unreachable!("the writer was put there just now"),
        }
    }

    /// Makes what came durable and saves how far the session is.
    pub(crate) async fn save(mut self) -> Result<u64> {
        let length = self.length();
        let (staged, hash_state) = match self.bytes {
            SessionBytes::Staged { bytes, algorithm } => (bytes, BlobHasher::new(algorithm).save()),
            SessionBytes::Resting { saved_hash, .. } => (Vec::new(), saved_hash),
            SessionBytes::Written(ref mut writer) => match writer.sync().await {
                Ok(durable) => (Vec::new(), durable.hasher.save()),
                Err(error) => return Err(self.undo(error.into()).await),
            },
        };
        let lifetime = self.registry.rules.upload_lifetime;
        let (multipart, tail) = (None, TailChange::Kept);
        let progress = SaveProgress {
            id: self.id,
            fence: self.fence,
            received: length,
            hash_state,
            staged,
            multipart,
            tail,
            lifetime,
        };
        if !self.registry.metadata.save_progress(progress).await? {
            return Err(Error::UploadUnknown { id: self.id });
        }
        Ok(length)
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
            CommitOutcome::SessionLost => Err(Error::UploadUnknown { id: self.id }),
        }
    }

    /// Makes everything durable, and sees that it has this digest.
    async fn finish(&mut self, declared: Digest) -> Result<Finished> {
        let (algorithm, files) = (declared.algorithm(), &self.registry.files);
        let (key, size, hasher) = match &mut self.bytes {
            SessionBytes::Staged { bytes, .. } => {
                verify(declared, Digest::of(algorithm, bytes))?;
                let size = bytes.len() as u64;
                let content = StoredContent::Inline(std::mem::take(bytes));
                return Ok(Finished { content, size });
            }
            SessionBytes::Resting { key, saved_hash, length } => {
                let hasher = restore_hash(files, key, saved_hash, *length).await?;
                (&*key, *length, hasher)
            }
            SessionBytes::Written(writer) => {
                let durable = writer.sync().await?;
                (writer.key(), durable.length, durable.hasher)
            }
        };
        let computed = if hasher.algorithm() == algorithm {
            hasher.digest()
        } else {
            files.hash(key, algorithm, size).await?.digest()
        };
        verify(declared, computed)?;
        Ok(Finished { content: StoredContent::AttachedObject, size })
    }

    /// Cuts off what this request has written, after the failure that is handed through: its room is free at once and
    /// not only when the session ends. Not to be called once a save or a commit was tried: where its outcome is
    /// unknown, the database may name those bytes.
    pub(crate) async fn undo(self, failure: Error) -> Error {
        if let SessionBytes::Written(writer) = self.bytes {
            let key = writer.key().clone();
            drop(writer); // and its lock on the file with it
            if let Err(error) = self.registry.files.cut(&key, self.saved).await {
                tracing::warn!(%key, %error, "an object keeps bytes that nobody needs until its upload ends");
            }
        }
        failure
    }
}

fn verify(declared: Digest, computed: Digest) -> Result<()> {
    if computed == declared { Ok(()) } else { Err(Error::DigestMismatch { declared, computed }) }
}

/// The hash as it was saved, or by reading the bytes again where the saved state is of another version.
async fn restore_hash(files: &FileStore, key: &ObjectKey, saved: &[u8], length: u64) -> Result<BlobHasher> {
    match BlobHasher::restore(saved) {
        Ok(hasher) => Ok(hasher),
        Err(_) => Ok(files.hash(key, Algorithm::Sha256, length).await?),
    }
}

fn damaged(id: UploadId, error: &dyn std::error::Error) -> longshore_metadata::Error {
    longshore_metadata::Error::Damaged { table: "uploads", reason: format!("{id}: {error}") }
}
