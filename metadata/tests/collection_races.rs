//! The races of garbage collection with clients over blobs (docs/races.md, by its numbers).
//!
//! On PostgreSQL both are real: one of them stands still in the middle of its transaction, at a row that the test holds,
//! while the other one comes. The collector stands between its deletes and its commit, at the review that it is about to
//! end. SQLite has one writer: there somebody can come between two transactions only, and those tests run on both.

use crate::cache::until;
use crate::content::{image, manifest, repository, tagged};
use crate::database::{Database, PROMISE, REVIEW_DELAY};
use crate::garbage::{NO_BREAKER, went};
use crate::orders::{begin_blocked, hold, without_waiting};
use futures_util::future::join_all;
use longshore_metadata::{
    BlobContent, CommitOutcome, CommitUpload, CondemnedGrant, DeleteOutcome, Deleted, GarbageOutcome, Metadata,
    MountOutcome, PutManifest, PutManifestOutcome, Result, Review,
};
use longshore_oci::Digest;
use tokio::task::JoinHandle;

on_both_engines!(
    race_01_an_acknowledged_blob_is_there_until_its_manifest_comes,
    race_03_a_mounted_blob_outlives_its_source,
    race_05_what_was_collected_is_not_answered_from_memory,
    race_13_whatever_a_dead_client_held_goes_with_its_lease,
    race_15_bytes_that_cannot_be_deleted_block_no_push,
    race_16_replicas_that_see_a_clock_that_jumped_all_wait,
);

/// Where the collector of grants, and that of blobs, stands still.
const REVIEW_OF_GRANT: &str = "SELECT FROM gc_queue WHERE kind = 2 FOR UPDATE";
const REVIEW_OF_BLOB: &str = "SELECT FROM gc_queue WHERE kind = 3 FOR UPDATE";
/// Where a push stands still that moves the only tag: all that it names is looked up and held by then.
pub(crate) const TAG: &str = "SELECT FROM tags FOR UPDATE";
/// Where a push of a new manifest stands still: what it names is looked up, and no row says so yet.
pub(crate) const REPOSITORY: &str = "SELECT FROM repositories FOR UPDATE";
/// Where every collector stands still that comes to delete manifests, blobs or tags: another replica is deleting.
pub(crate) const TURN: &str = "SELECT FROM gc_state FOR UPDATE";

const NONE: Deleted = Deleted { count: 0, bytes: 0 };

/// Begins to store a manifest, which must come to wait.
pub(crate) async fn put_blocked(database: &Database, manifest: PutManifest) -> JoinHandle<Result<PutManifestOutcome>> {
    let metadata = database.metadata.clone();
    begin_blocked(database, async move { metadata.put_manifest(manifest).await }).await
}

async fn collect_grants_blocked(database: &Database, condemned: Vec<CondemnedGrant>) -> JoinHandle<Result<Deleted>> {
    let metadata = database.metadata.clone();
    begin_blocked(database, async move { metadata.delete_unkept_grants(condemned).await }).await
}

/// Passes over what a client works on, and does not wait for it.
async fn collect_grants_without_waiting(database: &Database, condemned: Vec<CondemnedGrant>) -> Deleted {
    let metadata = database.metadata.clone();
    without_waiting(database, async move { metadata.delete_unkept_grants(condemned).await }).await.unwrap()
}

async fn collect_blobs_without_waiting(database: &Database, reviews: Vec<Review>) -> GarbageOutcome {
    let metadata = database.metadata.clone();
    without_waiting(database, async move { metadata.delete_unheld_blobs(reviews, NO_BREAKER).await }).await.unwrap()
}

async fn delete_blob(database: &Database, name: &str, digest: &Digest) {
    let deleted = database.metadata.delete_blob(&repository(name), digest).await.unwrap();
    assert_eq!(deleted, DeleteOutcome::Deleted);
}

/// Reviews of blobs that are due.
async fn blob_reviews(database: &Database) -> Vec<Review> {
    database.due_blobs().await.into_iter().map(|(review, _)| review).collect()
}

/// The key of the object that holds the blob's bytes.
async fn key_of(database: &Database, name: &str, digest: &Digest) -> String {
    let found = database.metadata.find_blob(&repository(name), digest).await.unwrap().unwrap();
    match found.content {
        BlobContent::Object { key } => key.to_string(),
        BlobContent::Inline(_) => panic!("its bytes are in its row"),
    }
}

async fn has_blob(database: &Database, name: &str, digest: &Digest) -> bool {
    database.metadata.find_blob(&repository(name), digest).await.unwrap().is_some()
}

/// Nothing goes although every review is due, to the last moment of the promise. Fails where the blob's lease does not come
/// with the blob, or is not looked at.
async fn race_01_an_acknowledged_blob_is_there_until_its_manifest_comes(database: Database) {
    database.push_blob("app", "inline").await;
    database.upload_blob("app", "objects/1", "layer").await;
    for _ in 0..4 {
        database.advance(PROMISE / 4).await;
        let grants = database.condemned_grants().await;
        assert_eq!(grants.len(), 2, "their reviews are due");
        assert_eq!(database.metadata.delete_unkept_grants(grants).await.unwrap(), NONE);
        assert_eq!(database.collect_blobs(NO_BREAKER).await, GarbageOutcome::Deleted(NONE));
    }
    database.push(image("app", "manifest", &["inline", "layer"])).await;
}

/// The manifest is stored, not committed, and names a blob whose lease has ended. Fails where the collector waits for the
/// row, or looks without its lock: then it sees no manifest, and runs into the foreign key.
#[tokio::test]
async fn race_01_a_blob_that_a_push_is_naming_is_passed_over() {
    let database = Database::postgres().await;
    let layer = database.push_blob("app", "layer").await;
    database.push(tagged(manifest("app", "old"), &["latest"])).await;
    database.advance(2 * PROMISE).await;
    let condemned = database.condemned_grants().await;
    let gate = hold(&database, TAG).await;
    let putting = put_blocked(&database, tagged(image("app", "manifest", &["layer"]), &["latest"])).await;
    assert_eq!(collect_grants_without_waiting(&database, condemned).await, NONE);
    gate.commit().await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    assert!(has_blob(&database, "app", &layer).await);
}

/// The same a moment before: the push has found the blob, and no foreign key holds it yet. Fails where a push does not lock
/// what it finds: then the grant goes, and the blob after it, and the manifest is stored without its layer.
#[tokio::test]
async fn race_01_a_blob_that_a_push_has_found_is_passed_over() {
    let database = Database::postgres().await;
    let layer = database.push_blob("app", "layer").await;
    database.advance(2 * PROMISE).await;
    let condemned = database.condemned_grants().await;
    let gate = hold(&database, REPOSITORY).await;
    let putting = put_blocked(&database, image("app", "manifest", &["layer"])).await;
    assert_eq!(collect_grants_without_waiting(&database, condemned).await, NONE);
    gate.commit().await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    assert!(has_blob(&database, "app", &layer).await);
}

/// Fails where a HEAD answers by what it saw before it renewed the lease.
#[tokio::test]
async fn race_02_a_head_that_comes_too_late_finds_nothing() {
    let database = Database::postgres().await;
    let digest = database.push_blob("app", "blob").await;
    database.advance(2 * PROMISE).await;
    let condemned = database.condemned_grants().await;
    let gate = hold(&database, REVIEW_OF_GRANT).await;
    let collecting = collect_grants_blocked(&database, condemned).await;
    let metadata = database.metadata.clone();
    let asking = async move { metadata.promise_blob(&repository("app"), &digest).await };
    let asking = begin_blocked(&database, asking).await;
    gate.commit().await.unwrap();
    assert_eq!(collecting.await.unwrap().unwrap().count, 1);
    assert_eq!(asking.await.unwrap().unwrap(), None);
}

/// Fails where the collector waits for the HEAD, or does not look at the lease after it has the lock.
#[tokio::test]
async fn race_02_a_head_that_comes_in_time_keeps_the_blob() {
    let database = Database::postgres().await;
    let digest = database.push_blob("app", "blob").await;
    database.advance(2 * PROMISE).await;
    let condemned = database.condemned_grants().await;
    // What `promise_blob` does.
    let renewing = "UPDATE repository_blobs SET expires_at = (SELECT l.expires_at FROM lease l)";
    let head = hold(&database, renewing).await;
    assert_eq!(collect_grants_without_waiting(&database, condemned.clone()).await, NONE);
    head.commit().await.unwrap();
    assert_eq!(database.metadata.delete_unkept_grants(condemned).await.unwrap(), NONE);
    assert!(has_blob(&database, "app", &digest).await);
}

/// Fails where a mount gives no lease of the target's own, or a blob goes with one of its holders.
async fn race_03_a_mounted_blob_outlives_its_source(database: Database) {
    let digest = database.upload_blob("from", "objects/1", "layer").await;
    let mounted = database.metadata.mount_blob(&repository("target"), &repository("from"), &digest).await.unwrap();
    assert_eq!(mounted, MountOutcome::Mounted);
    delete_blob(&database, "from", &digest).await;
    database.advance(PROMISE).await;
    let grants = database.condemned_grants().await;
    assert_eq!(database.metadata.delete_unkept_grants(grants).await.unwrap(), NONE);
    assert_eq!(database.due_blobs().await.len(), 1);
    assert_eq!(database.collect_blobs(NO_BREAKER).await, GarbageOutcome::Deleted(NONE));
    database.push(image("target", "manifest", &["layer"])).await;
}

/// Nobody holds the blob but a mount that is not committed. Fails where the mount does not lock the blob that it has found:
/// then it is gone, and there is nothing to mount.
#[tokio::test]
async fn race_03_a_blob_that_is_being_mounted_is_passed_over() {
    let database = Database::postgres().await;
    database.push_blob("target", "something else").await;
    let digest = database.push_blob("from", "layer").await;
    let gate = hold(&database, "SELECT FROM repositories WHERE name = 'target' FOR UPDATE").await;
    let metadata = database.metadata.clone();
    let mounting = async move { metadata.mount_blob(&repository("target"), &repository("from"), &digest).await };
    let mounting = begin_blocked(&database, mounting).await;
    let metadata = database.metadata.clone();
    let deleting = async move { metadata.delete_blob(&repository("from"), &digest).await };
    assert_eq!(without_waiting(&database, deleting).await.unwrap(), DeleteOutcome::Deleted);
    database.advance(REVIEW_DELAY).await;
    let reviews = blob_reviews(&database).await;
    assert_eq!(reviews.len(), 1);
    assert_eq!(collect_blobs_without_waiting(&database, reviews).await, GarbageOutcome::Deleted(NONE));
    gate.commit().await.unwrap();
    assert_eq!(mounting.await.unwrap().unwrap(), MountOutcome::Mounted);
    assert_eq!(database.collect_blobs(NO_BREAKER).await, GarbageOutcome::Deleted(NONE));
    assert!(has_blob(&database, "target", &digest).await);
}

/// A blob that nobody holds any more and that is due, an upload of the same bytes that is about to end, and the review.
async fn pushed_again(database: &Database) -> (Digest, CommitUpload, Vec<Review>) {
    let digest = database.upload_blob("old", "objects/1", "layer").await;
    delete_blob(database, "old", &digest).await;
    let commit = database.attached_upload("app", "objects/2", "layer").await;
    database.advance(REVIEW_DELAY).await;
    let reviews = blob_reviews(database).await;
    assert_eq!(reviews.len(), 1);
    (digest, commit, reviews)
}

/// Fails where a push takes the row of a blob that is going, or the new bytes stand under the condemned key.
#[tokio::test]
async fn race_04_a_push_that_meets_the_delete_of_its_digest_has_bytes_of_its_own() {
    let database = Database::postgres().await;
    let (digest, commit, reviews) = pushed_again(&database).await;
    let gate = hold(&database, REVIEW_OF_BLOB).await;
    let metadata = database.metadata.clone();
    let collecting = async move { metadata.delete_unheld_blobs(reviews, NO_BREAKER).await };
    let collecting = begin_blocked(&database, collecting).await;
    let metadata = database.metadata.clone();
    let committing = begin_blocked(&database, async move { metadata.commit_upload(commit).await }).await;
    gate.commit().await.unwrap();
    let deleted = GarbageOutcome::Deleted(Deleted { count: 1, bytes: 5 });
    assert_eq!(collecting.await.unwrap().unwrap(), deleted);
    assert_eq!(committing.await.unwrap().unwrap(), CommitOutcome::Committed);
    assert_eq!(key_of(&database, "app", &digest).await, "objects/2");
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/1"]);
}

/// The other way round: the push has found the blob, and is not committed. Fails where it does not lock what it has found:
/// then the blob goes, and with it bytes that the push relies on.
#[tokio::test]
async fn race_04_a_blob_that_is_being_pushed_again_is_passed_over() {
    let database = Database::postgres().await;
    let (digest, commit, reviews) = pushed_again(&database).await;
    let gate = hold(&database, "SELECT FROM repositories WHERE name = 'app' FOR UPDATE").await;
    let metadata = database.metadata.clone();
    let committing = begin_blocked(&database, async move { metadata.commit_upload(commit).await }).await;
    assert_eq!(collect_blobs_without_waiting(&database, reviews).await, GarbageOutcome::Deleted(NONE));
    gate.commit().await.unwrap();
    assert_eq!(committing.await.unwrap().unwrap(), CommitOutcome::Committed);
    assert_eq!(key_of(&database, "app", &digest).await, "objects/1");
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/2"]);
}

/// Another replica deletes, and the collector waits for its turn. Fails where it holds blobs meanwhile, or has looked at them.
#[tokio::test]
async fn race_04_a_push_does_not_wait_for_a_collector_that_waits_for_another() {
    let database = Database::postgres().await;
    let (digest, commit, reviews) = pushed_again(&database).await;
    let gate = hold(&database, TURN).await;
    let metadata = database.metadata.clone();
    let collecting = async move { metadata.delete_unheld_blobs(reviews, NO_BREAKER).await };
    let collecting = begin_blocked(&database, collecting).await;
    let metadata = database.metadata.clone();
    let committing = async move { metadata.commit_upload(commit).await };
    assert_eq!(without_waiting(&database, committing).await.unwrap(), CommitOutcome::Committed);
    gate.commit().await.unwrap();
    assert_eq!(collecting.await.unwrap().unwrap(), GarbageOutcome::Deleted(NONE));
    assert_eq!(key_of(&database, "app", &digest).await, "objects/1");
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/2"]);
}

/// What a process answers of a blob and of a manifest: whether each is there.
async fn answers(metadata: &Metadata, blob: &Digest, manifest: &Digest) -> [bool; 3] {
    let app = repository("app");
    [
        metadata.find_blob(&app, blob).await.unwrap().is_some(),
        metadata.promise_blob(&app, blob).await.unwrap().is_some(),
        metadata.find_manifest(&app, manifest).await.unwrap().is_some(),
    ]
}

/// Fails where a step does not say what it has changed.
async fn race_05_what_was_collected_is_not_answered_from_memory(database: Database) {
    let cached = database.process_with_cache().await;
    let blob = database.push_blob("app", "blob").await;
    let untagged = database.push(manifest("app", "manifest")).await;
    for _ in 0..2 {
        assert_eq!(answers(&cached, &blob, &untagged).await, [true; 3]);
    }
    assert_eq!(cached.cache_usage().hits, 3, "the second time from memory");
    database.advance(2 * PROMISE).await;
    let (grants, condemned) = (database.condemned_grants().await, database.condemn(&untagged).await);
    assert_eq!(cached.delete_unkept_grants(grants).await.unwrap().count, 1);
    assert_eq!(went(cached.delete_unkept_manifests(vec![condemned], NO_BREAKER).await.unwrap()).count, 1);
    assert_eq!(answers(&cached, &blob, &untagged).await, [false; 3]);
}

/// Fails where what the collector deletes is announced to nobody.
#[tokio::test]
async fn race_05_what_one_replica_collects_no_other_answers_from_memory() {
    let database = Database::postgres().await;
    let other = database.process_with_cache().await;
    let blob = database.push_blob("app", "blob").await;
    let untagged = database.push(manifest("app", "manifest")).await;
    for _ in 0..2 {
        assert_eq!(answers(&other, &blob, &untagged).await, [true; 3]);
    }
    database.advance(2 * PROMISE).await;
    let grants = database.condemned_grants().await;
    assert_eq!(database.metadata.delete_unkept_grants(grants).await.unwrap().count, 1);
    until("the blob is gone", async || answers(&other, &blob, &untagged).await == [false, false, true]).await;
    let condemned = database.condemn(&untagged).await;
    assert_eq!(database.collect_manifest(condemned).await, 1);
    until("the manifest is gone", async || answers(&other, &blob, &untagged).await == [false; 3]).await;
}

/// Fails where anything is held that is not a lease, or that no review looks at.
async fn race_13_whatever_a_dead_client_held_goes_with_its_lease(database: Database) {
    let digest = database.upload_blob("app", "objects/1", "layer").await;
    database.metadata.mount_blob(&repository("other"), &repository("app"), &digest).await.unwrap();
    database.push_blob("app", "config").await;
    database.attached_upload("app", "objects/2", "half a layer").await;
    database.advance(2 * PROMISE).await;
    assert_eq!(database.metadata.expire_uploads(10).await.unwrap().sessions, 1);
    let grants = database.condemned_grants().await;
    assert_eq!(database.metadata.delete_unkept_grants(grants).await.unwrap().count, 3);
    let deleted = GarbageOutcome::Deleted(Deleted { count: 2, bytes: 11 });
    assert_eq!(database.collect_blobs(NO_BREAKER).await, deleted);
    assert_eq!(database.inside.count("SELECT count(*) FROM objects").await, 0);
    let condemned = database.inside.texts("SELECT key FROM tombstones ORDER BY key").await;
    assert_eq!(condemned, ["objects/1", "objects/2"]);
}

/// Two collectors take the last two holds on a blob, and neither sees what the other one does. Fails where a hold queues its
/// blob only if it seems to be the last one: then nobody ever looks at the blob again.
#[tokio::test]
async fn race_14_the_last_two_holds_that_go_together_leave_a_review() {
    let database = Database::postgres().await;
    database.push_blob("first", "blob").await;
    database.push_blob("second", "blob").await;
    database.advance(2 * PROMISE).await;
    let mut first = database.condemned_grants().await;
    let second = first.split_off(1);
    let review_of_first =
        "SELECT FROM gc_queue WHERE kind = 2 AND id1 = (SELECT id FROM repositories WHERE name = 'first') FOR UPDATE";
    let gate = hold(&database, review_of_first).await;
    let first = collect_grants_blocked(&database, first).await;
    let second = collect_grants_blocked(&database, second).await;
    gate.commit().await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().count, 1);
    assert_eq!(second.await.unwrap().unwrap().count, 1);
    let deleted = GarbageOutcome::Deleted(Deleted { count: 1, bytes: 4 });
    assert_eq!(database.collect_blobs(NO_BREAKER).await, deleted);
}

/// The last hold is deleted, and not committed, when the review that saw it ends; both at one tick of the clock. Fails where
/// the end of the review does not wait for who has queued the blob anew: then nobody ever looks at the blob again.
#[tokio::test]
async fn race_14_the_last_hold_that_goes_while_the_review_ends_leaves_a_review() {
    let database = Database::postgres().await;
    database.push_blob("first", "blob").await;
    database.push_blob("second", "blob").await;
    database.advance(2 * PROMISE).await;
    let mut first = database.condemned_grants().await;
    let second = first.split_off(1);
    assert_eq!(database.metadata.delete_unkept_grants(first).await.unwrap().count, 1);
    let reviews = blob_reviews(&database).await;
    assert_eq!(reviews.len(), 1);
    let gate = hold(&database, REVIEW_OF_GRANT).await;
    let collecting = collect_grants_blocked(&database, second).await;
    let metadata = database.metadata.clone();
    let keeping = begin_blocked(&database, async move { metadata.keep_blobs(reviews).await }).await;
    gate.commit().await.unwrap();
    assert_eq!(collecting.await.unwrap().unwrap().count, 1);
    keeping.await.unwrap().unwrap();
    let deleted = GarbageOutcome::Deleted(Deleted { count: 1, bytes: 4 });
    assert_eq!(database.collect_blobs(NO_BREAKER).await, deleted);
}

/// Fails where a digest that is being deleted cannot be pushed until its bytes are gone.
async fn race_15_bytes_that_cannot_be_deleted_block_no_push(database: Database) {
    let digest = database.upload_blob("app", "objects/1", "layer").await;
    delete_blob(&database, "app", &digest).await;
    database.advance(REVIEW_DELAY).await;
    let deleted = GarbageOutcome::Deleted(Deleted { count: 1, bytes: 5 });
    assert_eq!(database.collect_blobs(NO_BREAKER).await, deleted);
    // A collector has taken it, and the store does not let go of the bytes.
    assert_eq!(database.metadata.claim_tombstones(10, PROMISE).await.unwrap().len(), 1);
    database.upload_blob("app", "objects/2", "layer").await;
    assert_eq!(key_of(&database, "app", &digest).await, "objects/2");
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/1"]);
}

/// Another collector is in the middle of taking the bytes. Fails where a push of their digest waits for it.
#[tokio::test]
async fn race_15_a_push_does_not_wait_for_who_takes_the_bytes_of_its_digest() {
    let database = Database::postgres().await;
    let digest = database.upload_blob("app", "objects/1", "layer").await;
    delete_blob(&database, "app", &digest).await;
    database.advance(REVIEW_DELAY).await;
    let deleted = GarbageOutcome::Deleted(Deleted { count: 1, bytes: 5 });
    assert_eq!(database.collect_blobs(NO_BREAKER).await, deleted);
    let commit = database.attached_upload("app", "objects/2", "layer").await;
    // What `claim_tombstones` does.
    let claiming = hold(&database, "UPDATE tombstones SET claimed_until = (SELECT now + 1 FROM clock)").await;
    let metadata = database.metadata.clone();
    let committing = async move { metadata.commit_upload(commit).await };
    assert_eq!(without_waiting(&database, committing).await.unwrap(), CommitOutcome::Committed);
    claiming.commit().await.unwrap();
    assert_eq!(key_of(&database, "app", &digest).await, "objects/2");
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/1"]);
}

/// Fails where the first one that sees it makes the others believe that nothing happened.
async fn race_16_replicas_that_see_a_clock_that_jumped_all_wait(database: Database) {
    // What was seen of the clock before the test stopped it was another one.
    database.metadata.resume_collection().await.unwrap();
    database.advance(2 * PROMISE).await;
    let replicas = database.processes(4).await;
    for state in join_all(replicas.iter().map(Metadata::begin_collection)).await {
        let state = state.unwrap();
        assert_eq!(state.waits_until, Some(state.now + PROMISE));
    }
}

/// Both have seen it, and neither has said so yet. Fails where the one that comes second takes the first one's word for it.
#[tokio::test]
async fn race_16_replicas_that_meet_over_a_clock_that_jumped_all_wait() {
    let database = Database::postgres().await;
    database.metadata.resume_collection().await.unwrap();
    database.advance(2 * PROMISE).await;
    let gate = hold(&database, TURN).await;
    let mut replicas = Vec::new();
    for replica in database.processes(2).await {
        replicas.push(begin_blocked(&database, async move { replica.begin_collection().await }).await);
    }
    gate.commit().await.unwrap();
    for state in replicas {
        let state = state.await.unwrap().unwrap();
        assert_eq!(state.waits_until, Some(state.now + PROMISE));
    }
}
