//! Leases: an acknowledged blob stays for the promised time at least, and keeping it costs at most one write in that
//! time.

use crate::content::{image, repository};
use crate::database::{Database, PROMISE, TICK, micros};
use crate::orders::{begin_blocked, hold};
use longshore_metadata::{Deleted, Lifetimes, MountOutcome};
use longshore_oci::Digest;

on_both_engines!(
    every_way_to_get_a_blob_promises_it,
    a_head_writes_nothing_while_the_promise_holds,
    a_head_renews_when_less_than_the_promise_remains,
    the_promise_is_kept_at_every_moment_and_is_cheap,
    race_22_a_head_that_writes_nothing_promises_in_full,
    putting_a_blob_again_renews_as_a_head_does,
    an_expired_blob_that_is_still_here_is_promised_again,
    a_deleted_manifest_leaves_its_layers_promised,
    a_deleted_manifest_never_shortens_a_lease,
    the_operators_promise_is_the_one_that_counts,
);

/// When the lease of the one grant of this repository ends.
async fn expires_at(database: &Database) -> i64 {
    let app = "SELECT g.expires_at FROM repository_blobs g JOIN repositories r ON r.id = g.repository_id \
        WHERE r.name = 'app'";
    database.inside.number(app, &[]).await.unwrap()
}

async fn head(database: &Database, digest: &Digest) {
    assert!(database.metadata.promise_blob(&repository("app"), digest).await.unwrap().is_some());
}

async fn mount(database: &Database, digest: &Digest) {
    let mounted = database.metadata.mount_blob(&repository("app"), &repository("from"), digest).await.unwrap();
    assert_eq!(mounted, MountOutcome::Mounted);
}

async fn every_way_to_get_a_blob_promises_it(database: Database) {
    let promised = database.now().await + 2 * micros(PROMISE);
    let app = repository("app");

    let digest = database.push_blob("app", "blob").await;
    assert_eq!(expires_at(&database).await, promised, "put into its row");
    database.metadata.delete_blob(&app, &digest).await.unwrap();

    let digest = database.upload_blob("app", "objects/1", "layer").await;
    assert_eq!(expires_at(&database).await, promised, "uploaded");
    database.metadata.delete_blob(&app, &digest).await.unwrap();

    let digest = database.push_blob("from", "layer").await;
    mount(&database, &digest).await;
    assert_eq!(expires_at(&database).await, promised, "mounted");
}

async fn a_head_writes_nothing_while_the_promise_holds(database: Database) {
    let digest = database.push_blob("app", "blob").await;
    let first = expires_at(&database).await;
    head(&database, &digest).await;
    assert_eq!(expires_at(&database).await, first);
    // To the last moment at which exactly the promise remains.
    database.advance(PROMISE).await;
    head(&database, &digest).await;
    assert_eq!(expires_at(&database).await, first);
}

async fn a_head_renews_when_less_than_the_promise_remains(database: Database) {
    let digest = database.push_blob("app", "blob").await;
    database.advance(PROMISE + TICK).await;
    head(&database, &digest).await;
    assert_eq!(expires_at(&database).await, database.now().await + 2 * micros(PROMISE));
}

async fn the_promise_is_kept_at_every_moment_and_is_cheap(database: Database) {
    let digest = database.push_blob("app", "blob").await;
    let step = PROMISE / 7;
    let mut writes = 0;
    let mut last = expires_at(&database).await;
    for _ in 0..70 {
        database.advance(step).await;
        head(&database, &digest).await;
        let expires_at = expires_at(&database).await;
        assert!(expires_at >= database.now().await + micros(PROMISE), "the promise was broken");
        writes += u32::from(expires_at != last);
        last = expires_at;
    }
    assert!((1..=10).contains(&writes), "{writes} writes in ten times the promise");
}

/// Nothing goes although the review is due, and a manifest may name the blob.
async fn assert_promised(database: &Database) {
    let condemned = database.condemned_grants().await;
    assert_eq!(condemned.len(), 1, "its review is due");
    assert_eq!(database.metadata.delete_unkept_grants(condemned).await.unwrap(), Deleted::default());
    database.push(image("app", "manifest", &["layer"])).await;
}

/// The HEAD comes at the last moment at which nothing is written, and the collector at the last moment of what that HEAD has
/// promised. Fails where a lease that is renewed only now and then is not as much longer than the promise.
async fn race_22_a_head_that_writes_nothing_promises_in_full(database: Database) {
    let digest = database.push_blob("app", "layer").await;
    database.advance(PROMISE).await;
    let first = expires_at(&database).await;
    head(&database, &digest).await;
    assert_eq!(expires_at(&database).await, first);
    database.advance(PROMISE - TICK).await;
    assert_promised(&database).await;
}

/// Two HEADs come when less than the promise remains, and the first one's renewal is not committed when the second comes.
/// Fails where the second leaves it to the first, which may be lost.
#[tokio::test]
async fn race_22_a_head_that_meets_a_renewal_promises_in_full() {
    for ends_well in [true, false] {
        let database = Database::postgres().await;
        let digest = database.push_blob("app", "layer").await;
        database.advance(PROMISE + TICK).await;
        // What `promise_blob` does.
        let renewing = "UPDATE repository_blobs SET expires_at = (SELECT l.expires_at FROM lease l)";
        let first = hold(&database, renewing).await;
        let metadata = database.metadata.clone();
        let second = async move { metadata.promise_blob(&repository("app"), &digest).await };
        let second = begin_blocked(&database, second).await;
        if ends_well {
            first.commit().await.unwrap();
        } else {
            first.rollback().await.unwrap();
        }
        assert!(second.await.unwrap().unwrap().is_some());
        database.advance(PROMISE).await;
        assert_promised(&database).await;
    }
}

async fn putting_a_blob_again_renews_as_a_head_does(database: Database) {
    let digest = database.push_blob("from", "blob").await;
    database.push_blob("app", "blob").await;
    for way in ["put", "upload", "mount"] {
        let first = expires_at(&database).await;
        for (step, renewed) in [(PROMISE, false), (TICK, true)] {
            database.advance(step).await;
            match way {
                "put" => drop(database.push_blob("app", "blob").await),
                "upload" => drop(database.upload_blob("app", &format!("{way}/{renewed}"), "blob").await),
                _ => mount(&database, &digest).await,
            }
            let expected = if renewed { database.now().await + 2 * micros(PROMISE) } else { first };
            assert_eq!(expires_at(&database).await, expected, "{way}, renewed: {renewed}");
        }
    }
}

async fn an_expired_blob_that_is_still_here_is_promised_again(database: Database) {
    let digest = database.push_blob("app", "blob").await;
    database.advance(PROMISE * 3).await;
    assert!(expires_at(&database).await < database.now().await);
    head(&database, &digest).await;
    assert_eq!(expires_at(&database).await, database.now().await + 2 * micros(PROMISE));
}

async fn a_deleted_manifest_leaves_its_layers_promised(database: Database) {
    database.push_blob("app", "layer").await;
    let manifest = database.push(image("app", "manifest", &["layer"])).await;
    database.advance(PROMISE * 10).await;
    database.metadata.delete_manifest(&repository("app"), &manifest, None).await.unwrap();
    assert_eq!(expires_at(&database).await, database.now().await + 2 * micros(PROMISE));
}

async fn a_deleted_manifest_never_shortens_a_lease(database: Database) {
    database.push_blob("app", "layer").await;
    let manifest = database.push(image("app", "manifest", &["layer"])).await;
    let first = expires_at(&database).await;
    let shorter = Lifetimes { promise: PROMISE / 2, review_delay: PROMISE, object_delay: PROMISE, undo: PROMISE };
    database.metadata.set_lifetimes(shorter).await.unwrap();
    database.metadata.delete_manifest(&repository("app"), &manifest, None).await.unwrap();
    assert_eq!(expires_at(&database).await, first);
}

async fn the_operators_promise_is_the_one_that_counts(database: Database) {
    let promise = PROMISE * 3;
    database
        .metadata
        .set_lifetimes(Lifetimes { promise, review_delay: PROMISE, object_delay: PROMISE, undo: PROMISE })
        .await
        .unwrap();
    let told = database.another_process().await.lifetimes().await.unwrap();
    assert_eq!((told.promise, told.review_delay), (promise, PROMISE), "every process is told");
    let digest = database.push_blob("app", "blob").await;
    assert_eq!(expires_at(&database).await, database.now().await + 2 * micros(promise));
    // A longer promise holds from the next look at the blob on.
    let promise = PROMISE * 10;
    database
        .metadata
        .set_lifetimes(Lifetimes { promise, review_delay: PROMISE, object_delay: PROMISE, undo: PROMISE })
        .await
        .unwrap();
    head(&database, &digest).await;
    assert_eq!(expires_at(&database).await, database.now().await + 2 * micros(promise));
}

/// Both rows carry the number of the transaction that wrote them.
#[tokio::test]
async fn blob_and_lease_are_written_in_one_transaction() {
    let database = Database::postgres().await;
    database.push_blob("app", "inline").await;
    database.upload_blob("app", "objects/1", "layer").await;
    let together = "SELECT count(*) FROM blobs b JOIN repository_blobs g ON g.blob_id = b.id WHERE b.xmin = g.xmin";
    assert_eq!(database.inside.count(together).await, 2);
}
