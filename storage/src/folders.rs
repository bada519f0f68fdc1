//! The folders that objects lie in, each made durable in the one above it; and small files that are written whole.

use crate::{Error, Result};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The folder and its 256 parts, each made durable in the one above it.
pub(crate) fn make_folders(folder: &Path) -> io::Result<()> {
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

/// Writes a file, or replaces it: under its name only once it is whole, and durable when this returns.
pub(crate) fn write_whole(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = folder.join(format!("{name}.unfinished"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, folder.join(name))?;
    sync_folder(folder)
}

/// What this process holds alone, until this is dropped or the process ends.
#[derive(Debug)]
pub struct ProcessLock {
    _file: File,
}

impl ProcessLock {
    /// Locks a folder, made if it is missing.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process holds it; [`Error::Folder`] where it cannot be made or written.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
        Self::take(folder, &folder.join("lock"))
    }

    /// Locks a file that need not be there yet, by one of its name and `.lock` beside it.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process holds it; [`Error::Folder`] where there is no room for the lock.
    pub fn of_file(file: &Path) -> Result<Self> {
        let mut lock = file.as_os_str().to_owned();
        lock.push(".lock");
        Self::take(file, Path::new(&lock))
    }

    fn take(held: &Path, lock: &Path) -> Result<Self> {
        let failed = |source| Error::Folder { path: held.to_owned(), source };
        let file = File::create(lock).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: held.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}
