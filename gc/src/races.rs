//! Races that bytes take part in (docs/races.md, by its numbers). Those that the database decides alone are in its tests.

use crate::place::{Place, open, place_on};
use futures_util::TryStreamExt;
use longshore_metadata::{DeleteOutcome, Deleted};
use longshore_oci::Digest;
use longshore_storage::{Delivery, Error as StorageError, ObjectKey, ObjectStream};
use longshore_tests::{backends::Backend, minio::Minio, on_all, on_both, raw};
use std::{fmt::Write, time::Duration};

on_both!(
    race_12_bytes_that_a_collector_had_claimed_when_it_died_are_deleted_by_the_next,
    race_21_a_database_from_before_a_collection_finds_its_bytes_while_they_wait,
);

on_all!(
    race_17_a_download_outlasts_the_delete_of_its_blob,
    race_17_a_download_whose_bytes_go_under_it_ends_whole_or_with_an_error,
);

const HOUR: Duration = Duration::from_secs(3600);

/// Several times what is read ahead of a client that takes one piece.
const LARGE: usize = 40 * 1024 * 1024;

/// Fails where a key is forgotten before its bytes are gone, what another replica has claimed is taken from it, or what a
/// dead one had claimed is nobody's for ever.
async fn race_12_bytes_that_a_collector_had_claimed_when_it_died_are_deleted_by_the_next(backend: Backend) {
    let place = place_on(backend, Duration::ZERO).await;
    let (address, key) = place.upload(HOUR).await;
    assert!(place.metadata.cancel_upload(address).await.unwrap());
    // It dies between the claim and the delete.
    let dying = place.another_process().await;
    assert_eq!(dying.claim_tombstones(10, HOUR).await.unwrap().len(), 1);
    assert_eq!(place.pass().await.objects, Deleted::default(), "it is another one's");
    assert!(place.is_there(&key).await);
    // What the time does that the claim holds for.
    place.execute("UPDATE tombstones SET claimed_until = 1").await;
    assert_eq!(place.pass().await.objects, Deleted { count: 1, bytes: 0 });
    assert!(!place.is_there(&key).await);
    assert!(place.metadata.claim_tombstones(10, Duration::ZERO).await.unwrap().is_empty());
}

/// A blob whose download has begun: the client has taken one piece.
struct Download {
    content: String,
    digest: Digest,
    key: ObjectKey,
    taken: Vec<u8>,
    stream: ObjectStream,
}

impl Download {
    async fn begin(place: &Place) -> Self {
        let mut content = String::new();
        for line in 0..LARGE / 64 {
            writeln!(content, "{line:063}").unwrap();
        }
        let digest = place.push_object("app", &content).await;
        let key = place.key_of("app", &digest).await;
        let object = place.storage.open_object(&key, LARGE as u64, &digest).await.unwrap();
        let mut stream = object.range(0..LARGE as u64, Delivery::Copied);
        let taken = stream.try_next().await.unwrap().unwrap().to_vec();
        Self { content, digest, key, taken, stream }
    }

    /// The client that deletes the blob, and a pass of the collector after him.
    async fn delete_blob(&self, place: &Place) -> Deleted {
        let deleted = place.metadata.delete_blob(&"app".parse().unwrap(), &self.digest).await.unwrap();
        assert_eq!(deleted, DeleteOutcome::Deleted);
        let collected = place.pass().await;
        assert_eq!(collected.blobs, Deleted { count: 1, bytes: LARGE as u64 });
        collected.objects
    }

    /// Takes all that comes; answers how it ends. Whatever has come is right.
    async fn end(mut self) -> Result<(), StorageError> {
        let outcome = loop {
            match self.stream.try_next().await {
                Ok(Some(piece)) => self.taken.extend_from_slice(&piece),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        assert!(self.content.as_bytes().starts_with(&self.taken), "the bytes are others");
        assert!(outcome.is_err() || self.taken.len() == LARGE, "it ended early, and as if it were whole");
        outcome
    }
}

/// What a signed URL of the object answers to who asks for its first bytes.
fn first_bytes(url: &str) -> String {
    let address = Minio::shared().address();
    let path = url.strip_prefix(&format!("http://{address}")).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nrange: bytes=0-63\r\nconnection: close\r\n\r\n");
    let answer = raw::exchange(address, head);
    assert_eq!(raw::status_of(&answer), 206, "{answer}");
    answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Fails where bytes go with their row, whatever the delay is: from under a download, or a signed URL.
async fn race_17_a_download_outlasts_the_delete_of_its_blob(backend: Backend) {
    let place = place_on(backend, HOUR).await;
    place.promise_nothing_but_bytes(HOUR).await;
    let download = Download::begin(&place).await;
    let url = place.storage.presign(&download.key, HOUR).await.unwrap();
    assert_eq!(url.is_some(), backend == Backend::S3);
    assert_eq!(download.delete_blob(&place).await, Deleted::default());
    assert!(place.metadata.find_blob(&"app".parse().unwrap(), &download.digest).await.unwrap().is_none());
    if let Some(url) = url {
        assert_eq!(first_bytes(url.expose()), download.content[..64]);
    }
    download.end().await.unwrap();
}

/// The delay was too short. Fails where a download ends as if it were whole, or goes on with other bytes. An open file
/// outlives its name; an object store says at the next request that there is no such object.
async fn race_17_a_download_whose_bytes_go_under_it_ends_whole_or_with_an_error(backend: Backend) {
    let place = place_on(backend, Duration::ZERO).await;
    place.promise_nothing().await;
    let download = Download::begin(&place).await;
    assert_eq!(download.delete_blob(&place).await, Deleted { count: 1, bytes: LARGE as u64 });
    assert!(!place.is_there(&download.key).await);
    match download.end().await {
        Ok(()) => assert_ne!(backend, Backend::S3, "it was read from somewhere else"),
        Err(StorageError::Lost { .. }) => assert_eq!(backend, Backend::S3),
        Err(error) => panic!("{error}"),
    }
}

/// Fails where a collection deletes bytes in the same pass as their row, whatever the delay is.
async fn race_21_a_database_from_before_a_collection_finds_its_bytes_while_they_wait(backend: Backend) {
    let mut place = place_on(backend, HOUR).await;
    place.promise_nothing_but_bytes(HOUR).await;
    let digest = place.push_object("app", "layer").await;
    let backup = place.copy_database().await;
    let collected = place.pass().await;
    assert_eq!((collected.grants.count, collected.blobs.count, collected.objects.count), (1, 1, 0));

    place.metadata.close().await;
    place.metadata = open(&backup).await;
    let key = place.key_of("app", &digest).await;
    assert!(place.is_there(&key).await);
}
