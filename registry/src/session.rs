//! The bytes of one upload session while a request writes them: few of them stay in the database's row, more of them
//! go to an object.

use crate::{Error, Registry, Result};
use bytes::Bytes;
use longshore_metadata::{CommitOutcome, CommitUpload, SaveProgress, StoredContent, UploadId, UploadRecord};
use longshore_oci::{Algorithm, Digest};
use longshore_storage::{BlobHasher, FileStore, ObjectKey, ObjectWriter};

/// A session that a request holds.
#[derive(Debug)]
pub(crate) struct Session {
    registry: Registry,
    id: UploadId,
    fence: i64,
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
    computed: Digest,
}

impl Session {
    /// Takes up a session where it was left.
    pub(crate) fn resume(registry: &Registry, record: UploadRecord) -> Result<Self> {
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
        Ok(Self { registry: registry.clone(), id: record.id, fence: record.fence, bytes })
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
        if let Some(limit) = self.registry.rules.blob_max
            && self.length() + chunk.len() as u64 > limit
        {
            return Err(Error::BlobTooLarge { limit });
        }
        if let SessionBytes::Staged { bytes, .. } = &mut self.bytes
            && bytes.len() + chunk.len() <= self.registry.rules.inline_max
        {
            bytes.extend_from_slice(&chunk);
            return Ok(());
        }
        self.writer().await?.write(chunk).await?;
        Ok(())
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
    pub(crate) async fn save(self) -> Result<u64> {
        let length = self.length();
        let (staged, hash_state) = match self.bytes {
            SessionBytes::Staged { bytes, algorithm } => (bytes, BlobHasher::new(algorithm).save()),
            SessionBytes::Resting { saved_hash, .. } => (Vec::new(), saved_hash),
            SessionBytes::Written(mut writer) => (Vec::new(), writer.sync().await?.hasher.save()),
        };
        let lifetime = self.registry.rules.upload_lifetime;
        let progress = SaveProgress { id: self.id, fence: self.fence, received: length, hash_state, staged, lifetime };
        if !self.registry.metadata.save_progress(progress).await? {
            return Err(Error::UploadUnknown { id: self.id });
        }
        Ok(length)
    }

    /// Ends the session with a blob of this digest. Where the bytes have another one, the session stays as it was
    /// before this request.
    pub(crate) async fn commit(self, declared: Digest) -> Result<()> {
        let (id, fence, registry) = (self.id, self.fence, self.registry.clone());
        let Finished { content, size, computed } = self.finish(declared.algorithm()).await?;
        if computed != declared {
            return Err(Error::DigestMismatch { declared, computed });
        }
        let commit = CommitUpload { id, fence, digest: declared, size, content };
        match registry.metadata.commit_upload(commit).await? {
            CommitOutcome::Committed => Ok(()),
            CommitOutcome::SessionLost => Err(Error::UploadUnknown { id }),
        }
    }

    async fn finish(self, algorithm: Algorithm) -> Result<Finished> {
        let files = &self.registry.files;
        let (key, size, hasher) = match self.bytes {
            SessionBytes::Staged { bytes, .. } => {
                let computed = Digest::of(algorithm, &bytes);
                return Ok(Finished { size: bytes.len() as u64, content: StoredContent::Inline(bytes), computed });
            }
            SessionBytes::Resting { key, saved_hash, length } => {
                let hasher = restore_hash(files, &key, &saved_hash, length).await?;
                (key, length, hasher)
            }
            SessionBytes::Written(mut writer) => {
                let durable = writer.sync().await?;
                (writer.key().clone(), durable.length, durable.hasher)
            }
        };
        let computed = if hasher.algorithm() == algorithm {
            hasher.digest()
        } else {
            files.hash(&key, algorithm, size).await?.digest()
        };
        Ok(Finished { content: StoredContent::AttachedObject, size, computed })
    }
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
