//! Objects that are open for reading. Readers of the same object share one file and one mapping, so that five hundred
//! slow downloads of one layer hold one descriptor and not five hundred; and for a while after the last of them the
//! object stays open for the next.

use crate::{Mappings, ObjectKey, Result, blocking::run};
use bytes::Bytes;
use moka::sync::Cache;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, IoSliceMut},
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

/// The kernel reads ahead in steps of so many bytes, so one byte in each tells about all of them.
const READ_AHEAD: u64 = 128 * 1024;

/// So many objects stay open although nobody reads them, and for how long: each is a file descriptor.
const STAY_OPEN: u64 = 256;
const STAY_OPEN_FOR: Duration = Duration::from_secs(60);

/// The objects that somebody reads, or has just read.
#[derive(Debug, Clone)]
pub(crate) struct OpenObjects {
    open: Arc<Mutex<HashMap<ObjectKey, Weak<OpenObject>>>>,
    recent: Cache<ObjectKey, Arc<OpenObject>>,
    mappings: Mappings,
}

/// An object that is open for reading.
#[derive(Debug)]
pub(crate) struct OpenObject {
    key: ObjectKey,
    file: Arc<File>,
    length: u64,
    mapped: OnceLock<Option<Bytes>>,
    open: Arc<Mutex<HashMap<ObjectKey, Weak<OpenObject>>>>,
    mappings: Mappings,
}

impl OpenObjects {
    pub(crate) fn new() -> Self {
        let recent = Cache::builder().max_capacity(STAY_OPEN).time_to_idle(STAY_OPEN_FOR).build();
        Self { open: Arc::default(), recent, mappings: Mappings::default() }
    }

    /// The mappings of all of them.
    pub(crate) fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    /// Opens the object, or joins those who have it open.
    pub(crate) async fn open(&self, key: &ObjectKey, path: PathBuf, size: u64) -> Result<Arc<OpenObject>> {
        let is_long_enough = |object: &Arc<OpenObject>| object.length >= size;
        if let Some(object) = self.recent.get(key).filter(is_long_enough) {
            return Ok(object);
        }
        let joined = self.opened().get(key).and_then(Weak::upgrade);
        if let Some(object) = joined.filter(is_long_enough) {
            return Ok(object);
        }
        let (file, length) = run(key, move || {
            let file = File::open(&path)?;
            let length = file.metadata()?.len();
            if length < size { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((file, length)) }
        })
        .await?;
        let object = Arc::new(OpenObject {
            key: key.clone(),
            file: Arc::new(file),
            length,
            mapped: OnceLock::new(),
            open: self.open.clone(),
            mappings: self.mappings.clone(),
        });
        self.opened().insert(key.clone(), Arc::downgrade(&object));
        Ok(object)
    }

    /// Lets the object stay open for a while.
    pub(crate) fn keep_open(&self, object: &Arc<OpenObject>) {
        if !self.recent.contains_key(&object.key) {
            self.recent.insert(object.key.clone(), object.clone());
        }
    }

    /// Lets nobody else join: the object is about to be deleted. Who has it open reads on.
    pub(crate) fn forget(&self, key: &ObjectKey) {
        self.recent.invalidate(key);
        self.opened().remove(key);
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, Weak<OpenObject>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenObject {
    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Reads a range into memory, on a thread that may wait for the disk.
    pub(crate) async fn read(self: Arc<Self>, range: Range<u64>) -> Result<Vec<u8>> {
        let key = self.key.clone();
        run(&key, move || read_range(&self.file, range)).await
    }

    /// A range as a part of the mapped file, if the whole of it is in the page cache: sending it will not wait for the
    /// disk. `None` where it is not, or where files cannot be mapped.
    pub(crate) fn mapped(&self, range: Range<u64>) -> Option<Bytes> {
        let mapped = self.mapped.get_or_init(|| self.map()).as_ref()?;
        let start = usize::try_from(range.start).ok()?;
        let end = usize::try_from(range.end).ok().filter(|end| *end <= mapped.len())?;
        is_in_page_cache(&self.file, range).then(|| mapped.slice(start..end))
    }

    fn map(&self) -> Option<Bytes> {
        let length = usize::try_from(self.length).ok().filter(|length| *length > 0)?;
        match self.mappings.map(&self.file, length) {
            Ok(mapped) => Some(mapped),
            Err(error) => {
                tracing::debug!(key = %self.key, %error, "an object could not be mapped: it is read into memory");
                None
            }
        }
    }
}

impl Drop for OpenObject {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may have been opened in our place already.
        if open.get(&self.key).is_some_and(|object| object.strong_count() == 0) {
            open.remove(&self.key);
        }
    }
}

/// All bytes of the range. A file that ends before is an error.
pub(crate) fn read_range(file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let length = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut buffer = vec![0; length];
    file.read_exact_at(&mut buffer, range.start)?;
    Ok(buffer)
}

/// Whether the range can be read without waiting for the disk. Where the file system cannot tell it is taken to be so.
fn is_in_page_cache(file: &File, range: Range<u64>) -> bool {
    let mut offset = range.start;
    let mut byte = [0];
    while offset < range.end {
        match preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
            Ok(1) => {}
            Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => return true,
            _ => return false,
        }
        offset = (offset / READ_AHEAD + 1) * READ_AHEAD;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use std::fs;

    #[tokio::test]
    async fn readers_at_the_same_time_share_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        fs::write(&path, vec![7; 300_000]).unwrap();
        let (objects, key) = (OpenObjects::new(), ObjectKey::random());
        let first = objects.open(&key, path.clone(), 300_000).await.unwrap();
        let second = objects.open(&key, path.clone(), 300_000).await.unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        drop((first, second));
        assert!(objects.opened().is_empty());
        fs::remove_file(&path).unwrap();
        assert!(matches!(objects.open(&key, path, 1).await, Err(Error::Lost { .. })));
    }

    #[tokio::test]
    async fn what_was_just_written_is_in_the_page_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        fs::write(&path, vec![7; 300_000]).unwrap();
        let object = OpenObjects::new().open(&ObjectKey::random(), path, 300_000).await.unwrap();
        assert_eq!(object.mapped(100..300_000).unwrap(), vec![7; 299_900]);
        assert!(object.mapped(0..300_001).is_none());
    }
}
