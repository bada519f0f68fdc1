//! The races of upload sessions (docs/races.md, by its numbers), on PostgreSQL: one side stands still in the middle of its
//! transaction, at a row that the test holds, while the other one comes.

use crate::content::{UPLOAD_LIFETIME, digest_of, repository};
use crate::database::Database;
use crate::orders::{begin_blocked, hold, without_waiting};
use longshore_metadata::{BlobContent, CommitOutcome, CommitUpload, Result, SaveProgress, TailChange, UploadAddress};
use tokio::task::JoinHandle;

/// Where the end of a session stands still, before its blob is there; and whoever ends an expired one, after it has gone.
const OBJECT: &str = "SELECT FROM objects FOR UPDATE";

async fn commit_blocked(database: &Database, commit: CommitUpload) -> JoinHandle<Result<CommitOutcome>> {
    let metadata = database.metadata.clone();
    begin_blocked(database, async move { metadata.commit_upload(commit).await }).await
}

/// Fails where the session's end does not see that the session has gone: its object is condemned by then.
#[tokio::test]
async fn race_11_a_session_that_expires_first_is_not_committed() {
    let database = Database::postgres().await;
    let commit = database.attached_upload("app", "objects/1", "layer").await;
    database.advance(UPLOAD_LIFETIME).await;
    let gate = hold(&database, OBJECT).await;
    let metadata = database.metadata.clone();
    let expiring = begin_blocked(&database, async move { metadata.expire_uploads(10).await }).await;
    let committing = commit_blocked(&database, commit).await;
    gate.commit().await.unwrap();
    assert_eq!(expiring.await.unwrap().unwrap().sessions, 1);
    assert_eq!(committing.await.unwrap().unwrap(), CommitOutcome::SessionLost);
    assert_eq!(database.inside.count("SELECT count(*) FROM blobs").await, 0);
    assert_eq!(database.inside.count("SELECT count(*) FROM objects").await, 0);
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/1"]);
}

/// Fails where the collector waits for a session that is ending, or condemns what became a blob.
#[tokio::test]
async fn race_11_a_session_that_is_being_committed_does_not_expire() {
    let database = Database::postgres().await;
    let commit = database.attached_upload("app", "objects/1", "layer").await;
    database.advance(UPLOAD_LIFETIME).await;
    let gate = hold(&database, OBJECT).await;
    let committing = commit_blocked(&database, commit).await;
    let metadata = database.metadata.clone();
    let expired = without_waiting(&database, async move { metadata.expire_uploads(10).await }).await.unwrap();
    assert_eq!(expired.sessions, 0);
    gate.commit().await.unwrap();
    assert_eq!(committing.await.unwrap().unwrap(), CommitOutcome::Committed);
    assert_eq!(database.metadata.expire_uploads(10).await.unwrap().sessions, 0);
    assert_eq!(database.inside.count("SELECT count(*) FROM tombstones").await, 0);
}

/// Fails where the second one is refused, keeps an object that no blob names, or takes away that of the first one.
#[tokio::test]
async fn race_19_the_second_of_two_uploads_of_a_digest_waits_for_the_first_and_shares_its_object() {
    let database = Database::postgres().await;
    let first = database.attached_upload("one", "objects/1", "layer").await;
    let second = database.attached_upload("two", "objects/2", "layer").await;
    let gate = hold(&database, "SELECT FROM repositories WHERE name = 'one' FOR UPDATE").await;
    let first = commit_blocked(&database, first).await;
    let second = commit_blocked(&database, second).await;
    gate.commit().await.unwrap();
    for committing in [first, second] {
        assert_eq!(committing.await.unwrap().unwrap(), CommitOutcome::Committed);
    }
    for name in ["one", "two"] {
        let found = database.metadata.find_blob(&repository(name), &digest_of("layer")).await.unwrap().unwrap();
        assert_eq!(found.content, BlobContent::Object { key: "objects/1".into() }, "{name}");
    }
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/2"]);
}

/// The digest was compared, and the session is about to be a blob. Fails where a writer can save to it, or take it, still.
#[tokio::test]
async fn race_20_bytes_that_come_while_their_session_ends_are_refused() {
    let database = Database::postgres().await;
    let commit = database.attached_upload("app", "objects/1", "layer").await;
    let address = UploadAddress { repository: repository("app"), id: commit.id, principal: None };
    let late = SaveProgress {
        id: commit.id,
        fence: commit.fence,
        received: 9,
        hash_state: b"the hash of a layer and more".to_vec(),
        staged: Vec::new(),
        multipart: None,
        next_part: None,
        tail: TailChange::Kept,
        lifetime: UPLOAD_LIFETIME,
    };
    let gate = hold(&database, OBJECT).await;
    let committing = commit_blocked(&database, commit).await;
    let metadata = database.metadata.clone();
    let saving = begin_blocked(&database, async move { metadata.save_progress(late).await }).await;
    let metadata = database.metadata.clone();
    let claiming = async move { metadata.claim_upload(address, UPLOAD_LIFETIME).await };
    let claiming = begin_blocked(&database, claiming).await;
    gate.commit().await.unwrap();
    assert_eq!(committing.await.unwrap().unwrap(), CommitOutcome::Committed);
    assert!(!saving.await.unwrap().unwrap());
    assert_eq!(claiming.await.unwrap().unwrap(), None);
}

/// The other way round. Fails where the end of a session does not look at the fence after it has waited.
#[tokio::test]
async fn race_20_the_end_of_a_session_that_another_writer_has_taken_is_refused() {
    let database = Database::postgres().await;
    let commit = database.attached_upload("app", "objects/1", "layer").await;
    // What `claim_upload` does.
    let writer = hold(&database, "UPDATE uploads SET fence = fence + 1").await;
    let committing = commit_blocked(&database, commit).await;
    writer.commit().await.unwrap();
    assert_eq!(committing.await.unwrap().unwrap(), CommitOutcome::SessionLost);
    assert_eq!(database.inside.count("SELECT count(*) FROM blobs").await, 0);
}

/// The same of an object that is made for it. Fails where the session is looked up and not held: the other writer's object,
/// with all that he has written, would be forgotten for one that nobody writes.
#[tokio::test]
async fn race_20_no_object_is_attached_to_a_session_that_another_writer_has_taken() {
    let database = Database::postgres().await;
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    // What `claim_upload` does.
    let writer = hold(&database, "UPDATE uploads SET fence = fence + 1").await;
    let metadata = database.metadata.clone();
    let attaching = async move { metadata.attach_object(address.id, fence, "objects/1", "files").await };
    let attaching = begin_blocked(&database, attaching).await;
    writer.commit().await.unwrap();
    assert!(!attaching.await.unwrap().unwrap());
    assert_eq!(database.inside.count("SELECT count(*) FROM objects").await, 0);
}

/// The blob is there already, and the session is about to end by that. Fails where a client is told that he has cancelled
/// what was committed.
#[tokio::test]
async fn race_20_a_cancel_that_comes_while_its_session_ends_is_too_late() {
    let database = Database::postgres().await;
    database.upload_blob("old", "objects/1", "layer").await;
    let commit = database.attached_upload("app", "objects/2", "layer").await;
    let address = UploadAddress { repository: repository("app"), id: commit.id, principal: None };
    let gate = hold(&database, "SELECT FROM repositories WHERE name = 'app' FOR UPDATE").await;
    let committing = commit_blocked(&database, commit).await;
    let metadata = database.metadata.clone();
    let cancelling = begin_blocked(&database, async move { metadata.cancel_upload(address).await }).await;
    gate.commit().await.unwrap();
    assert_eq!(committing.await.unwrap().unwrap(), CommitOutcome::Committed);
    assert!(!cancelling.await.unwrap().unwrap());
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/2"]);
}
