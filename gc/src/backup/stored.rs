//! Backups in the store of the objects: documents, a piece each. The last is written last and deleted first, so a backup
//! that has it is whole.

use super::{
    BackupError,
    write::{BackedUp, Backup, Piece},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use longshore_metadata::Metadata;
use longshore_storage::{DocumentName, Storage};
use std::time::{Duration, SystemTime};

/// A backup without its end may be one that is being written; after so long it is not.
const LONGEST_WRITE: Duration = Duration::from_secs(24 * 3600);

/// A backup in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBackup {
    /// Its name: when it was taken, and something that no other has.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Whether all of it is there.
    pub is_complete: bool,
    pieces: Vec<DocumentName>,
}

/// Writes a backup into the store; answers its name and what it holds.
///
/// # Errors
/// As those of [`Backup::write`]. What was written of it by then is deleted, where it can be.
pub async fn store_backup(
    metadata: &Metadata,
    storage: &Storage,
    release: &str,
) -> Result<(String, BackedUp), BackupError> {
    let backup = Backup::begin(metadata, release).await?;
    let random = uuid::Uuid::new_v4().simple().to_string();
    let name = format!("{}-{}", moment(backup.head().at), &random[..6]);
    let mut written = Vec::new();
    let outcome = backup
        .write(async |piece: Piece| {
            let (piece, bytes) = match piece {
                Piece::Body(bytes) => (body(written.len()), bytes),
                Piece::End(bytes) => (end(written.len()), bytes),
            };
            let document = document(&name, &piece);
            written.push(document.clone());
            storage.put_document(&document, bytes).await?;
            Ok::<(), BackupError>(())
        })
        .await;
    match outcome {
        Ok(backed_up) => Ok((name, backed_up)),
        Err(error) => {
            for document in written.iter().rev() {
                // It is no backup, whatever is left of it.
                let _ = storage.delete_document(document).await;
            }
            Err(error)
        }
    }
}

/// The backups in the store, the oldest first.
pub async fn stored_backups(storage: &Storage) -> Result<Vec<StoredBackup>, BackupError> {
    let mut all: Vec<StoredBackup> = Vec::new();
    for (document, size) in storage.documents().await? {
        match all.last_mut().filter(|backup| backup.name == document.group()) {
            Some(backup) => {
                backup.size += size;
                backup.pieces.push(document);
            }
            None => {
                let name = document.group().to_owned();
                all.push(StoredBackup { name, size, is_complete: false, pieces: vec![document] });
            }
        }
    }
    for backup in &mut all {
        backup.is_complete = has_all(&backup.pieces);
    }
    Ok(all)
}

/// When the newest backup in the store was taken, of those that are whole.
pub async fn newest_backup(storage: &Storage) -> Result<Option<SystemTime>, BackupError> {
    let all = stored_backups(storage).await?;
    Ok(all.iter().rev().filter(|backup| backup.is_complete).find_map(|backup| taken_at(&backup.name)))
}

/// All of a backup in the store.
pub fn read_backup<'a>(
    storage: &'a Storage,
    backup: &'a StoredBackup,
) -> impl Stream<Item = Result<Bytes, BackupError>> + 'a {
    let read = move |document| async move { storage.read_document(document).await.map_err(BackupError::from) };
    stream::iter(&backup.pieces).then(read)
}

/// Deletes all but the newest few, and what was left of those that never were whole; answers their names.
pub async fn keep_backups(storage: &Storage, keep: usize, now: SystemTime) -> Result<Vec<String>, BackupError> {
    let all = stored_backups(storage).await?;
    let complete = all.iter().filter(|backup| backup.is_complete).count();
    let mut too_many = complete.saturating_sub(keep);
    let abandoned = now.checked_sub(LONGEST_WRITE).map(moment).unwrap_or_default();
    let mut deleted = Vec::new();
    for backup in all {
        if backup.is_complete && too_many > 0 {
            too_many -= 1;
        } else if backup.is_complete || backup.name >= abandoned {
            continue;
        }
        for document in backup.pieces.iter().rev() {
            storage.delete_document(document).await?;
        }
        deleted.push(backup.name);
    }
    Ok(deleted)
}

/// A time as names begin with it: in their order, and of letters and digits.
fn moment(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string().replace(['-', ':', '.'], "")
}

/// The time that a name begins with.
fn taken_at(name: &str) -> Option<SystemTime> {
    let part = |range| name.get(range);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second, millis) = (part(9..11)?, part(11..13)?, part(13..15)?, part(15..18)?);
    humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}.{millis}Z")).ok()
}

fn body(number: usize) -> String {
    format!("{number:06}")
}

/// The last piece says how many there are before it.
fn end(number: usize) -> String {
    format!("end-{number:06}")
}

fn document(name: &str, piece: &str) -> DocumentName {
    DocumentName::new(name, piece).expect("the names of backups are of letters, digits and hyphens")
}

/// Whether these, in the order of their names, are all pieces of a backup.
fn has_all(pieces: &[DocumentName]) -> bool {
    let last = pieces.len().saturating_sub(1);
    let is_right = |(number, piece): (usize, &DocumentName)| {
        piece.piece() == if number == last { end(number) } else { body(number) }
    };
    pieces.iter().enumerate().all(is_right)
}
