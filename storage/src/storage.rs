//! Where objects are: files on a local disk, or an object store. What the rest of Longshore sees of either.

use crate::{
    BegunUpload, BlobHasher, DiskUsage, DocumentName, Durable, Error, FileStore, FileWriter, HotUsage, Mappings,
    ObjectKey, ObjectReader, ObjectStream, PresignedUrl, RemoteStore, RemoteWriter, Result, SavedParts, Step,
    StoreUsage, VerifiedUsage,
};
use bytes::Bytes;
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use longshore_config::Storage as Settings;
use longshore_oci::{Algorithm, Digest};
use std::{ops::Range, time::Duration};

/// All objects of a registry. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Storage {
    /// Files, which this process holds alone.
    Files(FileStore),
    /// An object store, which any number of processes share.
    Remote(RemoteStore),
}

impl Storage {
    /// Opens what the settings name, and sees that it can be used.
    ///
    /// # Errors
    /// That of [`FileStore::open`]; [`crate::Error::Unusable`] for an object store that does not take, give and delete
    /// an object.
    pub async fn open(settings: &Settings) -> Result<Self> {
        match RemoteStore::connect(settings).await? {
            Some(remote) => Ok(Self::Remote(remote)),
            None => Ok(Self::Files(FileStore::open(&settings.path, settings.cache_size.bytes())?)),
        }
    }

    /// The same for a process that ends soon: the folder of `storage.disk_cache` is left to a server.
    ///
    /// # Errors
    /// Those of [`Storage::open`].
    pub async fn open_uncached(settings: &Settings) -> Result<Self> {
        Self::open(&uncached(settings)).await
    }

    /// The same to look at it, beside a process that may hold it. No object may be written.
    ///
    /// # Errors
    /// As those of [`Storage::open`]; [`crate::Error::Folder`] where there is no folder.
    pub async fn look(settings: &Settings) -> Result<Self> {
        match RemoteStore::connect(&uncached(settings)).await? {
            Some(remote) => Ok(Self::Remote(remote)),
            None => Ok(Self::Files(FileStore::look(&settings.path)?)),
        }
    }

    /// What rows call the backend.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Files(_) => FileStore::BACKEND,
            Self::Remote(store) => store.backend(),
        }
    }

    /// Where the objects are, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Files(files) => files.folder().display().to_string(),
            Self::Remote(store) => store.place(),
        }
    }

    /// How a socket recognises the pieces of [`crate::Delivery::Mapped`].
    pub fn mappings(&self) -> Mappings {
        match self {
            Self::Files(files) => files.mappings().clone(),
            Self::Remote(_) => Mappings::default(),
        }
    }

    /// Whether an object can be appended to. Otherwise it is whole, or in parts.
    pub fn appends(&self) -> bool {
        matches!(self, Self::Files(_))
    }

    /// Begins an object with these bytes, which the hasher has seen already.
    pub async fn create(&self, key: ObjectKey, hasher: BlobHasher, head: Vec<u8>) -> Result<ObjectWriter> {
        Ok(match self {
            Self::Files(files) => ObjectWriter::File(files.create(key, hasher, head).await?),
            Self::Remote(store) => ObjectWriter::Remote(Box::new(store.create(key, hasher, head).await?)),
        })
    }

    /// Goes on with an object after its first `length` bytes.
    pub async fn resume(
        &self,
        key: ObjectKey,
        hasher: BlobHasher,
        length: u64,
        saved: SavedParts,
    ) -> Result<ObjectWriter> {
        Ok(match self {
            Self::Files(files) => ObjectWriter::File(files.resume(key, hasher, length).await?),
            Self::Remote(store) => ObjectWriter::Remote(Box::new(store.resume(key, hasher, length, saved).await?)),
        })
    }

    /// Gives back the room of what a writer wrote in vain after the first `saved` bytes.
    pub async fn undo(&self, writer: ObjectWriter, saved: u64) -> Result<()> {
        match (self, writer) {
            (Self::Files(files), ObjectWriter::File(writer)) => {
                let key = writer.key().clone();
                drop(writer); // and its lock on the file with it
                files.cut(&key, saved).await
            }
            (_, ObjectWriter::Remote(writer)) => writer.abandon().await,
            (Self::Remote(_), ObjectWriter::File(_)) => Ok(()),
        }
    }

    /// Opens an object for reading; size and digest are what the database has recorded. By the digest it is seen whether a
    /// cache of an object store's objects holds what it should.
    pub async fn open_object(&self, key: &ObjectKey, size: u64, digest: &Digest) -> Result<ObjectReader> {
        match self {
            Self::Files(files) => files.open_object(key, size).await,
            Self::Remote(store) => Ok(store.open_verified(key, size, digest).await),
        }
    }

    /// Reads one range of an object, past all caches.
    pub async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<ObjectStream> {
        match self {
            Self::Files(files) => files.read(key, range).await,
            Self::Remote(store) => Ok(store.read(key, range)),
        }
    }

    /// All of an object as the caches of an object store's objects hold it; none where they do not hold all. Nothing was
    /// compared with its digest.
    pub fn read_cached(&self, key: &ObjectKey, size: u64) -> Option<ObjectStream> {
        match self {
            Self::Files(_) => None,
            Self::Remote(store) => store.read_cached(key, size),
        }
    }

    /// A URL by which whoever has it can read the object for so long. None where objects are files.
    ///
    /// # Errors
    /// That of [`RemoteStore::presign`].
    pub async fn presign(&self, key: &ObjectKey, lifetime: Duration) -> Result<Option<PresignedUrl>> {
        match self {
            Self::Files(_) => Ok(None),
            Self::Remote(store) => store.presign(key, lifetime).await,
        }
    }

    /// Hashes the first `length` bytes of an object that is there already.
    pub async fn hash(&self, key: &ObjectKey, algorithm: Algorithm, length: u64) -> Result<BlobHasher> {
        match self {
            Self::Files(files) => files.hash(key, algorithm, length).await,
            Self::Remote(store) => store.hash(key, algorithm, length).await,
        }
    }

    /// Deletes an object of about this size, and the parts of an upload that never became it.
    pub async fn delete(&self, key: &ObjectKey, size: u64, upload: Option<&str>) -> Result<()> {
        match self {
            Self::Files(files) => files.delete(key).await,
            Self::Remote(store) => store.delete(key, size, upload).await,
        }
    }

    /// Deletes objects that were whole, of about these sizes. After an error any of them may be gone.
    pub async fn delete_all(&self, objects: &[(ObjectKey, u64)]) -> Result<()> {
        match self {
            Self::Files(files) => {
                for (key, _) in objects {
                    files.delete(key).await?;
                }
                Ok(())
            }
            Self::Remote(store) => store.delete_all(objects).await,
        }
    }

    /// Every object that is there, with its length, in any order. What is written or deleted meanwhile may be among them or
    /// not.
    pub fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        let all = match self {
            Self::Files(files) => files.list(),
            Self::Remote(store) => store.list(),
        };
        // One object is nobody's: it is there to be looked at.
        all.try_filter(|(key, _)| std::future::ready(*key != ObjectKey::probe())).boxed()
    }

    /// Every upload in parts that has not come to its end, in any order; none where objects are files, or the store tells of
    /// none.
    pub fn list_uploads(&self) -> BoxStream<'_, Result<BegunUpload>> {
        match self {
            Self::Files(_) => stream::empty().boxed(),
            Self::Remote(store) => store.list_uploads(),
        }
    }

    /// Whether an upload has not come to its end.
    pub async fn is_begun(&self, upload: &BegunUpload) -> Result<bool> {
        match self {
            Self::Files(_) => Ok(false),
            Self::Remote(store) => store.is_begun(upload).await,
        }
    }

    /// Ends an upload without an object and frees its parts. That there is none is success.
    pub async fn abort(&self, upload: &BegunUpload) -> Result<()> {
        match self {
            Self::Files(_) => Ok(()),
            Self::Remote(store) => store.abort(upload).await,
        }
    }

    /// How long an object is.
    ///
    /// # Errors
    /// [`Error::Lost`] where there is none.
    pub async fn size(&self, key: &ObjectKey) -> Result<u64> {
        match self {
            Self::Files(files) => files.size(key).await,
            Self::Remote(store) => store.size(key).await,
        }
    }

    /// Writes a document, or replaces it; it is durable when this returns. Needs no lock on a folder of files, where
    /// [`Storage::look`] has opened it.
    pub async fn put_document(&self, name: &DocumentName, bytes: Bytes) -> Result<()> {
        match self {
            Self::Files(files) => files.documents().put(name, bytes).await,
            Self::Remote(store) => store.put_document(name, bytes).await,
        }
    }

    /// All of a document.
    ///
    /// # Errors
    /// [`Error::NoDocument`] where there is none.
    pub async fn read_document(&self, name: &DocumentName) -> Result<Bytes> {
        match self {
            Self::Files(files) => files.documents().read(name).await,
            Self::Remote(store) => store.read_document(name).await,
        }
    }

    /// Every document that is there, with its length, in the order of their names.
    pub async fn documents(&self) -> Result<Vec<(DocumentName, u64)>> {
        let mut all: Vec<_> = match self {
            Self::Files(files) => files.documents().list().await?,
            Self::Remote(store) => store.list_documents().try_collect().await?,
        };
        all.sort_unstable();
        Ok(all)
    }

    /// Deletes a document. That there is none is success.
    pub async fn delete_document(&self, name: &DocumentName) -> Result<()> {
        match self {
            Self::Files(files) => files.documents().delete(name).await,
            Self::Remote(store) => store.delete_document(name).await,
        }
    }

    /// The mark by which a database knows this store; none where nobody has marked it.
    pub async fn mark(&self) -> Result<Option<String>> {
        match self {
            Self::Files(files) => files.mark().await,
            Self::Remote(store) => store.mark().await,
        }
    }

    /// Marks the store, or marks it anew, with a text of one line; it is durable when this returns.
    pub async fn set_mark(&self, mark: &str) -> Result<()> {
        match self {
            Self::Files(files) => files.set_mark(mark).await,
            Self::Remote(store) => store.set_mark(mark).await,
        }
    }

    /// What is kept in memory of objects that are read again and again.
    pub fn hot_usage(&self) -> HotUsage {
        match self {
            Self::Files(files) => files.hot_usage(),
            Self::Remote(store) => store.hot_usage(),
        }
    }

    /// What is kept on a disk of what was read from an object store; none where there is no such cache.
    pub fn disk_usage(&self) -> Option<DiskUsage> {
        match self {
            Self::Files(_) => None,
            Self::Remote(store) => store.disk_usage(),
        }
    }

    /// What was found out of an object store's objects in memory and on the disk; none where objects are files.
    pub fn verified_usage(&self) -> Option<VerifiedUsage> {
        match self {
            Self::Files(_) => None,
            Self::Remote(store) => Some(store.verified_usage()),
        }
    }

    /// What was asked of an object store, and what memory its bytes take on their way; none where objects are files.
    pub fn store_usage(&self) -> Option<StoreUsage> {
        match self {
            Self::Files(_) => None,
            Self::Remote(store) => Some(store.usage()),
        }
    }

    /// Whether objects can be written, as a readiness probe asks.
    pub async fn check(&self) -> Result<()> {
        match self {
            Self::Files(files) => files.check().await,
            Self::Remote(store) => store.check().await,
        }
    }
}

/// The same settings without a cache on a disk.
fn uncached(settings: &Settings) -> Settings {
    Settings { disk_cache: None, ..settings.clone() }
}

/// Appends to one object. After an error the object is what was last made durable.
#[derive(Debug)]
pub enum ObjectWriter {
    /// In a file.
    File(FileWriter),
    /// In an object store.
    Remote(Box<RemoteWriter>),
}

impl ObjectWriter {
    /// The object's key.
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::File(writer) => writer.key(),
            Self::Remote(writer) => writer.key(),
        }
    }

    /// How long the object is with all that was given so far, durable or not.
    pub fn length(&self) -> u64 {
        match self {
            Self::File(writer) => writer.length(),
            Self::Remote(writer) => writer.length(),
        }
    }

    /// Appends some bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match self {
            Self::File(writer) => writer.write(bytes).await,
            Self::Remote(writer) => writer.write(bytes).await,
        }
    }

    /// Lets go of memory for a client that may be silent for long, where that is possible: an object store takes nothing
    /// that is too little for a part.
    pub async fn flush(&mut self) -> Result<()> {
        match self {
            Self::File(writer) => writer.flush().await,
            Self::Remote(_) => Ok(()),
        }
    }

    /// How many numbers for parts it lacks, see [`RemoteWriter::lacks_numbers`].
    pub fn lacks_numbers(&self, next: Step) -> u32 {
        match self {
            Self::File(_) => 0,
            Self::Remote(writer) => writer.lacks_numbers(next),
        }
    }

    /// Gives it numbers that no other writer has.
    pub fn grant_numbers(&mut self, numbers: Range<u32>) {
        if let Self::Remote(writer) = self {
            writer.grant_numbers(numbers);
        }
    }

    /// Comes when it has to be given up for others' sake, see [`RemoteWriter::refusal`].
    pub async fn refusal(&self) -> Error {
        match self {
            Self::File(_) => std::future::pending().await,
            Self::Remote(writer) => writer.refusal().await,
        }
    }

    /// Whether [`ObjectWriter::save`] needs a key that was never used.
    pub fn needs_tail(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Remote(writer) => writer.needs_tail(),
        }
    }

    /// Makes all that was given durable, so that another writer can go on.
    pub async fn save(&mut self, tail: Option<ObjectKey>) -> Result<Durable> {
        match self {
            Self::File(writer) => writer.sync().await,
            Self::Remote(writer) => writer.save(tail).await,
        }
    }

    /// The hash of all that was given. What is in a file is durable then.
    pub async fn hash(&mut self) -> Result<BlobHasher> {
        match self {
            Self::File(writer) => Ok(writer.sync().await?.hasher),
            Self::Remote(writer) => writer.hash().await,
        }
    }

    /// Makes the object whole and durable, once its hash is known.
    pub async fn finish(&mut self) -> Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Remote(writer) => writer.finish().await,
        }
    }
}
