//! Objects in an object store: S3 and what is like it, Google Cloud Storage, Azure.

mod aws;
mod azure;
mod backend;
mod budget;
mod cloud;
mod connect;
mod counted;
mod disk;
mod fetch;
mod flight;
mod flights;
mod gcs;
mod hedge;
mod memory;
mod object;
mod parts;
mod patience;
mod presigned;
mod prove;
mod readers;
mod requests;
mod retry;
mod retry_after;
mod room;
mod s3;
mod segment;
mod share;
mod tail;
mod usage;
mod verify;
mod write;

pub use azure::azure_backend;
pub use backend::{Backend, BegunUpload, SMALLEST_PART};
pub use disk::DiskUsage;
pub use gcs::gcs_backend;
pub use memory::memory_backend;
pub use parts::{SavedPart, SavedParts};
pub use presigned::PresignedUrl;
pub use requests::OperationUsage;
pub use s3::s3_backend;
pub use tail::SavedTail;
pub use usage::StoreUsage;
pub use verify::VerifiedUsage;
pub use write::{Layout, RemoteWriter, Step};

pub(crate) use flights::Seat;
pub(crate) use object::RemoteObject;
pub(crate) use patience::Patience;

use budget::UploadMemory;
use counted::Counted;
use disk::DiskCache;
use flights::{Flights, Route};
use share::Share;
use tail::Check;
use verify::Claim;

use crate::{
    BlobHasher, Delivery, DocumentName, Error, HotUsage, ObjectKey, ObjectReader, ObjectStream, Result,
    hot::HotSegments, mark,
};
use bytes::Bytes;
use futures_util::{TryStreamExt, stream::BoxStream};
use longshore_oci::{Algorithm, Digest};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::time::Instant;

/// What can be read has to pass through memory.
pub const LEAST_TO_READ: u64 = 16 * 1024 * 1024;

/// Objects of one object store. Cheap to clone; any number of processes may work on the same one.
#[derive(Debug, Clone)]
pub struct RemoteStore {
    backend: Arc<dyn Backend>,
    /// The same one.
    requests: Arc<Counted>,
    hot: HotSegments,
    flights: Arc<Flights>,
    memory: Arc<UploadMemory>,
}

impl RemoteStore {
    /// A store on this backend. What is read takes at most `cache_size` bytes of memory, or [`LEAST_TO_READ`] if that is
    /// more; a quarter of it is for what is on its way, the rest for what is read again and again. What is written takes at
    /// most `upload_memory` bytes, of which 6 MiB at least are needed.
    pub fn new(backend: Arc<dyn Backend>, cache_size: u64, upload_memory: u64) -> Self {
        let hot = HotSegments::within(cache_size.max(LEAST_TO_READ), cache_size / 4 * 3);
        let requests = Arc::new(Counted::new(backend));
        let backend: Arc<dyn Backend> = requests.clone();
        Self {
            flights: Arc::new(Flights::new(backend.clone(), hot.clone(), None)),
            backend,
            requests,
            hot,
            memory: UploadMemory::of(upload_memory),
        }
    }

    /// With a cache of so many bytes on a local disk between memory and the store, in a folder that this process holds
    /// alone. It is looked through beside other work, so this belongs into a runtime.
    ///
    /// # Errors
    /// [`Error::DiskCache`] where the folder cannot be written, another process holds it, or its file system is smaller
    /// than the cache.
    pub fn with_disk_cache(mut self, folder: &Path, size: u64) -> Result<Self> {
        let disk = DiskCache::open(folder, size, self.hot.usage().capacity)?;
        self.flights = Arc::new(Flights::new(self.backend.clone(), self.hot.clone(), Some(disk)));
        Ok(self)
    }

    /// What rows call the backend.
    pub fn backend(&self) -> &'static str {
        self.backend.name()
    }

    /// Where the objects are, for people.
    pub fn place(&self) -> String {
        self.backend.place()
    }

    /// Begins an object with these bytes, which the hasher has seen already.
    pub async fn create(&self, key: ObjectKey, hasher: BlobHasher, head: Vec<u8>) -> Result<RemoteWriter> {
        let mut writer = self.writer(key, hasher, SavedParts::default());
        writer.take_hashed(&head).await?;
        Ok(writer)
    }

    /// Goes on with an object after its first `length` bytes, of which all that are not in parts are in its tail.
    ///
    /// # Errors
    /// [`Error::UploadLost`] where bytes are missing, or the tail lies damaged at the store; [`Error::Backend`] where it
    /// came damaged, or the store fails.
    pub async fn resume(
        &self,
        key: ObjectKey,
        hasher: BlobHasher,
        length: u64,
        saved: SavedParts,
    ) -> Result<RemoteWriter> {
        let (tail, written) = (saved.tail.clone(), hasher.clone());
        let mut writer = self.writer(key, hasher, saved);
        let in_parts = writer.length();
        let Some(tail) = tail else {
            let is_all = in_parts == length;
            return if is_all { Ok(writer) } else { Err(Error::UploadLost { key: writer.key().clone() }) };
        };
        let in_tail = length.saturating_sub(in_parts);
        let check = || Check::new(&tail, in_parts, &written);
        let mut first = check();
        writer.take_tail(&tail.key, in_tail, |bytes| first.look(bytes)).await?;
        if writer.length() != length {
            return Err(Error::Backend { key: tail.key, reason: "its answer broke off".to_owned() });
        }
        if first.is_passed() {
            return Ok(writer);
        }
        // What it has sent of them is in parts that nobody will name.
        drop(writer);
        Err(tail::judge(&*self.backend, tail.key.clone(), in_tail, check()).await)
    }

    fn writer(&self, key: ObjectKey, hasher: BlobHasher, saved: SavedParts) -> RemoteWriter {
        RemoteWriter::new(self.backend.clone(), self.memory.clone(), key, hasher, saved)
    }

    /// A reader of an object; `size` is what the database has recorded. Nothing is asked of the store yet.
    pub async fn open_object(&self, key: &ObjectKey, size: u64) -> ObjectReader {
        self.open(key, size, Route::Cached { is_admitted: self.hot.admits(key, size) }, Duration::ZERO)
    }

    /// The same for an object of this digest: what comes from the caches was hashed, once.
    pub async fn open_verified(&self, key: &ObjectKey, size: u64, digest: &Digest) -> ObjectReader {
        let began = Instant::now();
        let claim = Claim { key: key.clone(), size, digest: *digest, is_admitted: self.hot.admits(key, size) };
        let route = self.flights.route(&claim).await;
        self.open(key, size, route, began.elapsed())
    }

    /// Reads one range of an object from the store itself, past all caches.
    pub fn read(&self, key: &ObjectKey, range: std::ops::Range<u64>) -> ObjectStream {
        self.open(key, range.end, Route::Straight, Duration::ZERO).range(range, Delivery::Copied)
    }

    /// All of an object as the caches hold it; none where they do not hold all. What they let go of meanwhile comes from the
    /// store, and nothing was compared with its digest.
    pub fn read_cached(&self, key: &ObjectKey, size: u64) -> Option<ObjectStream> {
        let is_cached = self.flights.share(key, size) == Share::All;
        let route = Route::Cached { is_admitted: true };
        is_cached.then(|| self.open(key, size, route, Duration::ZERO).range(0..size, Delivery::Copied))
    }

    fn open(&self, key: &ObjectKey, size: u64, route: Route, waited: Duration) -> ObjectReader {
        let object = RemoteObject::new(self.flights.clone(), key.clone(), size, route, waited);
        ObjectReader::of_remote(object, size, self.hot.clone())
    }

    /// A URL by which whoever has it can read the object for so long. None where the store has no such thing.
    ///
    /// # Errors
    /// Where it cannot be signed with the credentials that we have, or not in a few seconds.
    pub async fn presign(&self, key: &ObjectKey, lifetime: Duration) -> Result<Option<PresignedUrl>> {
        self.backend.presign(key, lifetime).await
    }

    /// What is kept in memory of objects that are read again and again.
    pub fn hot_usage(&self) -> HotUsage {
        self.hot.usage()
    }

    /// What is kept on the disk of what was read; none where there is no such cache.
    pub fn disk_usage(&self) -> Option<DiskUsage> {
        self.flights.disk.as_ref().map(DiskCache::usage)
    }

    /// What was found out of objects in memory and on the disk.
    pub fn verified_usage(&self) -> VerifiedUsage {
        self.flights.verified.usage()
    }

    /// Waits until the disk cache has looked through its folder and written all that it was given.
    pub async fn settle_disk(&self) {
        if let Some(disk) = &self.flights.disk {
            disk.settle().await;
        }
    }

    /// Hashes the first `length` bytes of an object that is whole.
    pub async fn hash(&self, key: &ObjectKey, algorithm: Algorithm, length: u64) -> Result<BlobHasher> {
        write::hash_object(&*self.backend, key, algorithm, length).await
    }

    /// Deletes an object, and the parts of an upload that never became it. That there is nothing is success. One that
    /// was never whole (its size is 0) may have uploads that nobody could record: the store is asked for them.
    pub async fn delete(&self, key: &ObjectKey, size: u64, upload: Option<&str>) -> Result<()> {
        if let Some(upload) = upload {
            self.backend.abort(key, upload).await?;
        }
        if size == 0 {
            for upload in self.backend.uploads(key).await? {
                self.backend.abort(key, &upload).await?;
            }
        }
        self.backend.delete(key).await?;
        self.flights.forget(key, size).await;
        Ok(())
    }

    /// Deletes objects that were whole, of about these sizes, in as few requests as the store can.
    pub async fn delete_all(&self, objects: &[(ObjectKey, u64)]) -> Result<()> {
        let keys: Vec<_> = objects.iter().map(|(key, _)| key.clone()).collect();
        self.backend.delete_all(&keys).await?;
        for (key, size) in objects {
            self.flights.forget(key, *size).await;
        }
        Ok(())
    }

    /// Every object that is there and has a key of ours, with its length.
    pub fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        self.backend.list()
    }

    /// Every upload in parts that has not come to its end, as far as the store tells.
    pub fn list_uploads(&self) -> BoxStream<'_, Result<BegunUpload>> {
        self.backend.list_uploads()
    }

    /// Whether an upload has not come to its end.
    pub async fn is_begun(&self, upload: &BegunUpload) -> Result<bool> {
        Ok(self.backend.uploads(&upload.key).await?.contains(&upload.name))
    }

    /// Ends an upload without an object and frees its parts. That there is none is success.
    pub async fn abort(&self, upload: &BegunUpload) -> Result<()> {
        self.backend.abort(&upload.key, &upload.name).await
    }

    /// How long an object is, as the store says.
    pub async fn size(&self, key: &ObjectKey) -> Result<u64> {
        self.backend.size(key).await
    }

    /// Writes a document, or replaces it; it is durable when this returns.
    pub async fn put_document(&self, name: &DocumentName, bytes: Bytes) -> Result<()> {
        self.backend.put_document(name, bytes).await
    }

    /// All of a document.
    pub async fn read_document(&self, name: &DocumentName) -> Result<Bytes> {
        self.backend.read_document(name).await
    }

    /// Every document that is there, with its length, in any order.
    pub fn list_documents(&self) -> BoxStream<'_, Result<(DocumentName, u64)>> {
        self.backend.list_documents()
    }

    /// Deletes a document. That there is none is success.
    pub async fn delete_document(&self, name: &DocumentName) -> Result<()> {
        self.backend.delete_document(name).await
    }

    /// The mark of the store, which the object bears that [`RemoteStore::check`] looks at; none where it bears none.
    pub async fn mark(&self) -> Result<Option<String>> {
        match self.read_probe().await {
            Ok(bytes) => Ok(mark::in_line(&bytes)),
            Err(Error::Lost { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Marks the store, or marks it anew; it is durable when this returns.
    pub async fn set_mark(&self, mark: &str) -> Result<()> {
        self.backend.put(&ObjectKey::probe(), vec![mark::line(mark).into()]).await
    }

    async fn read_probe(&self) -> Result<Vec<u8>> {
        let probe = ObjectKey::probe();
        let length = self.backend.size(&probe).await?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let pieces: Vec<Bytes> = self.backend.read(&probe, 0..length).await?.try_collect().await?;
        Ok(pieces.concat())
    }

    /// Whether the store answers and lets us look at objects.
    pub async fn check(&self) -> Result<()> {
        self.backend.size(&ObjectKey::probe()).await?;
        Ok(())
    }
}
