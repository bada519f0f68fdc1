//! Objects as files on a local disk.
//!
//! A file is created under its final name at once: nothing reads it before a row names it, so there is nothing to
//! rename. Durable means that the file and the folder that names it are fsynced.

use crate::{BlobHasher, read};
use crate::{Error, ObjectKey, ObjectStream, ObjectWriter, Result};
use longshore_oci::Algorithm;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Objects below one folder, which this process holds alone.
#[derive(Debug, Clone)]
pub struct FileStore {
    folder: Arc<Path>,
    /// The lock ends with the last clone, or with the process.
    _lock: Arc<File>,
}

impl FileStore {
    /// What rows call this backend.
    pub const BACKEND: &'static str = "files";

    /// Opens the folder, makes what is missing in it, and locks it.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process works on it; [`Error::Folder`] where it cannot be made or written.
    pub fn open(folder: &Path) -> Result<Self> {
        let failed = |source| Error::Folder { path: folder.to_owned(), source };
        make_folders(folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.into(), _lock: Arc::new(lock) }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.folder.join(key.path())
    }

    /// Begins an object with these bytes, which the hasher has seen already.
    pub async fn create(&self, key: ObjectKey, hasher: BlobHasher, head: Vec<u8>) -> Result<ObjectWriter> {
        let path = self.path(&key);
        let length = head.len() as u64;
        let file = run(&key, move || {
            use io::Write;
            let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.lock()?;
            file.write_all(&head)?;
            Ok(file)
        })
        .await?;
        Ok(self.writer(key, file, hasher, length))
    }

    /// Goes on with an object after its first `length` bytes; what was written beyond them and never acknowledged is
    /// cut off. Waits while an earlier writer, or a thread that it left behind, still has the file.
    pub async fn resume(&self, key: ObjectKey, hasher: BlobHasher, length: u64) -> Result<ObjectWriter> {
        let path = self.path(&key);
        let file = run(&key, move || {
            use io::{Seek, SeekFrom};
            let mut file = OpenOptions::new().write(true).open(&path)?;
            file.lock()?;
            if file.metadata()?.len() < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
            Ok(file)
        })
        .await?;
        Ok(self.writer(key, file, hasher, length))
    }

    /// Cuts an object back to its first `length` bytes, to give back the room of what was written in vain. Waits like
    /// [`FileStore::resume`]. That it is not there is success: there is no room to give back.
    pub async fn cut(&self, key: &ObjectKey, length: u64) -> Result<()> {
        let path = self.path(key);
        run(key, move || {
            let file = match OpenOptions::new().write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                outcome => outcome?,
            };
            file.lock()?;
            if file.metadata()?.len() > length {
                file.set_len(length)?;
            }
            Ok(())
        })
        .await
    }

    /// The name of the file is made durable with the first sync of every writer: the one before it may have died
    /// between making the file and syncing it.
    fn writer(&self, key: ObjectKey, file: File, hasher: BlobHasher, length: u64) -> ObjectWriter {
        let named_in = self.path(&key).parent().map(Path::to_owned);
        ObjectWriter::new(key, file, hasher, length, named_in)
    }

    /// Opens an object for reading this range of it; `size` is what the database has recorded.
    pub async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<ObjectStream> {
        let path = self.path(key);
        let end = range.end;
        let file = run(key, move || {
            let file = File::open(&path)?;
            if file.metadata()?.len() < end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(file)
        })
        .await?;
        Ok(ObjectStream::new(key.clone(), file, range))
    }

    /// Hashes the first `length` bytes of an object that is there already: for the rare upload that names its
    /// algorithm only at the end.
    pub async fn hash(&self, key: &ObjectKey, algorithm: Algorithm, length: u64) -> Result<BlobHasher> {
        let path = self.path(key);
        run(key, move || {
            let file = File::open(&path)?;
            let mut hasher = BlobHasher::new(algorithm);
            let mut offset = 0;
            while offset < length {
                let chunk = read::read_chunk(&file, offset, length)?;
                hasher.update(&chunk);
                offset += chunk.len() as u64;
            }
            Ok(hasher)
        })
        .await
    }

    /// Deletes an object. That it is not there is success: the delete was done before.
    pub async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let path = self.path(key);
        run(key, move || remove(&path)).await
    }

    /// Whether a file can be made and made durable in the folder right now.
    pub async fn check(&self) -> Result<()> {
        let key = ObjectKey::random();
        let path = self.folder.join("probe");
        run(&key, move || {
            let file = File::create(&path)?;
            file.sync_all()?;
            remove(&path)
        })
        .await
    }
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// The folder and its 256 parts, each made durable in the one above it.
fn make_folders(folder: &Path) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    make_folder(&folder)?;
    let objects = folder.join("objects");
    make_folder(&objects)?;
    for part in 0..=u8::MAX {
        match fs::create_dir(objects.join(format!("{part:02x}"))) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    sync_folder(&objects)
}

/// The folder, and those above it that are missing. It is synced into its parent even if it was there: whoever made it
/// may have died before that.
fn make_folder(folder: &Path) -> io::Result<()> {
    let Some(parent) = folder.parent() else { return Ok(()) };
    if !parent.is_dir() {
        make_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        outcome => outcome?,
    }
    sync_folder(parent)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Runs blocking work beside the event loop.
async fn run<T: Send + 'static>(key: &ObjectKey, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let outcome = tokio::task::spawn_blocking(work).await.map_err(|_| Error::ShuttingDown)?;
    outcome.map_err(|source| Error::io(key, source))
}
