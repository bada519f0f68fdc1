//! Objects as files on a local disk.
//!
//! A file is created under its final name at once: nothing reads it before a row names it, so there is nothing to
//! rename. Durable means that the file and the folder that names it are fsynced.

use crate::{
    BlobHasher, Delivery, Error, FileWriter, HotUsage, Mappings, ObjectKey, ObjectReader, ObjectStream, Result,
    blocking::{Lanes, run, run_in},
    document::DocumentFiles,
    folders::{ProcessLock, make_folders, write_whole},
    hot::HotSegments,
    mark,
    objects::{OpenObjects, read_range},
    read::SMALL,
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use longshore_oci::Algorithm;
use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What is read at a time to be hashed again.
const HASHED_CHUNK: u64 = 256 * 1024;

/// The file with the mark of the store, in the folder itself.
const MARK: &str = "store";

/// Objects below one folder, which this process holds alone.
#[derive(Debug, Clone)]
pub struct FileStore {
    folder: Arc<Path>,
    open: OpenObjects,
    hot: HotSegments,
    lanes: Lanes,
    /// The lock ends with the last clone, or with the process.
    _lock: Option<Arc<ProcessLock>>,
}

impl FileStore {
    /// What rows call this backend.
    pub const BACKEND: &'static str = "files";

    /// Opens the folder, makes what is missing in it, and locks it. At most `cache_size` bytes of what is read again and
    /// again are kept in memory.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process works on it; [`Error::Folder`] where it cannot be made or written.
    pub fn open(folder: &Path, cache_size: u64) -> Result<Self> {
        let failed = |source| Error::Folder { path: folder.to_owned(), source };
        make_folders(folder).map_err(failed)?;
        let lock = ProcessLock::of_folder(folder)?;
        Ok(Self {
            folder: folder.into(),
            open: OpenObjects::new(),
            hot: HotSegments::new(cache_size),
            lanes: Lanes::new(),
            _lock: Some(Arc::new(lock)),
        })
    }

    /// Opens the folder to look at it, beside a process that may hold it. Nothing but documents may be written by this one.
    ///
    /// # Errors
    /// [`Error::Folder`] where there is none.
    pub fn look(folder: &Path) -> Result<Self> {
        fs::read_dir(folder.join("objects")).map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
        let (open, hot, lanes) = (OpenObjects::new(), HotSegments::new(0), Lanes::new());
        Ok(Self { folder: folder.into(), open, hot, lanes, _lock: None })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What lies beside the objects.
    pub(crate) fn documents(&self) -> DocumentFiles {
        DocumentFiles::below(&self.folder)
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.folder.join(key.path())
    }

    /// Begins an object with these bytes, which the hasher has seen already.
    pub async fn create(&self, key: ObjectKey, hasher: BlobHasher, head: Vec<u8>) -> Result<FileWriter> {
        let path = self.path(&key);
        let length = head.len() as u64;
        let turn = self.lanes.turn().await?;
        let file = run(&key, move || {
            use io::Write;
            let _turn = turn; // the file is new: nobody has it locked, so this waits for the disk only
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
    pub async fn resume(&self, key: ObjectKey, hasher: BlobHasher, length: u64) -> Result<FileWriter> {
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
            // Also where it is not longer: room may be reserved beyond its end.
            if file.metadata()?.len() >= length {
                file.set_len(length)?;
            }
            Ok(())
        })
        .await
    }

    /// The name of the file is made durable with the first sync of every writer: the one before it may have died
    /// between making the file and syncing it.
    fn writer(&self, key: ObjectKey, file: File, hasher: BlobHasher, length: u64) -> FileWriter {
        let named_in = self.path(&key).parent().map(Path::to_owned);
        FileWriter::new(key, file, hasher, length, named_in, self.lanes.clone())
    }

    /// Opens an object for reading; `size` is what the database has recorded. All of it is there when this returns.
    pub async fn open_object(&self, key: &ObjectKey, size: u64) -> Result<ObjectReader> {
        if size <= SMALL
            && let Some(bytes) = self.hot.get(key, 0).await
        {
            return Ok(ObjectReader::of_segment(key.clone(), bytes, self.hot.clone()));
        }
        let object = self.open.open(key, self.path(key), size).await?;
        if size > SMALL {
            self.open.keep_open(&object);
        }
        let is_admitted = self.hot.admits(key, size);
        Ok(ObjectReader::of_file(object, size, is_admitted, self.hot.clone()))
    }

    /// Reads one range of an object that may still grow, past the hot cache.
    pub async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<ObjectStream> {
        let object = self.open.open(key, self.path(key), range.end).await?;
        let reader = ObjectReader::of_file(object, range.end, false, self.hot.clone());
        Ok(reader.range(range, Delivery::Copied))
    }

    /// What is kept in memory of objects that are read again and again.
    pub fn hot_usage(&self) -> HotUsage {
        self.hot.usage()
    }

    /// How a socket recognises the pieces of [`Delivery::Mapped`].
    pub fn mappings(&self) -> &Mappings {
        self.open.mappings()
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
                let chunk = read_range(&file, offset..length.min(offset + HASHED_CHUNK))?;
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
        self.open.forget(key);
        let length = run(key, move || {
            let length = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            remove(&path).map(|()| length)
        })
        .await?;
        self.hot.forget(key, length).await;
        Ok(())
    }

    /// Every object that is there, with its length, folder by folder.
    pub fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        let folder = |part: u8| self.folder.join("objects").join(format!("{part:02x}"));
        let parts = stream::iter(0..=u8::MAX).then(move |part| {
            let path = folder(part);
            async move { run(&ObjectKey::probe(), move || objects_in(&path)).await }
        });
        parts
            .flat_map(|listed| match listed {
                Ok(objects) => stream::iter(objects).map(Ok).boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }

    /// How long an object is.
    pub async fn size(&self, key: &ObjectKey) -> Result<u64> {
        let path = self.path(key);
        run(key, move || Ok(fs::metadata(&path)?.len())).await
    }

    /// The mark of the store; none where nobody has marked it.
    pub async fn mark(&self) -> Result<Option<String>> {
        let path = self.folder.join(MARK);
        let read = run_in(&self.folder, move || match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            outcome => outcome,
        });
        Ok(mark::in_line(&read.await?))
    }

    /// Marks the store, or marks it anew; it is durable when this returns.
    pub async fn set_mark(&self, mark: &str) -> Result<()> {
        let (folder, line) = (self.folder.clone(), mark::line(mark));
        // Whoever may copy the objects may copy it with them.
        run_in(&self.folder, move || write_whole(&folder, MARK, line.as_bytes(), 0o644)).await
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

/// The objects of one folder. What else lies there is not ours.
fn objects_in(folder: &Path) -> io::Result<Vec<(ObjectKey, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(key) = entry.file_name().to_str().and_then(ObjectKey::of_name) else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => found.push((key, metadata.len())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // A folder, or deleted since.
            _ => {}
        }
    }
    Ok(found)
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
