//! Races that bytes take part in (docs/races.md, by its numbers). Those that the database decides alone are in its tests.

use crate::place::{DATABASE, open_database, place};
use longshore_metadata::{BlobContent, Deleted, Lifetimes};
use longshore_storage::ObjectKey;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Copies a database that nobody has open, with its log if that was left.
fn copy(from: &Path, to: &Path) {
    for log in ["", "-wal"] {
        let [from, to] = [from, to].map(|file| PathBuf::from(format!("{}{log}", file.display())));
        if from.exists() {
            fs::copy(&from, &to).unwrap();
        } else if to.exists() {
            fs::remove_file(&to).unwrap();
        }
    }
}

/// Fails where a key is forgotten before its bytes are gone, or what a dead replica had claimed is nobody's for ever.
#[tokio::test]
async fn race_12_bytes_that_a_collector_had_claimed_when_it_died_are_deleted_by_the_next() {
    let place = place(Duration::ZERO).await;
    let (address, key) = place.upload(HOUR).await;
    assert!(place.metadata.cancel_upload(address).await.unwrap());
    // It dies between the claim, which holds for no time, and the delete.
    assert_eq!(place.metadata.claim_tombstones(10, Duration::ZERO).await.unwrap().len(), 1);
    assert!(place.is_there(&key).await);
    assert_eq!(place.pass().await.objects, Deleted { count: 1, bytes: 0 });
    assert!(!place.is_there(&key).await);
    assert!(place.metadata.claim_tombstones(10, Duration::ZERO).await.unwrap().is_empty());
}

/// Fails where a collection deletes bytes in the same pass as their row, whatever the delay is.
#[tokio::test]
async fn race_21_a_database_from_before_a_collection_finds_its_bytes_while_they_wait() {
    let mut place = place(HOUR).await;
    let (promise, none) = (Duration::from_micros(1), Duration::ZERO);
    let lifetimes = Lifetimes { promise, review_delay: none, object_delay: HOUR, undo: none };
    place.metadata.set_lifetimes(lifetimes).await.unwrap();
    let digest = place.push_object("app", "layer").await;
    let (file, backup) = (place.folder.path().join(DATABASE), place.folder.path().join("backup.db"));
    place.metadata.close().await;
    copy(&file, &backup);
    place.metadata = open_database(&file).await;
    let collected = place.pass().await;
    assert_eq!((collected.grants.count, collected.blobs.count, collected.objects.count), (1, 1, 0));

    place.metadata.close().await;
    copy(&backup, &file);
    place.metadata = open_database(&file).await;
    let found = place.metadata.find_blob(&"app".parse().unwrap(), &digest).await.unwrap().unwrap();
    let BlobContent::Object { key } = found.content else { panic!("its bytes are in its row") };
    let key: ObjectKey = key.parse().unwrap();
    assert!(place.is_there(&key).await);
}
