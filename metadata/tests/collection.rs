//! What garbage collection takes and gives back: expired sessions, condemned keys.

use crate::content::{UPLOAD_LIFETIME, repository};
use crate::database::{Database, PROMISE, REVIEW_DELAY, TICK};
use crate::garbage::NO_BREAKER;
use crate::orders::{begin_blocked, hold, without_waiting};
use longshore_metadata::{BlobContent, DeleteOutcome, Deleted, ExpiredUploads, GarbageOutcome, Lifetimes, Tombstone};
use std::time::Duration;

on_both_engines!(
    a_session_that_still_has_time_is_left_alone,
    an_expired_session_ends_and_its_object_is_condemned,
    expired_sessions_end_in_the_order_of_their_time_and_no_more_than_asked_for,
    a_claimed_key_is_nobody_elses_until_the_hold_ends,
    a_dropped_tombstone_does_not_come_back,
    keys_are_claimed_no_more_than_asked_for,
    a_key_is_not_claimed_before_its_time,
    the_bytes_of_a_condemned_object_stay_for_a_while,
);

const HOLD: Duration = Duration::from_secs(300);

async fn expire(database: &Database, limit: u32) -> u64 {
    let ExpiredUploads { sessions } = database.metadata.expire_uploads(limit).await.unwrap();
    sessions
}

async fn claim(database: &Database, limit: u32) -> Vec<String> {
    let claimed = database.metadata.claim_tombstones(limit, HOLD).await.unwrap();
    claimed.into_iter().map(|tombstone| tombstone.key).collect()
}

/// Condemns objects of these keys: their sessions are cancelled.
async fn condemn(database: &Database, keys: &[&str]) {
    for key in keys {
        let address = database.open_upload("app").await;
        let fence = database.claim(&address).await;
        assert!(database.metadata.attach_object(address.id, fence, key, "files").await.unwrap());
        assert!(database.metadata.cancel_upload(address).await.unwrap());
    }
}

async fn a_session_that_still_has_time_is_left_alone(database: Database) {
    let address = database.open_upload("app").await;
    database.advance(UPLOAD_LIFETIME - TICK).await;
    assert_eq!(expire(&database, 10).await, 0);
    assert!(database.metadata.find_upload(address).await.unwrap().is_some());
}

async fn an_expired_session_ends_and_its_object_is_condemned(database: Database) {
    let commit = database.attached_upload("app", "objects/1", "a layer").await;
    let without_object = database.open_upload("app").await;
    database.advance(UPLOAD_LIFETIME).await;
    assert_eq!(database.metadata.find_upload(without_object.clone()).await.unwrap(), None, "not collected yet");
    assert_eq!(database.metadata.claim_upload(without_object, UPLOAD_LIFETIME).await.unwrap(), None);
    assert_eq!(expire(&database, 10).await, 2);
    assert_eq!(expire(&database, 10).await, 0);
    assert_eq!(database.inside.count("SELECT count(*) FROM objects").await, 0);
    assert_eq!(claim(&database, 10).await, ["objects/1"]);
    let outcome = database.metadata.commit_upload(commit).await.unwrap();
    assert_eq!(outcome, longshore_metadata::CommitOutcome::SessionLost);
}

async fn expired_sessions_end_in_the_order_of_their_time_and_no_more_than_asked_for(database: Database) {
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(database.open_upload("app").await);
        database.advance(TICK).await;
    }
    database.advance(UPLOAD_LIFETIME).await;
    assert_eq!(expire(&database, 2).await, 2);
    let left = database.inside.texts("SELECT id FROM uploads ORDER BY expires_at").await;
    let expected: Vec<String> = sessions[2..].iter().map(|address| address.id.to_string()).collect();
    assert_eq!(left, expected);
    assert_eq!(expire(&database, 2).await, 2);
    assert_eq!(expire(&database, 2).await, 1);
}

async fn a_claimed_key_is_nobody_elses_until_the_hold_ends(database: Database) {
    condemn(&database, &["objects/1"]).await;
    assert_eq!(claim(&database, 10).await, ["objects/1"]);
    assert_eq!(claim(&database, 10).await, Vec::<String>::new());
    database.advance(HOLD - TICK).await;
    assert_eq!(claim(&database, 10).await, Vec::<String>::new());
    database.advance(TICK).await;
    assert_eq!(claim(&database, 10).await, ["objects/1"]);
    assert_eq!(database.inside.number("SELECT attempts FROM tombstones", &[]).await, Some(2));
}

/// Another collector is in the middle of its claim, and dies there. Fails where a collector waits for another one, takes what
/// that one is taking, or leaves for ever what it had begun to take.
#[tokio::test]
async fn race_12_a_key_that_another_collector_is_claiming_is_passed_over() {
    let database = Database::postgres().await;
    condemn(&database, &["objects/1", "objects/2"]).await;
    // What `claim_tombstones` does.
    let claiming = "UPDATE tombstones SET claimed_until = (SELECT now + 1 FROM clock) WHERE key = 'objects/1'";
    let other = hold(&database, claiming).await;
    let metadata = database.metadata.clone();
    let claimed = without_waiting(&database, async move { metadata.claim_tombstones(10, HOLD).await }).await.unwrap();
    let claimed: Vec<String> = claimed.into_iter().map(|tombstone| tombstone.key).collect();
    assert_eq!(claimed, ["objects/2"]);
    other.rollback().await.unwrap();
    assert_eq!(claim(&database, 10).await, ["objects/1"]);
}

async fn a_dropped_tombstone_does_not_come_back(database: Database) {
    condemn(&database, &["objects/1", "objects/2"]).await;
    database.metadata.drop_tombstones(vec!["objects/1".to_owned()]).await.unwrap();
    database.metadata.drop_tombstones(vec!["objects/1".to_owned()]).await.unwrap();
    assert_eq!(claim(&database, 10).await, ["objects/2"]);
}

async fn keys_are_claimed_no_more_than_asked_for(database: Database) {
    let keys = ["objects/1", "objects/2", "objects/3"];
    condemn(&database, &keys).await;
    let mut claimed = claim(&database, 2).await;
    assert_eq!(claimed.len(), 2);
    claimed.extend(claim(&database, 2).await);
    claimed.sort_unstable();
    assert_eq!(claimed, keys);
    assert_eq!(claim(&database, 2).await, Vec::<String>::new());
}

async fn a_key_is_not_claimed_before_its_time(database: Database) {
    condemn(&database, &["objects/1"]).await;
    database.inside.execute("UPDATE tombstones SET not_before = not_before + 1, size = 7", &[]).await.unwrap();
    assert_eq!(claim(&database, 10).await, Vec::<String>::new());
    database.advance(TICK).await;
    let claimed = database.metadata.claim_tombstones(10, HOLD).await.unwrap();
    assert_eq!(claimed, [Tombstone { key: "objects/1".to_owned(), size: 7, multipart: None }]);
}

/// Bytes stay for so long after their row.
async fn delay_objects(database: &Database, object_delay: Duration) {
    let lifetimes = Lifetimes { promise: PROMISE, review_delay: REVIEW_DELAY, object_delay, undo: Duration::ZERO };
    database.metadata.set_lifetimes(lifetimes).await.unwrap();
}

async fn the_bytes_of_a_condemned_object_stay_for_a_while(database: Database) {
    let object_delay = Duration::from_secs(3600);
    delay_objects(&database, object_delay).await;
    condemn(&database, &["objects/1"]).await;
    database.advance(object_delay - TICK).await;
    assert!(claim(&database, 10).await.is_empty());
    database.advance(TICK).await;
    assert_eq!(claim(&database, 10).await, ["objects/1"]);
}

/// The client that deletes the last hold is not committed when a download asks where the bytes are. Fails where the download
/// waits for it, or the bytes may go before the delay, which no download outlasts, has passed since the row went.
#[tokio::test]
async fn race_17_a_download_that_begins_while_its_blob_goes_has_its_bytes_for_a_while() {
    let database = Database::postgres().await;
    let object_delay = Duration::from_secs(3600);
    delay_objects(&database, object_delay).await;
    let digest = database.upload_blob("app", "objects/1", "layer").await;
    database.metadata.mount_blob(&repository("other"), &repository("app"), &digest).await.unwrap();
    database.metadata.delete_blob(&repository("other"), &digest).await.unwrap();
    let gate = hold(&database, "SELECT FROM gc_queue WHERE kind = 3 FOR UPDATE").await;
    let metadata = database.metadata.clone();
    let deleting = async move { metadata.delete_blob(&repository("app"), &digest).await };
    let deleting = begin_blocked(&database, deleting).await;
    let metadata = database.metadata.clone();
    let asking = async move { metadata.find_blob(&repository("app"), &digest).await };
    let found = without_waiting(&database, asking).await.unwrap().unwrap();
    assert_eq!(found.content, BlobContent::Object { key: "objects/1".into() });
    gate.commit().await.unwrap();
    assert_eq!(deleting.await.unwrap().unwrap(), DeleteOutcome::Deleted);

    database.advance(REVIEW_DELAY).await;
    let deleted = GarbageOutcome::Deleted(Deleted { count: 1, bytes: 5 });
    assert_eq!(database.collect_blobs(NO_BREAKER).await, deleted);
    database.advance(object_delay - TICK).await;
    assert_eq!(claim(&database, 10).await, Vec::<String>::new());
    database.advance(TICK).await;
    assert_eq!(claim(&database, 10).await, ["objects/1"]);
}
