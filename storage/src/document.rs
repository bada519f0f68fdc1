//! Documents: what lies beside the objects and holds no blob, such as the pieces of a backup. They have names that people
//! read, are small enough to be written and read whole, and are never listed among the objects.

use crate::{
    Error, Result,
    blocking::run_in,
    folders::{sync_folder, write_whole},
};
use bytes::Bytes;
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// Where documents are, below the folder or the prefix that is ours.
pub(crate) const FOLDER: &str = "backups";

/// The name of a document: one of a few that belong together, and which of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentName {
    group: String,
    piece: String,
}

impl DocumentName {
    /// The name of these two, which are of letters, digits and hyphens; none where they are not.
    pub fn new(group: &str, piece: &str) -> Option<Self> {
        let is_plain = |text: &str| {
            (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        (is_plain(group) && is_plain(piece)).then(|| Self { group: group.to_owned(), piece: piece.to_owned() })
    }

    /// What it has in common with those that it belongs to.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Which of them it is.
    pub fn piece(&self) -> &str {
        &self.piece
    }

    /// The name at the end of this path, if it is that of a document.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let mut parts = path.rsplit('/');
        let (piece, group) = (parts.next()?, parts.next()?);
        if parts.next()? == FOLDER { Self::new(group, piece) } else { None }
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{FOLDER}/{}/{}", self.group, self.piece)
    }
}

/// The documents below a folder of files. Nothing of them is locked: whoever writes one has a name that nobody else has.
#[derive(Debug, Clone)]
pub(crate) struct DocumentFiles {
    root: PathBuf,
}

impl DocumentFiles {
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) async fn put(&self, name: &DocumentName, bytes: Bytes) -> Result<()> {
        let (files, written) = (self.clone(), name.clone());
        run(name, move || files.write(&written, &bytes)).await
    }

    pub(crate) async fn read(&self, name: &DocumentName) -> Result<Bytes> {
        let path = self.root.join(name.to_string());
        run(name, move || Ok(fs::read(path)?.into())).await
    }

    pub(crate) async fn list(&self) -> Result<Vec<(DocumentName, u64)>> {
        let files = self.clone();
        run_in(&self.root.join(FOLDER), move || files.found()).await
    }

    pub(crate) async fn delete(&self, name: &DocumentName) -> Result<()> {
        let path = self.root.join(name.to_string());
        run(name, move || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
            // The folder goes with the last of them: it is refused while there are others.
            if let Some(folder) = path.parent() {
                let _ = fs::remove_dir(folder);
            }
            Ok(())
        })
        .await
    }

    /// Nobody else may read it: there may be hashes of passwords in it.
    fn write(&self, name: &DocumentName, bytes: &[u8]) -> io::Result<()> {
        let all = self.root.join(FOLDER);
        let group = all.join(name.group());
        fs::create_dir_all(&group)?;
        write_whole(&group, name.piece(), bytes, 0o600)?;
        sync_folder(&all)?;
        sync_folder(&self.root)
    }

    fn found(&self) -> io::Result<Vec<(DocumentName, u64)>> {
        let mut found = Vec::new();
        for group in entries(&self.root.join(FOLDER))? {
            if !group.file_type()?.is_dir() {
                continue;
            }
            for piece in entries(&group.path())? {
                let (group, file) = (group.file_name(), piece.file_name());
                let name = group.to_str().zip(file.to_str()).and_then(|(group, file)| DocumentName::new(group, file));
                // What else lies there is not ours, or was deleted since.
                if let (Some(name), Ok(metadata)) = (name, piece.metadata())
                    && metadata.is_file()
                {
                    found.push((name, metadata.len()));
                }
            }
        }
        Ok(found)
    }
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        outcome => outcome?.collect(),
    }
}

/// Runs blocking work beside the event loop.
async fn run<T: Send + 'static>(
    name: &DocumentName,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let outcome = tokio::task::spawn_blocking(work).await.map_err(|_| Error::ShuttingDown)?;
    outcome.map_err(|source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull(source),
        io::ErrorKind::NotFound => Error::NoDocument { name: name.clone() },
        _ => Error::Document { name: name.clone(), reason: source.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_path() {
        let name = DocumentName::new("20261127T072520Z-3f9a21", "000007").unwrap();
        assert_eq!(name.to_string(), "backups/20261127T072520Z-3f9a21/000007");
        assert_eq!(DocumentName::of_path(&format!("ours/{name}")), Some(name));
        assert_eq!(DocumentName::of_path("objects/group/piece"), None);
        assert_eq!(DocumentName::of_path("group/piece"), None);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for (group, piece) in [("..", "x"), ("x", ".."), ("", "x"), ("x", ""), ("a/b", "x"), ("x", "a/b"), ("x", "a.b")]
        {
            assert_eq!(DocumentName::new(group, piece), None, "{group}/{piece}");
        }
    }
}
