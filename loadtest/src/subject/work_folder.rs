//! Owns the folder that all states are put into and that is thrown away at the end.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result};

/// A new folder. Dropping it removes it with all that is in it, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    keep: bool,
}

impl WorkFolder {
    /// Makes a folder of its own inside `parent`.
    pub(crate) fn create(parent: &Path, keep: bool) -> Result<Self> {
        let path = parent.join(format!("longshore-loadtest-{}", std::process::id()));
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        // Fails if it is there: nothing that somebody else put there shall be removed.
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        Ok(Self { path, keep })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("kept {}", self.path.display());
            return;
        }
        eprintln!("removing {}", self.path.display());
        remove_side_by_side(&self.path);
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("longshore-loadtest: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes the folders in a folder, all at once. Where freed blocks are discarded on the disk one after the other, a
/// hundred thousand small files take minutes, most of it waiting.
fn remove_side_by_side(folder: &Path) {
    thread::scope(|scope| {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // What is left, and why, is told by the removal of the whole.
            scope.spawn(move || fs::remove_dir_all(entry.path()));
        }
    });
}

/// Removes the files below a folder that have exactly this size and were written since then.
pub(super) fn remove_files(folder: &Path, size: u64, since: SystemTime) -> Result<()> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in entries_of(&folder)?.into_iter().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if metadata.len() == size && metadata.modified().is_ok_and(|written| written >= since) {
                // It may be gone, as above; one that stays costs room alone.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    Ok(())
}

/// Removes the folders below a folder that hold a file of this name, as many bytes as that and were made since then.
pub(super) fn remove_folders(folder: &Path, mark: &str, sizes: RangeInclusive<u64>, since: SystemTime) -> Result<()> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let Some(entries) = entries_of(&folder)? else { continue };
        if !entries.iter().any(|entry| entry.file_name() == mark) {
            waiting.extend(entries.iter().map(fs::DirEntry::path).filter(|path| path.is_dir()));
            continue;
        }
        let is_new = fs::metadata(folder.join(mark)).and_then(|mark| mark.modified()).is_ok_and(|made| made >= since);
        if is_new && sizes.contains(&bytes_below(&folder)?) {
            // It may be gone by now; one that stays costs room alone.
            let _ = fs::remove_dir_all(&folder);
        }
    }
    Ok(())
}

/// The bytes of all files below a folder, without the ones that lie in it itself.
fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in entries_of(folder)?.into_iter().flatten().filter(|entry| entry.path().is_dir()) {
        for file in entries_of(&entry.path())?.into_iter().flatten() {
            bytes += file.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok(bytes)
}

/// None if the folder has gone: a server removes folders of its own meanwhile.
fn entries_of(folder: &Path) -> Result<Option<Vec<fs::DirEntry>>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", folder.display())),
    };
    let entries: std::io::Result<Vec<fs::DirEntry>> = entries.collect();
    entries.map(Some).with_context(|| format!("cannot list {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_work_folder_is_new_and_goes() {
        let parent = std::env::temp_dir().join(format!("longshore-work-folder-{}", std::process::id()));
        let folder = WorkFolder::create(&parent, false).unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        assert!(WorkFolder::create(&parent, false).is_err(), "a folder that is there is not ours");
        drop(folder);
        assert!(!path.exists());
        fs::remove_dir(&parent).unwrap();
    }

    #[test]
    fn only_new_files_of_the_size_are_removed() {
        let parent = std::env::temp_dir().join(format!("longshore-remove-files-{}", std::process::id()));
        fs::create_dir_all(parent.join("a/b")).unwrap();
        for (name, bytes) in [("a/b/blob", 7), ("a/other", 8)] {
            fs::write(parent.join(name), vec![0; bytes]).unwrap();
        }
        let now = SystemTime::now();
        remove_files(&parent, 7, now + Duration::from_secs(60)).unwrap();
        assert!(parent.join("a/b/blob").exists(), "it is older");
        remove_files(&parent, 7, now - Duration::from_secs(60)).unwrap();
        assert!(!parent.join("a/b/blob").exists());
        assert!(parent.join("a/other").exists());
        fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn only_new_objects_of_the_size_are_removed() {
        let parent = std::env::temp_dir().join(format!("longshore-remove-folders-{}", std::process::id()));
        for (name, bytes) in [("a/blob", 70), ("a/other", 90)] {
            let object = parent.join(name);
            fs::create_dir_all(object.join("parts")).unwrap();
            fs::write(object.join("mark"), "x").unwrap();
            for part in ["1", "2"] {
                fs::write(object.join("parts").join(part), vec![0; bytes / 2]).unwrap();
            }
        }
        let now = SystemTime::now();
        remove_folders(&parent, "mark", 65..=75, now + Duration::from_secs(60)).unwrap();
        assert!(parent.join("a/blob").exists(), "it is older");
        remove_folders(&parent, "mark", 65..=75, now - Duration::from_secs(60)).unwrap();
        assert!(!parent.join("a/blob").exists());
        assert!(parent.join("a/other").exists());
        fs::remove_dir_all(&parent).unwrap();
    }
}
