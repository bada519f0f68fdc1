use super::*;
use crate::place::{Place, open_database, place};
use crate::{Finding, FsckOptions, fsck};
use bytes::Bytes;
use futures_util::stream;
use longshore_metadata::{Lifetimes, Metadata, SnapshotTable};
use longshore_oci::{Algorithm, Digest};
use longshore_storage::DocumentName;
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(3600);
const RELEASE: &str = "1.2.3";

impl Place {
    async fn fill(&self) {
        self.push_object("app", "layer").await;
        self.push_object("other", "layer").await;
        self.push_manifest("app", "manifest", &["layer"], &["latest"]).await;
    }

    /// A backup in memory.
    async fn back_up(&self) -> Vec<u8> {
        let mut whole = Vec::new();
        let mut has_ended = false;
        let backup = Backup::begin(&self.metadata, RELEASE).await.unwrap();
        let written = backup.write(async |piece: Piece| {
            assert!(!has_ended, "the end is the last piece");
            match piece {
                Piece::Body(bytes) => whole.extend_from_slice(&bytes),
                Piece::End(bytes) => {
                    has_ended = true;
                    whole.extend_from_slice(&bytes);
                }
            }
            Ok::<(), BackupError>(())
        });
        let size = written.await.unwrap().size;
        assert!(has_ended);
        assert_eq!(size, whole.len() as u64);
        whole
    }

    /// An empty database beside the one that is here.
    async fn new_database(&self, name: &str) -> Metadata {
        let metadata = open_database(&self.folder.path().join(name)).await;
        metadata.migrate().await.unwrap();
        metadata
    }
}

/// Restores what comes in pieces of this size.
async fn restore_in_pieces(metadata: &Metadata, backup: &[u8], size: usize) -> Result<Restored, BackupError> {
    let pieces: Vec<_> = backup.chunks(size.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    restore(metadata, stream::iter(pieces)).await
}

async fn restore_all(metadata: &Metadata, backup: &[u8]) -> Result<Restored, BackupError> {
    restore_in_pieces(metadata, backup, backup.len()).await
}

async fn is_empty(metadata: &Metadata) -> bool {
    // Dropped, so nothing comes of it.
    metadata.begin_restore().await.unwrap().is_some()
}

fn lines(backup: &[u8]) -> Vec<String> {
    String::from_utf8(backup.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

/// The end of a backup with these lines, whose hash is right.
fn sealed(lines: &[String]) -> Vec<u8> {
    let body: String = lines[..lines.len() - 1].iter().map(|line| format!("{line}\n")).collect();
    let hash = Digest::of(Algorithm::Sha256, body.as_bytes()).to_string();
    let (before, rest) = lines[lines.len() - 1].split_once("sha256:").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    format!("{body}{before}{hash}\"{after}\n").into_bytes()
}

#[tokio::test]
async fn a_backup_is_restored_however_it_comes() {
    let place = place(HOUR).await;
    place.fill().await;
    let backup = place.back_up().await;
    for (number, size) in [1, 7, 1000, usize::MAX].into_iter().enumerate() {
        let new = place.new_database(&format!("new-{number}.db")).await;
        let restored = restore_in_pieces(&new, &backup, size).await.unwrap();
        assert_eq!((restored.head.release.as_str(), restored.head.engine.as_str()), (RELEASE, "sqlite"));
        assert_eq!((restored.rows[&SnapshotTable::Repositories], restored.rows[&SnapshotTable::Blobs]), (2, 1));
        let found = new.find_tag(&"app".parse().unwrap(), &"latest".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(found.body.as_ref(), b"manifest");
        let again = restore_in_pieces(&new, &backup, size).await;
        assert!(matches!(again, Err(BackupError::NotEmpty)), "{again:?}");
    }
}

#[tokio::test]
async fn a_backup_of_an_empty_registry_is_one() {
    let place = place(HOUR).await;
    let backup = place.back_up().await;
    let new = place.new_database("new.db").await;
    let restored = restore_all(&new, &backup).await.unwrap();
    assert!(restored.rows.values().all(|count| *count == 0), "{:?}", restored.rows);
    assert_eq!(restored.rows.len(), SnapshotTable::ALL.len());
}

#[tokio::test]
async fn a_torn_backup_leaves_nothing() {
    let place = place(HOUR).await;
    place.fill().await;
    let backup = place.back_up().await;
    let new = place.new_database("new.db").await;
    for length in (1..backup.len()).step_by(97).chain([backup.len() - 1]) {
        let torn = restore_all(&new, &backup[..length]).await.unwrap_err();
        assert!(matches!(torn, BackupError::Torn { .. }), "{length} of {} bytes: {torn:?}", backup.len());
    }
    let whole = lines(&backup);
    for gone in 1..whole.len() {
        let mut without = whole.clone();
        without.remove(gone);
        let text = without.join("\n") + "\n";
        assert!(restore_all(&new, text.as_bytes()).await.is_err(), "without line {gone}");
        // Nor where somebody made a hash for it: its end has counted the rows.
        if gone < whole.len() - 1 && whole[gone].starts_with('[') {
            assert!(restore_all(&new, &sealed(&without)).await.is_err(), "without row {gone}");
        }
    }
    assert!(restore_all(&new, &[&backup[..], b"more\n"].concat()).await.is_err());
    assert!(is_empty(&new).await);
    restore_all(&new, &backup).await.unwrap();
}

#[tokio::test]
async fn a_byte_that_was_changed_is_found() {
    let place = place(HOUR).await;
    place.fill().await;
    let backup = place.back_up().await;
    let new = place.new_database("new.db").await;
    for position in (0..backup.len()).step_by(61) {
        let mut changed = backup.clone();
        changed[position] ^= 1;
        let outcome = restore_all(&new, &changed).await;
        assert!(outcome.is_err(), "byte {position} of {}: {outcome:?}", backup.len());
    }
    assert!(is_empty(&new).await);
}

#[tokio::test]
async fn what_another_release_wrote_is_refused() {
    let place = place(HOUR).await;
    place.fill().await;
    let whole = lines(&place.back_up().await);
    let new = place.new_database("new.db").await;
    let newest = new.newest_migration();
    for (ours, theirs) in [
        ("\"format\":1".to_owned(), "\"format\":2".to_owned()),
        (format!("\"schema\":{newest}"), format!("\"schema\":{}", newest + 1)),
    ] {
        let mut foreign = whole.clone();
        assert!(foreign[0].contains(&ours), "{}", foreign[0]);
        foreign[0] = foreign[0].replace(&ours, &theirs);
        let refused = restore_all(&new, &sealed(&foreign)).await.unwrap_err();
        assert!(refused.to_string().contains(RELEASE), "it says with what to restore it: {refused}");
    }
    for other in ["", "\n", "{}\n", "PGDMP\n", "{\"longshore\":\"config\"}\n"] {
        let refused = restore_all(&new, other.as_bytes()).await.unwrap_err();
        assert!(matches!(refused, BackupError::NotABackup), "{other:?}: {refused:?}");
    }
    assert!(is_empty(&new).await);
}

#[tokio::test]
async fn a_backup_in_the_store_is_found_there_and_is_no_stray() {
    let place = place(HOUR).await;
    place.fill().await;
    let (name, written) = store_backup(&place.metadata, &place.storage, RELEASE).await.unwrap();
    let stored = stored_backups(&place.storage).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].name.as_str(), stored[0].size, stored[0].is_complete), (name.as_str(), written.size, true));
    let mut found = Vec::new();
    let look = FsckOptions { repair: false, all: false, older_than: Duration::ZERO };
    fsck(&place.metadata, &place.storage, look, |finding| found.push(finding.clone())).await.unwrap();
    assert_eq!(found, []);
    let new = place.new_database("new.db").await;
    let restored = restore(&new, Box::pin(read_backup(&place.storage, &stored[0]))).await.unwrap();
    assert_eq!((restored.rows, restored.head), (written.rows, written.head));
}

#[tokio::test]
async fn a_backup_without_its_end_is_none() {
    let place = place(HOUR).await;
    place.fill().await;
    let (name, _) = store_backup(&place.metadata, &place.storage, RELEASE).await.unwrap();
    let end = DocumentName::new(&name, "end-000001").unwrap();
    place.storage.delete_document(&end).await.unwrap();
    let stored = stored_backups(&place.storage).await.unwrap();
    assert!(!stored[0].is_complete);
    let new = place.new_database("new.db").await;
    let torn = restore(&new, Box::pin(read_backup(&place.storage, &stored[0]))).await.unwrap_err();
    assert!(matches!(torn, BackupError::Torn { .. }), "{torn:?}");
    // One whose first piece is gone is not whole either.
    place.storage.put_document(&end, "{}".into()).await.unwrap();
    place.storage.delete_document(&DocumentName::new(&name, "000000").unwrap()).await.unwrap();
    assert!(!stored_backups(&place.storage).await.unwrap()[0].is_complete);
}

#[tokio::test]
async fn the_newest_backups_are_kept() {
    let place = place(HOUR).await;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let put = async |name: &str, pieces: &[&str]| {
        for piece in pieces {
            let document = DocumentName::new(name, piece).unwrap();
            place.storage.put_document(&document, "piece".into()).await.unwrap();
        }
    };
    // Now it is 20270115T080000Z.
    put("20270101T000000Z-00000a", &["000000", "end-000001"]).await;
    put("20270102T000000Z-00000b", &["000000", "000001"]).await;
    put("20270103T000000Z-00000c", &["000000", "000001", "end-000002"]).await;
    put("20270104T000000Z-00000d", &["000000", "end-000001"]).await;
    put("20270115T070000Z-00000e", &["000000"]).await;
    let names = async || -> Vec<String> {
        stored_backups(&place.storage).await.unwrap().into_iter().map(|backup| backup.name).collect()
    };
    let deleted = keep_backups(&place.storage, 2, now).await.unwrap();
    assert_eq!(deleted, ["20270101T000000Z-00000a", "20270102T000000Z-00000b"], "one too many, and one abandoned");
    let kept = ["20270103T000000Z-00000c", "20270104T000000Z-00000d", "20270115T070000Z-00000e"];
    assert_eq!(names().await, kept, "the last of them may be under way");
    assert_eq!(keep_backups(&place.storage, 2, now).await.unwrap(), [] as [String; 0]);
}

/// What was deleted and collected after a backup is there again after a restore, as long as condemned objects wait.
#[tokio::test]
async fn a_restore_finds_the_bytes_of_what_was_collected_since() {
    let place = place(HOUR).await;
    let lifetimes = Lifetimes {
        promise: Duration::from_micros(1),
        review_delay: Duration::ZERO,
        object_delay: HOUR,
        undo: Duration::ZERO,
    };
    place.metadata.set_lifetimes(lifetimes).await.unwrap();
    place.push_object("app", "layer").await;
    let manifest = place.push_manifest("app", "manifest", &["layer"], &["latest"]).await;
    let (name, _) = store_backup(&place.metadata, &place.storage, RELEASE).await.unwrap();

    place.metadata.delete_manifest(&"app".parse().unwrap(), &manifest, None).await.unwrap();
    for _ in 0..3 {
        place.pass().await;
    }
    assert_eq!(place.metadata.waiting_bytes().await.unwrap().count, 1, "the layer is condemned");
    place.push_object("app", "pushed after the backup").await;

    let new = place.new_database("new.db").await;
    new.set_lifetimes(Lifetimes { promise: HOUR, ..lifetimes }).await.unwrap();
    let stored = stored_backups(&place.storage).await.unwrap();
    assert_eq!(stored[0].name, name);
    restore(&new, Box::pin(read_backup(&place.storage, &stored[0]))).await.unwrap();
    let mut found = Vec::new();
    let look = FsckOptions { repair: false, all: false, older_than: Duration::ZERO };
    fsck(&new, &place.storage, look, |finding| found.push(finding.clone())).await.unwrap();
    assert!(matches!(found.as_slice(), [Finding::Stray { .. }]), "nothing but what came after it: {found:?}");
    assert!(new.begin_collection().await.unwrap().waits_until.is_some());
}

#[tokio::test]
async fn the_newest_backup_is_the_last_that_is_whole() {
    let place = place(HOUR).await;
    place.fill().await;
    assert_eq!(newest_backup(&place.storage).await.unwrap(), None);
    store_backup(&place.metadata, &place.storage, RELEASE).await.unwrap();
    let (_, second) = store_backup(&place.metadata, &place.storage, RELEASE).await.unwrap();
    // One that is being written, or never was, is none.
    let later = DocumentName::new("99991231T235959999Z-abcdef", "000000").unwrap();
    place.storage.put_document(&later, Bytes::from_static(b"{}")).await.unwrap();
    let newest = newest_backup(&place.storage).await.unwrap().unwrap();
    let behind = second.head.at.duration_since(newest).unwrap();
    assert!(behind < Duration::from_millis(1), "{newest:?} is not {:?}", second.head.at);
}
