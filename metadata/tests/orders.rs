//! What happens at the same moment, where the order matters: the other transaction is the test's own, and it ends only
//! when PostgreSQL says that the operation under test is waiting for it. (SQLite has one writer: one order.)

use crate::collection_races::TURN;
use crate::content::{digest_of, image, index, inline_blob, manifest, repository, sparse, tag, tagged};
use crate::database::Database;
use crate::finish::finish;
use crate::immutable::guarded;
use longshore_metadata::{
    Breaker, CondemnedTag, DeleteOutcome, Deleted, FinishOutcome, FinishUpload, GarbageOutcome, LostRaces,
    ManifestPulls, MountOutcome, PutManifestOutcome, Review, TagPulls, TagsOutcome,
};
use sqlx::{Postgres, Transaction};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How many transactions wait for another one's rows, or for its lock on a name. (Commits that notify wait for each other
/// too, for a moment, whatever database they are of.)
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
    AND wait_event_type = 'Lock' AND wait_event IN ('transactionid', 'tuple', 'advisory')";

/// Begins an operation, which must come to wait for a transaction that the test holds.
pub(crate) async fn begin_blocked<T: Send + 'static>(
    database: &Database,
    operation: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let before = database.inside.count(WAITING).await;
    let running = tokio::spawn(operation);
    while database.inside.count(WAITING).await == before {
        assert!(!running.is_finished(), "it did not wait for the other transaction");
        tokio::task::yield_now().await;
    }
    running
}

/// Runs an operation, which must come to its end although other transactions stand still.
pub(crate) async fn without_waiting<T: Send + 'static>(
    database: &Database,
    operation: impl Future<Output = T> + Send + 'static,
) -> T {
    let before = database.inside.count(WAITING).await;
    let running = tokio::spawn(operation);
    while !running.is_finished() {
        assert_eq!(database.inside.count(WAITING).await, before, "it waits for another transaction");
        tokio::task::yield_now().await;
    }
    running.await.unwrap()
}

async fn begin(database: &Database) -> Transaction<'static, Postgres> {
    database.inside.as_postgres().begin().await.unwrap()
}

async fn execute(transaction: &mut Transaction<'static, Postgres>, sql: &'static str) {
    let done = sqlx::query(sql).execute(&mut **transaction).await.unwrap();
    assert_eq!(done.rows_affected(), 1, "{sql}");
}

/// A transaction that holds one row: whoever needs it stands still until this one ends.
pub(crate) async fn hold(database: &Database, row: &'static str) -> Transaction<'static, Postgres> {
    let mut gate = begin(database).await;
    execute(&mut gate, row).await;
    gate
}

#[tokio::test]
async fn the_last_two_tags_that_go_together_leave_an_untagged_manifest() {
    let database = Database::postgres().await;
    database.push(tagged(manifest("app", "manifest"), &["one", "two"])).await;
    let mut other = begin(&database).await;
    execute(&mut other, "DELETE FROM tags WHERE name = 'one'").await;
    execute(
        &mut other,
        "INSERT INTO tag_history (repository_id, tag, changed_at) SELECT id, 'one', 0 FROM repositories",
    )
    .await;
    let metadata = database.metadata.clone();
    let deleting = async move { metadata.delete_tag(&repository("app"), &tag("two"), None).await };
    let deleting = begin_blocked(&database, deleting).await;
    other.commit().await.unwrap();
    assert!(deleting.await.unwrap().unwrap());
    database.assert_consistent().await;
}

#[tokio::test]
async fn a_tag_that_goes_while_another_comes_leaves_a_tagged_manifest() {
    let database = Database::postgres().await;
    database.push(tagged(manifest("app", "manifest"), &["one"])).await;
    // What `put_manifest` does when the same manifest comes again with the tag `two`.
    let mut other = begin(&database).await;
    execute(&mut other, "UPDATE manifests SET pushed_at = pushed_at + 1").await;
    execute(
        &mut other,
        "INSERT INTO tags (repository_id, name, manifest_id, updated_at) SELECT repository_id, 'two', id, 0 FROM manifests",
    )
    .await;
    execute(
        &mut other,
        "INSERT INTO tag_history (repository_id, tag, digest, changed_at) SELECT repository_id, 'two', digest, 0 FROM manifests",
    )
    .await;
    let metadata = database.metadata.clone();
    let deleting = async move { metadata.delete_tag(&repository("app"), &tag("one"), None).await };
    let deleting = begin_blocked(&database, deleting).await;
    other.commit().await.unwrap();
    assert!(deleting.await.unwrap().unwrap());
    database.assert_consistent().await;
}

#[tokio::test]
async fn the_history_of_a_tag_has_the_order_of_its_writers() {
    let database = Database::postgres().await;
    database.push(tagged(manifest("app", "first"), &["latest"])).await;
    database.push(manifest("app", "second")).await;
    // What `put_manifest` does when the second one takes the tag.
    let mut other = begin(&database).await;
    execute(&mut other, "UPDATE tags SET manifest_id = (SELECT max(id) FROM manifests)").await;
    let metadata = database.metadata.clone();
    let putting = async move { metadata.put_manifest(tagged(manifest("app", "third"), &["latest"])).await };
    let putting = begin_blocked(&database, putting).await;
    execute(
        &mut other,
        "INSERT INTO tag_history (repository_id, tag, digest, changed_at) \
         SELECT t.repository_id, t.name, m.digest, 0 FROM tags t JOIN manifests m ON m.id = t.manifest_id",
    )
    .await;
    other.commit().await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    database.assert_consistent().await;
}

#[tokio::test]
async fn an_absent_blob_that_arrives_meanwhile_is_held() {
    let database = Database::postgres().await;
    database.push_blob("app", "something else").await;
    database.push_blob("from", "layer").await;
    let mut other = begin(&database).await;
    execute(
        &mut other,
        "INSERT INTO repository_blobs (repository_id, blob_id, expires_at) SELECT r.id, b.id, 0 \
         FROM repositories r, blobs b WHERE r.name = 'app' ORDER BY b.id DESC LIMIT 1",
    )
    .await;
    let metadata = database.metadata.clone();
    let putting = async move { metadata.put_manifest(sparse(image("app", "manifest", &["layer"]))).await };
    let putting = begin_blocked(&database, putting).await;
    other.commit().await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    let deleted = database.metadata.delete_blob(&repository("app"), &digest_of("layer")).await.unwrap();
    assert_eq!(deleted, DeleteOutcome::InUse { by: digest_of("manifest") });
}

#[tokio::test]
async fn an_absent_child_that_arrives_meanwhile_is_held() {
    let database = Database::postgres().await;
    database.push(manifest("app", "something else")).await;
    let child = database.push(manifest("elsewhere", "child")).await;
    let mut other = begin(&database).await;
    execute(
        &mut other,
        "INSERT INTO manifests (repository_id, digest, media_type, body, size, pushed_at, untagged_since) \
         SELECT r.id, m.digest, m.media_type, m.body, m.size, m.pushed_at, m.untagged_since \
         FROM repositories r, manifests m WHERE r.name = 'app' ORDER BY m.id DESC LIMIT 1",
    )
    .await;
    let metadata = database.metadata.clone();
    let putting = async move { metadata.put_manifest(sparse(index("app", "index", &["child"]))).await };
    let putting = begin_blocked(&database, putting).await;
    other.commit().await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    let deleted = database.metadata.delete_manifest(&repository("app"), &child, None).await.unwrap();
    assert_eq!(deleted, DeleteOutcome::InUse { by: digest_of("index") });
}

/// The other way round: the manifest is there, and not yet committed, when the blob arrives.
#[tokio::test]
async fn a_blob_that_arrives_while_a_manifest_wishes_for_it_is_held() {
    let database = Database::postgres().await;
    database.push(manifest("app", "manifest")).await;
    database.push_blob("from", "layer").await;
    let mut other = begin(&database).await;
    execute(&mut other, "SELECT id FROM repositories WHERE name = 'app' FOR UPDATE").await;
    execute(
        &mut other,
        "INSERT INTO manifest_absent_blobs (repository_id, manifest_id, digest) \
         SELECT m.repository_id, m.id, b.digest FROM manifests m, blobs b",
    )
    .await;
    let metadata = database.metadata.clone();
    let mounting =
        async move { metadata.mount_blob(&repository("app"), &repository("from"), &digest_of("layer")).await };
    let mounting = begin_blocked(&database, mounting).await;
    other.commit().await.unwrap();
    assert_eq!(mounting.await.unwrap().unwrap(), MountOutcome::Mounted);
    let deleted = database.metadata.delete_blob(&repository("app"), &digest_of("layer")).await.unwrap();
    assert_eq!(deleted, DeleteOutcome::InUse { by: digest_of("manifest") });
}

#[tokio::test]
async fn a_delete_that_loses_against_a_manifest_names_it() {
    let database = Database::postgres().await;
    let layer = database.push_blob("app", "layer").await;
    database.push(manifest("app", "manifest")).await;
    let mut other = begin(&database).await;
    execute(
        &mut other,
        "INSERT INTO manifest_blobs (repository_id, manifest_id, blob_id) \
         SELECT m.repository_id, m.id, b.id FROM manifests m, blobs b",
    )
    .await;
    let metadata = database.metadata.clone();
    let deleting = async move { metadata.delete_blob(&repository("app"), &layer).await };
    let deleting = begin_blocked(&database, deleting).await;
    other.commit().await.unwrap();
    // The first attempt ran into the foreign key; the second one saw why.
    assert_eq!(deleting.await.unwrap().unwrap(), DeleteOutcome::InUse { by: digest_of("manifest") });
    assert_eq!(database.metadata.lost_races(), LostRaces { foreign_key: 1, lock_order: 0 });
}

#[tokio::test]
async fn a_manifest_that_loses_against_a_delete_is_told_what_is_missing() {
    let database = Database::postgres().await;
    let layer = database.push_blob("app", "layer").await;
    let mut other = begin(&database).await;
    execute(&mut other, "DELETE FROM repository_blobs").await;
    let metadata = database.metadata.clone();
    let putting = async move { metadata.put_manifest(image("app", "manifest", &["layer"])).await };
    let putting = begin_blocked(&database, putting).await;
    other.commit().await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutManifestOutcome::Absent { digests: vec![layer] });
}

/// The winner's row vanishes between our losing the insert and our taking it: the insert is tried again.
#[tokio::test]
async fn a_blob_that_garbage_collection_takes_meanwhile_is_inserted_again() {
    let database = Database::postgres().await;
    let digest = database.push_blob("old", "layer").await;
    database.metadata.delete_blob(&repository("old"), &digest).await.unwrap();
    let mut other = begin(&database).await;
    execute(&mut other, "DELETE FROM blobs").await;
    let metadata = database.metadata.clone();
    let putting = async move { metadata.put_inline_blob(inline_blob("app", "layer")).await };
    let putting = begin_blocked(&database, putting).await;
    other.commit().await.unwrap();
    putting.await.unwrap().unwrap();
    assert!(database.metadata.find_blob(&repository("app"), &digest).await.unwrap().is_some());
}

/// The end of an upload finds the session as the writer leaves it that it had to wait for.
#[tokio::test]
async fn an_end_that_waits_for_a_writer_sees_what_was_saved() {
    let database = Database::postgres().await;
    let address = database.open_upload("app").await;
    let mut other = begin(&database).await;
    execute(&mut other, "UPDATE uploads SET received = 3, staged = 'abc'").await;
    let metadata = database.metadata.clone();
    let last = FinishUpload { start: Some(0), ..finish(&address, "abcdef", "abcdef") };
    let ending = async move { metadata.finish_upload(last).await };
    let ending = begin_blocked(&database, ending).await;
    other.commit().await.unwrap();
    assert_eq!(ending.await.unwrap().unwrap(), FinishOutcome::OutOfOrder { received: 3 });
    let ended = database.metadata.finish_upload(finish(&address, "def", "abcdef")).await.unwrap();
    assert_eq!(ended, FinishOutcome::Committed);
}

/// Two transactions that wait for each other. PostgreSQL ends one that finds out: that is ours, since the other one does
/// not look for an hour; ours runs again, and nobody hears of it.
#[tokio::test]
async fn a_deadlock_is_not_the_callers_business() {
    let database = Database::postgres().await;
    let digest = database.push(tagged(manifest("app", "manifest"), &["one", "two"])).await;
    let (mut gate, mut other) = (begin(&database).await, begin(&database).await);
    sqlx::query("SET LOCAL deadlock_timeout = '1h'").execute(&mut *other).await.unwrap();
    execute(&mut gate, "SELECT FROM tags WHERE name = 'one' FOR UPDATE").await;
    execute(&mut other, "SELECT FROM tags WHERE name = 'two' FOR UPDATE").await;
    let metadata = database.metadata.clone();
    // It holds the manifest and waits at the first tag, before the second one.
    let deleting = async move { metadata.delete_manifest(&repository("app"), &digest, None).await };
    let deleting = begin_blocked(&database, deleting).await;
    let taking = async move {
        execute(&mut other, "UPDATE manifests SET pushed_at = 1").await;
        other.commit().await.unwrap();
    };
    let taking = begin_blocked(&database, taking).await;
    gate.commit().await.unwrap();
    taking.await.unwrap();
    assert_eq!(deleting.await.unwrap().unwrap(), DeleteOutcome::Deleted);
    assert_eq!(database.metadata.lost_races(), LostRaces { foreign_key: 0, lock_order: 1 });
}

/// Else two replicas that write pull statistics of the same rows would hold each other up.
#[tokio::test]
async fn pull_statistics_take_rows_in_one_order() {
    let database = Database::postgres().await;
    let contents = ["a", "b", "c", "d", "e"];
    for content in contents {
        database.push(tagged(manifest("app", content), &[content])).await;
    }
    let shuffled = ["d", "a", "e", "c", "b"];
    let last = Duration::ZERO;
    let pulls = shuffled.map(|content| ManifestPulls {
        repository: repository("app"),
        digest: digest_of(content),
        count: 1,
        last,
    });
    let metadata = database.metadata.clone();
    let mut other = begin(&database).await;
    execute(&mut other, "SELECT FROM manifests WHERE id = (SELECT manifest_id FROM tags WHERE name = 'c') FOR UPDATE")
        .await;
    let recording = async move { metadata.record_pulls_of_manifests(&pulls).await };
    let recording = begin_blocked(&database, recording).await;
    let free = "SELECT t.name FROM manifests m JOIN tags t ON t.manifest_id = m.id ORDER BY m.id \
        FOR UPDATE OF m SKIP LOCKED";
    assert_eq!(database.inside.texts(free).await, ["d", "e"], "it has those before the one that it waits for");
    other.commit().await.unwrap();
    assert_eq!(recording.await.unwrap().unwrap(), 5);

    let pulls = shuffled.map(|content| TagPulls { repository: repository("app"), tag: tag(content), last });
    let metadata = database.metadata.clone();
    let mut other = begin(&database).await;
    execute(&mut other, "SELECT FROM tags WHERE name = 'c' FOR UPDATE").await;
    let recording = begin_blocked(&database, async move { metadata.record_pulls_of_tags(&pulls).await }).await;
    let free = "SELECT name FROM tags ORDER BY name FOR UPDATE SKIP LOCKED";
    assert_eq!(database.inside.texts(free).await, ["d", "e"], "it has those before the one that it waits for");
    other.commit().await.unwrap();
    assert_eq!(recording.await.unwrap().unwrap(), 5);
}

/// The other push has the tag and has not ended yet: whoever comes meanwhile waits, and is told what it names then.
#[tokio::test]
async fn a_first_push_of_an_immutable_tag_waits_for_another() {
    for ends_well in [true, false] {
        let database = Database::postgres().await;
        database.push(manifest("app", "first")).await;
        let mut other = begin(&database).await;
        execute(&mut other, "SELECT pg_advisory_xact_lock(hashtextextended('app v1', 0))").await;
        execute(
            &mut other,
            "INSERT INTO tags (repository_id, name, manifest_id, updated_at) \
            SELECT repository_id, 'v1', id, 0 FROM manifests",
        )
        .await;
        execute(
            &mut other,
            "INSERT INTO tag_history (repository_id, tag, digest, changed_at) \
            SELECT repository_id, 'v1', digest, 0 FROM manifests",
        )
        .await;
        let metadata = database.metadata.clone();
        let put = guarded(tagged(manifest("app", "second"), &["v1"]));
        let pushing = begin_blocked(&database, async move { metadata.put_manifest(put).await }).await;
        let expected = if ends_well {
            other.commit().await.unwrap();
            PutManifestOutcome::Immutable { tag: tag("v1"), digest: digest_of("first") }
        } else {
            other.rollback().await.unwrap();
            PutManifestOutcome::Stored
        };
        assert_eq!(pushing.await.unwrap().unwrap(), expected);
        database.assert_consistent().await;
    }
}

/// A rule has read that nobody has pushed the tag for long, and comes to delete it while it is being pushed.
#[tokio::test]
async fn a_tag_that_moves_while_a_rule_comes_to_delete_it_stays() {
    let database = Database::postgres().await;
    database.push(tagged(manifest("app", "old"), &["latest"])).await;
    database.push(manifest("app", "new")).await;
    let (_, facts) = database.metadata.tag_facts(&repository("app"), &tag("latest")).await.unwrap().unwrap();
    let condemned = vec![CondemnedTag { facts, by: "retention: rule".to_owned() }];
    let mut other = begin(&database).await;
    execute(&mut other, "UPDATE tags SET manifest_id = (SELECT MAX(id) FROM manifests), updated_at = updated_at + 1")
        .await;
    execute(
        &mut other,
        "INSERT INTO tag_history (repository_id, tag, digest, changed_at) \
        SELECT repository_id, 'latest', digest, 0 FROM manifests ORDER BY id DESC LIMIT 1",
    )
    .await;
    let metadata = database.metadata.clone();
    let breaker = Breaker { percent: 100, floor: 0 };
    let deleting = async move { metadata.delete_tags(&repository("app"), condemned, breaker).await };
    let deleting = begin_blocked(&database, deleting).await;
    other.commit().await.unwrap();
    assert_eq!(deleting.await.unwrap().unwrap(), TagsOutcome::Deleted(0));
    let left = database.metadata.find_tag(&repository("app"), &tag("latest")).await.unwrap().unwrap();
    assert_eq!(left.digest, digest_of("new"));
    database.assert_consistent().await;
}

/// Another replica deletes, and the rule waits for its turn. Fails where it holds tags meanwhile, or has looked at them.
#[tokio::test]
async fn a_tag_moves_while_a_rule_waits_for_another_collector() {
    let database = Database::postgres().await;
    database.push(tagged(manifest("app", "old"), &["latest"])).await;
    let (_, facts) = database.metadata.tag_facts(&repository("app"), &tag("latest")).await.unwrap().unwrap();
    let condemned = vec![CondemnedTag { facts, by: "retention: rule".to_owned() }];
    let gate = hold(&database, TURN).await;
    let metadata = database.metadata.clone();
    let breaker = Breaker { percent: 100, floor: 0 };
    let deleting = async move { metadata.delete_tags(&repository("app"), condemned, breaker).await };
    let deleting = begin_blocked(&database, deleting).await;
    let metadata = database.metadata.clone();
    let moving = async move { metadata.put_manifest(tagged(manifest("app", "new"), &["latest"])).await };
    assert_eq!(without_waiting(&database, moving).await.unwrap(), PutManifestOutcome::Stored);
    gate.commit().await.unwrap();
    assert_eq!(deleting.await.unwrap().unwrap(), TagsOutcome::Deleted(0));
    let left = database.metadata.find_tag(&repository("app"), &tag("latest")).await.unwrap().unwrap();
    assert_eq!(left.digest, digest_of("new"));
    database.assert_consistent().await;
}

/// Each of them alone would delete no more than a day may have.
#[tokio::test]
async fn collectors_that_delete_together_have_one_budget() {
    let database = Database::postgres().await;
    let breaker = Breaker { percent: 50, floor: 0 };
    database.push_blob("app", "stays").await;
    database.leave_blobs(&["one", "two"]).await;
    let mut first: Vec<Review> = database.due_blobs().await.into_iter().map(|(review, _)| review).collect();
    let second = first.split_off(1);
    let gate = hold(&database, "SELECT FROM gc_queue WHERE kind = 3 ORDER BY id1 LIMIT 1 FOR UPDATE").await;
    let metadata = database.metadata.clone();
    let first = begin_blocked(&database, async move { metadata.delete_unheld_blobs(first, breaker).await }).await;
    let metadata = database.metadata.clone();
    let second = begin_blocked(&database, async move { metadata.delete_unheld_blobs(second, breaker).await }).await;
    gate.commit().await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), GarbageOutcome::Deleted(Deleted { count: 1, bytes: 3 }));
    assert_eq!(second.await.unwrap().unwrap(), GarbageOutcome::Stopped);
}
