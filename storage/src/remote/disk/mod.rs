//! What was read from the object store, kept on a local disk: bounded in bytes, and still there after a restart
//! (docs/adr/0017).
//!
//! It is never more than a cache. A segment that it does not give at once (because it is not there, is not what was
//! written, the disk fails, is slow or says nothing any more) comes from the store, as if there were no disk; what it
//! does not take at once is dropped. Keys are never used again and objects never change, so a folder may be kept for
//! as long as one likes, or come from another registry: what nobody asks for goes with time.

mod counts;
mod folder;
mod ghost;
mod index;
mod segment;
mod switch;

pub use counts::DiskUsage;

use crate::{ObjectKey, Result, hot::SEGMENT};
use bytes::Bytes;
use counts::{Counts, Jobs};
use folder::{Folder, Unread};
use futures_util::{Stream, StreamExt, stream};
use index::Index;
use segment::{SegmentId, Stored, length_of};
use std::{
    io::{self, ErrorKind},
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use switch::Switch;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

/// Threads that read, and that write or remove, at a time. Those that a dead disk holds are not to be had back, nor is a
/// segment of memory for each.
const READERS: usize = 16;
const WRITERS: usize = 4;
/// Segments that are read at a time for one run.
const ABREAST: usize = 4;
/// A segment that has not come after so long is asked of the store: by then that would have answered.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many reads that fail in a row turn the cache off for a while. Of writes one is enough.
const TOLERANCE: u32 = 4;
/// No object may take more than this part of the cache.
const LARGEST_PART: u64 = 8;
/// What waits to be written takes no more than this part of the memory for reads, within these bounds.
const QUEUE: u64 = 8;
const SHORTEST_QUEUE: u64 = 2 * SEGMENT;
const LONGEST_QUEUE: u64 = 64 * SEGMENT;
/// What the queue is counted in.
const UNIT: u64 = 1024;

/// A cache on a local disk. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DiskCache(Arc<Disk>);

#[derive(Debug)]
struct Disk {
    folder: Folder,
    index: Mutex<Index>,
    /// Whether the index knows what lies in the folder. Until then nothing is read or written.
    is_known: AtomicBool,
    reading: Switch,
    writing: Switch,
    readers: Arc<Semaphore>,
    writers: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    counts: Counts,
    jobs: Jobs,
}

impl DiskCache {
    /// Takes the folder for a cache of so many bytes, and begins to look through it. What waits to be written is part of
    /// `memory`, which is for reads.
    ///
    /// # Errors
    /// [`crate::Error::DiskCache`] where the folder cannot be written, another process holds it, or its file system is
    /// smaller than the cache.
    pub(crate) fn open(path: &Path, size: u64, memory: u64) -> Result<Self> {
        let queue = (memory / QUEUE).clamp(SHORTEST_QUEUE, LONGEST_QUEUE) / UNIT;
        let disk = Self(Arc::new(Disk {
            folder: Folder::open(path, size)?,
            index: Mutex::new(Index::new(size)),
            is_known: AtomicBool::new(false),
            reading: Switch::new(TOLERANCE),
            writing: Switch::new(1),
            readers: Arc::new(Semaphore::new(READERS)),
            writers: Arc::new(Semaphore::new(WRITERS)),
            queue: Arc::new(Semaphore::new(usize::try_from(queue).unwrap_or(Semaphore::MAX_PERMITS))),
            counts: Counts::default(),
            jobs: Jobs::default(),
        }));
        disk.work(None, |disk| {
            if let Err(error) = disk.look_through() {
                disk.counts.error();
                tracing::error!(%error, "the disk cache cannot be looked through: it stays off until the next start");
            }
        });
        Ok(disk)
    }

    pub(crate) fn usage(&self) -> DiskUsage {
        let index = self.0.index();
        self.0.counts.usage(index.bytes(), index.capacity(), self.0.is_on() && self.0.writing.is_on())
    }

    /// Which of these segments, from the first on, are there.
    pub(crate) fn held(&self, key: &ObjectKey, size: u64, numbers: Range<u64>) -> Range<u64> {
        let missing = self.0.first(key, size, numbers.clone(), false);
        numbers.start..missing.unwrap_or(numbers.end)
    }

    /// The first of these segments that is there.
    pub(crate) fn first_held(&self, key: &ObjectKey, size: u64, numbers: Range<u64>) -> Option<u64> {
        self.0.first(key, size, numbers, true)
    }

    /// The bytes of these segments in order, up to the first that the disk does not give.
    pub(crate) fn read(
        &self,
        key: &ObjectKey,
        size: u64,
        numbers: Range<u64>,
    ) -> impl Stream<Item = Vec<u8>> + Send + use<> {
        let (disk, key) = (self.0.clone(), key.clone());
        let reads = stream::iter(numbers).map(move |number| disk.clone().read(key.clone(), number, size));
        reads.buffered(ABREAST).take_while(|bytes| std::future::ready(bytes.is_some())).filter_map(std::future::ready)
    }

    /// Takes a segment that came from the store, if it is worth it and there is room in the queue.
    pub(crate) fn offer(&self, key: &ObjectKey, number: u64, size: u64, bytes: &Bytes) {
        let disk = &self.0;
        disk.counts.miss();
        let Some(id) = SegmentId::new(key, number) else { return };
        if !disk.is_on() || !disk.writing.is_on() || bytes.is_empty() {
            return;
        }
        let Ok(queued) = disk.queue.clone().try_acquire_many_owned(units_of(bytes)) else {
            disk.counts.drop_write();
            return;
        };
        let mut index = disk.index();
        if size > index.capacity() / LARGEST_PART {
            return;
        }
        let admission = index.admit(&id, length_of(number, size));
        drop(index);
        if admission.is_admitted || !admission.victims.is_empty() {
            let bytes = admission.is_admitted.then(|| bytes.clone());
            self.work(Some(queued), move |disk| {
                admission.victims.iter().for_each(|victim| disk.remove(victim));
                if let Some(bytes) = bytes {
                    disk.write(id, &bytes);
                }
            });
        }
    }

    /// A segment was read from memory, which shows that it is worth keeping.
    pub(crate) fn touch(&self, key: &ObjectKey, number: u64) {
        if let Some(id) = SegmentId::new(key, number) {
            self.0.index().touch(&id);
        }
    }

    /// Drops a deleted object.
    pub(crate) fn forget(&self, key: &ObjectKey, size: u64) {
        let ids = (0..size.div_ceil(SEGMENT)).filter_map(|number| SegmentId::new(key, number));
        let forgotten: Vec<_> = {
            let mut index = self.0.index();
            ids.filter_map(|id| index.remove(&id)).collect()
        };
        if !forgotten.is_empty() {
            self.work(None, move |disk| forgotten.iter().for_each(|stored| disk.remove(stored)));
        }
    }

    /// Waits until the folder is looked through, and all that was taken is written.
    pub(crate) async fn settle(&self) {
        self.0.jobs.all_done().await;
    }

    /// Runs work on a thread that may wait for the disk, when it has its turn.
    fn work(&self, queued: Option<OwnedSemaphorePermit>, work: impl FnOnce(&Disk) + Send + 'static) {
        let (disk, job) = (self.0.clone(), self.0.jobs.begin());
        tokio::spawn(async move {
            let Ok(turn) = disk.writers.clone().acquire_owned().await else { return };
            // What is left of a thread that panicked is in its file's name, and so are all others.
            let _ = spawn_blocking(move || {
                work(&disk);
                drop((turn, queued, disk));
                drop(job);
            })
            .await;
        });
    }
}

impl Disk {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_on(&self) -> bool {
        self.is_known.load(Ordering::Acquire) && self.reading.is_on()
    }

    /// The first of these segments that is there, or that is not.
    fn first(&self, key: &ObjectKey, size: u64, mut numbers: Range<u64>, is_there: bool) -> Option<u64> {
        if !self.is_on() {
            return numbers.next().filter(|_| !is_there);
        }
        let index = self.index();
        numbers.find(|number| {
            let id = SegmentId::new(key, *number);
            id.is_some_and(|id| index.holds(&id, length_of(*number, size))) == is_there
        })
    }

    /// Reads a segment; none where the disk does not give it.
    async fn read(self: Arc<Self>, key: ObjectKey, number: u64, size: u64) -> Option<Vec<u8>> {
        let stored = self.index().read(&SegmentId::new(&key, number)?, length_of(number, size))?;
        let disk = self.clone();
        let read = async {
            let turn = disk.readers.clone().acquire_owned().await.ok()?;
            spawn_blocking(move || {
                let bytes = disk.read_now(&stored);
                drop(turn);
                bytes
            })
            .await
            .ok()?
        };
        match timeout(PATIENCE, read).await {
            Ok(bytes) => bytes.inspect(|_| {
                self.reading.went_well();
                self.counts.hit();
            }),
            Err(_) => {
                self.reading_failed(&io::Error::new(ErrorKind::TimedOut, "it does not answer in time"));
                None
            }
        }
    }

    fn read_now(&self, stored: &Stored) -> Option<Vec<u8>> {
        let unread = match self.folder.read(stored) {
            Ok(bytes) => return Some(bytes),
            Err(unread) => unread,
        };
        match unread {
            // It had to go a moment ago, or somebody has removed it.
            Unread::Missing => {}
            Unread::Corrupt => {
                self.counts.corrupt();
                tracing::warn!(
                    file = stored.name(),
                    "a segment of the disk cache is not what was written: it is removed"
                );
            }
            Unread::Failed(error) => self.reading_failed(&error),
        }
        let removed = self.index().remove(&stored.id);
        if let Some(removed) = removed {
            self.remove(&removed);
        }
        None
    }

    fn write(&self, id: SegmentId, bytes: &[u8]) {
        let stored = Stored::new(id, bytes);
        let written = self.folder.write(&stored, bytes);
        let is_wanted = written.is_ok() && self.index().arrived(&stored);
        match &written {
            Ok(()) => self.writing.went_well(),
            Err(error) => self.writing_failed(error),
        }
        if !is_wanted {
            self.remove(&stored);
        }
        if written.is_err_and(|error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) {
            let victims = self.index().give_back();
            victims.iter().for_each(|victim| self.remove(victim));
        }
    }

    /// Removes the file of what is not in the index any more, or never came to be.
    fn remove(&self, stored: &Stored) {
        if let Err(error) = self.folder.remove(stored) {
            self.writing_failed(&error);
        }
        self.index().gone(&stored.id);
    }

    fn reading_failed(&self, error: &io::Error) {
        self.counts.error();
        if let Some(pause) = self.reading.failed() {
            let path = self.folder.path().display();
            tracing::warn!(%path, %error, ?pause, "the disk cache cannot be read: it is off for a while");
        }
    }

    fn writing_failed(&self, error: &io::Error) {
        self.counts.error();
        if let Some(pause) = self.writing.failed() {
            let path = self.folder.path().display();
            tracing::warn!(%path, %error, ?pause, "the disk cache cannot be written: nothing is added for a while");
        }
    }

    /// Takes up what lies in the folder.
    fn look_through(&self) -> io::Result<()> {
        let contents = self.folder.contents()?;
        let found = contents.segments.len();
        let victims = self.index().load(contents.segments);
        for victim in &victims {
            self.folder.remove(victim)?;
        }
        self.is_known.store(true, Ordering::Release);
        let (segments, bytes) = (found - victims.len(), self.index().bytes());
        let (path, torn, foreign) = (self.folder.path().display(), contents.torn, contents.foreign);
        tracing::info!(%path, segments, bytes, torn, foreign, "the disk cache is looked through");
        let (capacity, free) = (self.index().capacity(), self.folder.room()?.free);
        if capacity - bytes > free {
            tracing::warn!(%path, capacity, bytes, free, "the disk has less room than storage.disk_cache.size");
        }
        Ok(())
    }
}

fn units_of(bytes: &Bytes) -> u32 {
    u32::try_from((bytes.len() as u64).div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
