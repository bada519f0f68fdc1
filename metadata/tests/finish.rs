//! The end of a small upload: one transaction from the session to the blob, or nothing.

use crate::content::{UPLOAD_LIFETIME, digest_of, new_upload, repository};
use crate::database::Database;
use longshore_metadata::{BlobContent, FinishOutcome, FinishUpload, SaveProgress, TailChange, UploadAddress, UploadId};
use longshore_oci::{Algorithm, Digest};

on_both_engines!(
    bytes_that_come_at_the_end_are_the_blob,
    bytes_that_came_before_are_in_front,
    no_bytes_are_a_blob_too,
    another_digest_leaves_the_session_as_it_was,
    bytes_of_another_place_leave_the_session_as_it_was,
    nobody_else_can_end_a_session,
    a_session_without_time_has_ended,
    a_session_ends_once,
    as_many_bytes_as_a_row_takes_and_no_more,
    bytes_in_an_object_are_claimed,
    an_object_that_was_never_saved_to_is_condemned,
    a_blob_that_is_here_already_is_granted,
    a_writer_that_has_claimed_comes_too_late,
);

const MOST: usize = 1000;

/// The end of a session, by bytes that come last and the whole that they should make.
pub(crate) fn finish(address: &UploadAddress, last: &str, whole: &str) -> FinishUpload {
    FinishUpload {
        address: address.clone(),
        digest: digest_of(whole),
        start: None,
        bytes: last.as_bytes().to_vec(),
        most: MOST,
        lifetime: UPLOAD_LIFETIME,
    }
}

async fn end(database: &Database, finish: FinishUpload) -> FinishOutcome {
    database.metadata.finish_upload(finish).await.unwrap()
}

/// A session that has these bytes in its row.
async fn staged(database: &Database, staged: &str) -> UploadAddress {
    let address = database.open_upload("app").await;
    save(database, &address, staged.len() as u64, staged).await;
    address
}

async fn save(database: &Database, address: &UploadAddress, received: u64, staged: &str) {
    let progress = SaveProgress {
        id: address.id,
        fence: database.claim(address).await,
        received,
        hash_state: b"the hash of nothing".to_vec(),
        staged: staged.as_bytes().to_vec(),
        multipart: None,
        next_part: None,
        tail: TailChange::Kept,
        lifetime: UPLOAD_LIFETIME,
    };
    assert!(database.metadata.save_progress(progress).await.unwrap());
}

async fn content(database: &Database, content: &str) -> Option<BlobContent> {
    let found = database.metadata.find_blob(&repository("app"), &digest_of(content)).await.unwrap();
    found.map(|blob| blob.content)
}

async fn assert_ended_as(database: &Database, whole: &str) {
    assert_eq!(content(database, whole).await, Some(BlobContent::Inline(whole.as_bytes().to_vec().into())));
    assert_eq!(database.inside.count("SELECT count(*) FROM uploads").await, 0);
}

async fn bytes_that_come_at_the_end_are_the_blob(database: Database) {
    let address = database.open_upload("app").await;
    assert_eq!(end(&database, finish(&address, "blob", "blob")).await, FinishOutcome::Committed);
    assert_ended_as(&database, "blob").await;
    let address = database.open_upload("app").await;
    let digest = Digest::of(Algorithm::Sha512, b"blob");
    assert_eq!(end(&database, FinishUpload { digest, ..finish(&address, "blob", "") }).await, FinishOutcome::Committed);
    assert!(database.metadata.find_blob(&repository("app"), &digest).await.unwrap().is_some());
}

async fn bytes_that_came_before_are_in_front(database: Database) {
    for last in ["", "def"] {
        let address = staged(&database, "abc").await;
        let whole = format!("abc{last}");
        let end_of_it = FinishUpload { start: Some(3), ..finish(&address, last, &whole) };
        assert_eq!(end(&database, end_of_it).await, FinishOutcome::Committed);
        assert_ended_as(&database, &whole).await;
    }
}

async fn no_bytes_are_a_blob_too(database: Database) {
    let address = database.open_upload("app").await;
    assert_eq!(end(&database, finish(&address, "", "")).await, FinishOutcome::Committed);
    assert_ended_as(&database, "").await;
}

async fn another_digest_leaves_the_session_as_it_was(database: Database) {
    let address = staged(&database, "abc").await;
    let before = database.metadata.find_upload(address.clone()).await.unwrap();
    let refused = end(&database, finish(&address, "def", "abcxyz")).await;
    assert_eq!(refused, FinishOutcome::DigestMismatch { computed: digest_of("abcdef") });
    assert_eq!(database.metadata.find_upload(address.clone()).await.unwrap(), before);
    assert_eq!(database.inside.count("SELECT count(*) FROM blobs").await, 0);
    assert_eq!(end(&database, finish(&address, "xyz", "abcxyz")).await, FinishOutcome::Committed);
}

async fn bytes_of_another_place_leave_the_session_as_it_was(database: Database) {
    let address = staged(&database, "abc").await;
    let before = database.metadata.find_upload(address.clone()).await.unwrap();
    for start in [0, 2, 4, u64::MAX] {
        let refused = end(&database, FinishUpload { start: Some(start), ..finish(&address, "def", "abcdef") }).await;
        assert_eq!(refused, FinishOutcome::OutOfOrder { received: 3 }, "{start}");
    }
    assert_eq!(database.metadata.find_upload(address).await.unwrap(), before);
}

async fn nobody_else_can_end_a_session(database: Database) {
    let id = database.metadata.begin_upload(new_upload("app", Some("alice"))).await.unwrap();
    let alices = UploadAddress { repository: repository("app"), id, principal: Some("alice".to_owned()) };
    for stranger in [
        UploadAddress { principal: Some("bob".to_owned()), ..alices.clone() },
        UploadAddress { principal: None, ..alices.clone() },
        UploadAddress { repository: repository("other"), ..alices.clone() },
        UploadAddress { id: UploadId::random(), ..alices.clone() },
    ] {
        assert_eq!(end(&database, finish(&stranger, "blob", "blob")).await, FinishOutcome::Unknown, "{stranger:?}");
    }
    assert_eq!(end(&database, finish(&alices, "blob", "blob")).await, FinishOutcome::Committed);
}

async fn a_session_without_time_has_ended(database: Database) {
    let address = database.open_upload("app").await;
    database.advance(UPLOAD_LIFETIME).await;
    assert_eq!(end(&database, finish(&address, "blob", "blob")).await, FinishOutcome::Unknown);
}

async fn a_session_ends_once(database: Database) {
    let address = database.open_upload("app").await;
    assert_eq!(end(&database, finish(&address, "blob", "blob")).await, FinishOutcome::Committed);
    assert_eq!(end(&database, finish(&address, "blob", "blob")).await, FinishOutcome::Unknown);
}

async fn as_many_bytes_as_a_row_takes_and_no_more(database: Database) {
    let last = "x".repeat(MOST - 3);
    let address = staged(&database, "abc").await;
    let FinishOutcome::Claimed(record) = end(&database, finish(&address, &format!("{last}x"), "")).await else {
        panic!("it took more than a row does")
    };
    assert_eq!((record.received, record.staged.as_slice(), record.object_key), (3, b"abc".as_slice(), None));
    let whole = format!("abc{last}");
    assert_eq!(end(&database, finish(&address, &last, &whole)).await, FinishOutcome::Committed);
    assert_ended_as(&database, &whole).await;
}

async fn bytes_in_an_object_are_claimed(database: Database) {
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    assert!(database.metadata.attach_object(address.id, fence, "objects/1", "files").await.unwrap());
    save(&database, &address, 1 << 30, "").await;
    let before = database.metadata.find_upload(address.clone()).await.unwrap().unwrap();
    let FinishOutcome::Claimed(claimed) = end(&database, finish(&address, "", "layer")).await else {
        panic!("the bytes are in an object")
    };
    assert_eq!(claimed.fence, before.fence + 1);
    assert_eq!(claimed.object_key.as_deref(), Some("objects/1"));
    assert_eq!((claimed.received, claimed.hash_state), (before.received, before.hash_state));
    // A claim gives the session its time again.
    database.advance(UPLOAD_LIFETIME - crate::database::TICK).await;
    assert!(database.metadata.find_upload(address).await.unwrap().is_some());
}

async fn an_object_that_was_never_saved_to_is_condemned(database: Database) {
    for before in ["", "abc"] {
        let address = staged(&database, before).await;
        let fence = database.claim(&address).await;
        let key = format!("objects/{}", before.len());
        assert!(database.metadata.attach_object(address.id, fence, &key, "files").await.unwrap());
        let whole = format!("{before}def");
        assert_eq!(end(&database, finish(&address, "def", &whole)).await, FinishOutcome::Committed);
        assert_ended_as(&database, &whole).await;
    }
    let condemned = database.inside.texts("SELECT key FROM tombstones ORDER BY key").await;
    assert_eq!(condemned, ["objects/0", "objects/3"]);
    assert_eq!(database.inside.count("SELECT count(*) FROM objects").await, 0);
}

async fn a_blob_that_is_here_already_is_granted(database: Database) {
    database.upload_blob("other", "objects/1", "blob").await;
    let address = database.open_upload("app").await;
    assert_eq!(end(&database, finish(&address, "blob", "blob")).await, FinishOutcome::Committed);
    assert_eq!(content(&database, "blob").await, Some(BlobContent::Object { key: "objects/1".into() }));
    assert_eq!(database.inside.count("SELECT count(*) FROM repository_blobs").await, 2);
}

async fn a_writer_that_has_claimed_comes_too_late(database: Database) {
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    assert_eq!(end(&database, finish(&address, "blob", "blob")).await, FinishOutcome::Committed);
    assert!(!database.metadata.extend_upload(address.id, fence, UPLOAD_LIFETIME).await.unwrap());
    assert!(!database.metadata.attach_object(address.id, fence, "objects/1", "files").await.unwrap());
    assert_eq!(database.metadata.claim_upload(address, UPLOAD_LIFETIME).await.unwrap(), None);
}
