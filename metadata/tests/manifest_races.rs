//! The races of garbage collection with clients over manifests (docs/races.md, by its numbers). As `collection_races.rs`: the
//! collector stands still between its delete and its commit, or a push does before its last statement. At the repository
//! who deletes a tag stands still too, or a manifest that has tags.

use crate::collection_races::{REPOSITORY, TAG, TURN, put_blocked};
use crate::content::{index, manifest, repository, tag, tagged};
use crate::database::{Database, REVIEW_DELAY};
use crate::garbage::{NO_BREAKER, went};
use crate::orders::{begin_blocked, hold, without_waiting};
use longshore_metadata::{CondemnedManifest, DeleteOutcome, Deleted, PutManifest, PutManifestOutcome, Result};
use longshore_oci::Digest;
use tokio::task::JoinHandle;

on_both_engines!(race_09_a_referrer_whose_subject_goes_during_its_review_is_reviewed_again);

/// Where the collector stands still.
const REVIEW: &str = "SELECT FROM gc_queue WHERE kind = 1 FOR UPDATE";

async fn collect_blocked(database: &Database, condemned: CondemnedManifest) -> JoinHandle<Result<Deleted>> {
    let metadata = database.metadata.clone();
    let collecting = async move { metadata.delete_unkept_manifests(vec![condemned], NO_BREAKER).await.map(went) };
    begin_blocked(database, collecting).await
}

/// Passes over what a client works on, and does not wait for it: answers how many went all the same.
async fn collect_without_waiting(database: &Database, condemned: CondemnedManifest) -> u64 {
    let metadata = database.metadata.clone();
    let collecting = async move { metadata.delete_unkept_manifests(vec![condemned], NO_BREAKER).await };
    went(without_waiting(database, collecting).await.unwrap()).count
}

/// Stores a manifest, and waits for nobody.
async fn put_without_waiting(database: &Database, manifest: PutManifest) {
    let metadata = database.metadata.clone();
    let putting = async move { metadata.put_manifest(manifest).await };
    assert_eq!(without_waiting(database, putting).await.unwrap(), PutManifestOutcome::Stored);
}

/// What `latest` names.
async fn latest(database: &Database) -> Option<Digest> {
    let found = database.metadata.find_tag(&repository("app"), &tag("latest")).await.unwrap();
    found.map(|record| record.digest)
}

/// Fails where a push takes the row of a manifest that is going: then its tag would name nothing.
#[tokio::test]
async fn race_06_a_tag_that_comes_too_late_for_a_manifest_brings_it_again() {
    let database = Database::postgres().await;
    let digest = database.push(manifest("app", "manifest")).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&digest).await;
    let gate = hold(&database, REVIEW).await;
    let collecting = collect_blocked(&database, condemned).await;
    let putting = put_blocked(&database, tagged(manifest("app", "manifest"), &["latest"])).await;
    gate.commit().await.unwrap();
    assert_eq!(collecting.await.unwrap().unwrap().count, 1);
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    assert_eq!(latest(&database).await, Some(digest));
    database.assert_consistent().await;
}

/// Fails where the collector waits for the row, or looks at tags before it has the row's lock.
#[tokio::test]
async fn race_06_a_manifest_that_is_being_tagged_is_passed_over() {
    let database = Database::postgres().await;
    let digest = database.push(manifest("app", "manifest")).await;
    database.push(tagged(manifest("app", "old"), &["latest"])).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&digest).await;
    let gate = hold(&database, TAG).await;
    let putting = put_blocked(&database, tagged(manifest("app", "manifest"), &["latest"])).await;
    assert_eq!(collect_without_waiting(&database, condemned.clone()).await, 0);
    gate.commit().await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    assert_eq!(database.collect_manifest(condemned).await, 0);
    assert_eq!(latest(&database).await, Some(digest));
    database.assert_consistent().await;
}

/// Another replica deletes, and the collector waits for its turn. Fails where it holds manifests meanwhile: then clients wait
/// for that other replica, and so may the two collectors for each other.
#[tokio::test]
async fn race_06_a_push_does_not_wait_for_a_collector_that_waits_for_another() {
    let database = Database::postgres().await;
    let digest = database.push(manifest("app", "manifest")).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&digest).await;
    let gate = hold(&database, TURN).await;
    let collecting = collect_blocked(&database, condemned).await;
    put_without_waiting(&database, tagged(manifest("app", "manifest"), &["latest"])).await;
    gate.commit().await.unwrap();
    assert_eq!(collecting.await.unwrap().unwrap().count, 0);
    assert_eq!(latest(&database).await, Some(digest));
    database.assert_consistent().await;
}

/// A client deletes the manifest, and has looked for what keeps it. Fails where the row is not held from that look on: then
/// a tag that may not move comes in between, and is deleted with the manifest.
#[tokio::test]
async fn race_06_a_push_that_meets_a_clients_delete_of_its_manifest_waits() {
    let database = Database::postgres().await;
    let digest = database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
    let gate = hold(&database, REPOSITORY).await;
    let metadata = database.metadata.clone();
    let deleting = async move { metadata.delete_manifest(&repository("app"), &digest, None).await };
    let deleting = begin_blocked(&database, deleting).await;
    // It needs nothing else that anybody holds: there is the manifest, and no tag comes with it.
    let putting = put_blocked(&database, manifest("app", "manifest")).await;
    gate.commit().await.unwrap();
    assert_eq!(deleting.await.unwrap().unwrap(), DeleteOutcome::Deleted);
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    assert!(database.is_there(&digest).await);
    database.assert_consistent().await;
}

/// Fails where an index is stored by what was there before it waited.
#[tokio::test]
async fn race_07_an_index_that_comes_too_late_for_its_child_is_told_so() {
    let database = Database::postgres().await;
    let child = database.push(manifest("app", "child")).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&child).await;
    let gate = hold(&database, REVIEW).await;
    let collecting = collect_blocked(&database, condemned).await;
    let putting = put_blocked(&database, index("app", "index", &["child"])).await;
    gate.commit().await.unwrap();
    assert_eq!(collecting.await.unwrap().unwrap().count, 1);
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Absent { digests: vec![child] });
    assert_eq!(database.inside.count("SELECT count(*) FROM manifests").await, 0);
}

/// Fails where the collector waits for the index, or looks without the child's lock: it sees no index, as that is not
/// committed.
#[tokio::test]
async fn race_07_a_child_that_an_index_is_naming_is_passed_over() {
    let database = Database::postgres().await;
    let child = database.push(manifest("app", "child")).await;
    database.push(tagged(manifest("app", "old"), &["latest"])).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&child).await;
    let gate = hold(&database, TAG).await;
    let putting = put_blocked(&database, tagged(index("app", "index", &["child"]), &["latest"])).await;
    assert_eq!(collect_without_waiting(&database, condemned.clone()).await, 0);
    gate.commit().await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    assert_eq!(database.collect_manifest(condemned).await, 0);
    assert!(database.is_there(&child).await);
}

/// The same a moment before: the index has found its child, and no foreign key holds it yet. Fails where it does not lock
/// what it finds: then the child goes, and the index is stored all the same.
#[tokio::test]
async fn race_07_a_child_that_an_index_has_found_is_passed_over() {
    let database = Database::postgres().await;
    let child = database.push(manifest("app", "child")).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&child).await;
    let gate = hold(&database, REPOSITORY).await;
    let putting = put_blocked(&database, index("app", "index", &["child"])).await;
    assert_eq!(collect_without_waiting(&database, condemned).await, 0);
    gate.commit().await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    assert!(database.is_there(&child).await);
}

/// The review was read when the tag was there, and is about to end; its last tag goes. Fails where a review ends whatever
/// the queue says by then: nobody would ever look at the manifest again.
#[tokio::test]
async fn race_08_a_manifest_whose_last_tag_goes_while_its_review_ends_is_reviewed_again() {
    let database = Database::postgres().await;
    let digest = database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
    database.advance(REVIEW_DELAY).await;
    let (review, facts) = database.facts(&digest).await;
    assert_eq!(facts.tag, Some(tag("latest")));
    let gate = hold(&database, REPOSITORY).await;
    let metadata = database.metadata.clone();
    let deleting = async move { metadata.delete_tag(&repository("app"), &tag("latest"), None).await };
    let deleting = begin_blocked(&database, deleting).await;
    let metadata = database.metadata.clone();
    let keeping = async move { metadata.keep_manifests(vec![review], Vec::new()).await };
    let keeping = begin_blocked(&database, keeping).await;
    gate.commit().await.unwrap();
    assert!(deleting.await.unwrap().unwrap());
    keeping.await.unwrap().unwrap();
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&digest).await;
    assert_eq!(database.collect_manifest(condemned).await, 1);
}

/// The same of what a subject keeps. Fails where the end of a subject does not queue its referrers anew.
async fn race_09_a_referrer_whose_subject_goes_during_its_review_is_reviewed_again(database: Database) {
    let subject = database.push(manifest("app", "subject")).await;
    let signature = PutManifest { subject: Some(subject), ..manifest("app", "signature") };
    let signature = database.push(signature).await;
    database.advance(REVIEW_DELAY).await;
    let (review, facts) = database.facts(&signature).await;
    assert_eq!(facts.subject, Some(subject));
    let deleted = database.metadata.delete_manifest(&repository("app"), &subject, None).await.unwrap();
    assert_eq!(deleted, DeleteOutcome::Deleted);
    database.metadata.keep_manifests(vec![review], Vec::new()).await.unwrap();
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&signature).await;
    assert_eq!(database.collect_manifest(condemned).await, 1);
}

/// Another replica deletes, and the collector of the referrer waits for its turn. Fails where it looks at what keeps the
/// referrer before it waits.
#[tokio::test]
async fn race_09_a_subject_that_comes_while_a_collector_waits_for_another_keeps_its_referrer() {
    let database = Database::postgres().await;
    let subject = manifest("app", "subject");
    let signature = PutManifest { subject: Some(subject.digest), ..manifest("app", "signature") };
    let signature = database.push(signature).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&signature).await;
    let gate = hold(&database, TURN).await;
    let collecting = collect_blocked(&database, condemned).await;
    put_without_waiting(&database, subject).await;
    gate.commit().await.unwrap();
    assert_eq!(collecting.await.unwrap().unwrap().count, 0);
    assert!(database.is_there(&signature).await);
    database.assert_consistent().await;
}

/// Neither sees the other one. Fails where one of them waits, or where a new manifest is not queued by itself.
#[tokio::test]
async fn race_09_a_referrer_that_comes_while_its_subject_goes_is_there_and_reviewed() {
    let database = Database::postgres().await;
    let subject = database.push(manifest("app", "subject")).await;
    let signature = PutManifest { subject: Some(subject), ..manifest("app", "signature") };
    let digest = signature.digest;
    let gate = hold(&database, REPOSITORY).await;
    let putting = put_blocked(&database, signature).await;
    let metadata = database.metadata.clone();
    let deleting = async move { metadata.delete_manifest(&repository("app"), &subject, None).await };
    assert_eq!(without_waiting(&database, deleting).await.unwrap(), DeleteOutcome::Deleted);
    gate.commit().await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    assert!(database.is_there(&digest).await);
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&digest).await;
    assert_eq!(database.collect_manifest(condemned).await, 1);
}
