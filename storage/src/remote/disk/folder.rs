//! The folder of a disk cache: `segments/XX/NAME`, and a lock. Nothing in it is synced: what a crash or a power cut
//! leaves of a file is told by its length, or by the checksum in its name.

use super::segment::Stored;
use crate::{Error, ProcessLock, Result};
use longshore_config::ByteSize;
use rustix::{buffer::spare_capacity, fs::statvfs};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// What is in it are layers that not everybody may pull.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// A file's time tells when it was last read, as exactly as this.
const PRECISION: Duration = Duration::from_secs(60 * 60);

/// A folder that this process holds alone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    segments: PathBuf,
    _alone: ProcessLock,
}

/// Why a segment was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is not there.
    Missing,
    /// Its bytes are not those that were written.
    Corrupt,
    /// The disk failed.
    Failed(io::Error),
}

/// What lies in a folder.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The least recently used first.
    pub(super) segments: Vec<Stored>,
    /// Files whose writing was broken off, and which were removed.
    pub(super) torn: u64,
    /// Files that are not ours, and which were left alone.
    pub(super) foreign: u64,
}

impl Folder {
    /// Takes the folder, made if it is missing, for a cache of so many bytes.
    ///
    /// # Errors
    /// [`Error::DiskCache`] where it cannot be written, another process holds it, or its file system is smaller.
    pub(super) fn open(path: &Path, size: u64) -> Result<Self> {
        let alone = ProcessLock::of_folder(path).map_err(|error| match error {
            Error::Folder { source, .. } => unusable(path, &source.to_string(), WRITABLE),
            _ => unusable(path, "another longshore works in it", "Give each one a folder of its own"),
        })?;
        let folder = Self { path: path.to_owned(), segments: path.join("segments"), _alone: alone };
        folder.prepare().map_err(|error| unusable(path, &error.to_string(), WRITABLE))?;
        let room = folder.room().map_err(|error| unusable(path, &error.to_string(), WRITABLE))?;
        if size > room.total {
            let (size, total) = (ByteSize::new(size), ByteSize::new(room.total));
            let reason = format!("storage.disk_cache.size is {size}, and its file system has {total}");
            return Err(unusable(path, &reason, "Choose a smaller size, or a larger disk"));
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&self) -> io::Result<()> {
        make_folder(&self.segments)?;
        // It may be there, and somebody else's.
        let probe = self.segments.join("probe");
        File::create(&probe)?;
        fs::remove_file(probe)
    }

    /// What its file system has.
    pub(super) fn room(&self) -> io::Result<Room> {
        let told = statvfs(&self.path)?;
        Ok(Room { total: told.f_blocks * told.f_frsize, free: told.f_bavail * told.f_frsize })
    }

    fn file(&self, stored: &Stored) -> PathBuf {
        self.segments.join(stored.part()).join(stored.name())
    }

    /// Reads a segment, and sees that its bytes are those that were written.
    pub(super) fn read(&self, stored: &Stored) -> std::result::Result<Vec<u8>, Unread> {
        let file = File::open(self.file(stored))?;
        let length = stored.length as usize;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            if rustix::io::read(&file, spare_capacity(&mut bytes)).map_err(io::Error::from)? == 0 {
                break;
            }
        }
        bytes.truncate(length);
        if !stored.is(&bytes) {
            return Err(Unread::Corrupt);
        }
        note_use(&file);
        Ok(bytes)
    }

    /// Writes a segment. What there is of it after a failure is for [`Folder::remove`].
    pub(super) fn write(&self, stored: &Stored, bytes: &[u8]) -> io::Result<()> {
        let path = self.file(stored);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let opened = options.open(&path).or_else(|error| match (error.kind(), path.parent()) {
            (ErrorKind::NotFound, Some(part)) => make_folder(part).and_then(|()| options.open(&path)),
            _ => Err(error),
        });
        opened?.write_all(bytes)
    }

    /// Removes a segment. That it is not there is success.
    pub(super) fn remove(&self, stored: &Stored) -> io::Result<()> {
        match fs::remove_file(self.file(stored)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    /// Looks through the folder, without reading any segment, and removes what was not written to its end.
    pub(super) fn contents(&self) -> io::Result<Contents> {
        let mut contents = Contents::default();
        let mut segments = Vec::new();
        for part in fs::read_dir(&self.segments)? {
            let part = part?;
            if !part.file_type()?.is_dir() {
                contents.foreign += 1;
                continue;
            }
            for file in fs::read_dir(part.path())? {
                let file = file?;
                let named = file.file_name().to_str().and_then(Stored::of_name);
                let Some(stored) = named.filter(|stored| part.file_name() == *stored.part()) else {
                    contents.foreign += 1;
                    continue;
                };
                let about = file.metadata()?;
                if about.len() == u64::from(stored.length) {
                    segments.push((about.modified()?, stored));
                } else {
                    self.remove(&stored)?;
                    contents.torn += 1;
                }
            }
        }
        segments.sort_by_key(|(used, _)| *used);
        contents.segments = segments.into_iter().map(|(_, stored)| stored).collect();
        Ok(contents)
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// How many bytes a file system has, and how many are free for us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) total: u64,
    pub(super) free: u64,
}

const WRITABLE: &str = "Choose a folder for storage.disk_cache.path that can be made and written";

fn unusable(path: &Path, reason: &str, advice: &'static str) -> Error {
    Error::DiskCache { path: path.to_owned(), reason: reason.to_owned(), advice }
}

/// Gives the file the time of its last use, which outlives us. It is no harm if that fails.
fn note_use(file: &File) {
    let now = SystemTime::now();
    let modified = file.metadata().and_then(|about| about.modified());
    if modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > PRECISION)) {
        let _ = file.set_modified(now);
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::NotFound { Self::Missing } else { Self::Failed(error) }
    }
}
