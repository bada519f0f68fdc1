//! The past of tags, and manifests that were deleted and can be brought back.

use crate::content::{by, digest_of, image, manifest, repository, tag, tagged};
use crate::database::{BEGIN, Database, PROMISE, REVIEW_DELAY, TICK};
use longshore_metadata::{DeletedManifest, Lifetimes, TagChange};
use longshore_oci::Digest;
use std::time::{Duration, SystemTime};

on_both_engines!(
    every_move_of_a_tag_is_told_newest_first,
    a_page_of_the_history_ends_before_a_change,
    a_tag_is_resolved_as_of_a_time,
    what_is_gone_is_told_to_be_gone,
    a_deleted_manifest_can_be_brought_back_for_a_while,
    the_blobs_of_a_deleted_manifest_are_kept_as_long,
    without_undo_nothing_is_kept,
    the_last_delete_counts,
);

const UNDO: Duration = Duration::from_secs(7 * 24 * 3600);
const SECOND: Duration = Duration::from_secs(1);

impl Database {
    async fn keep_deleted_for(&self, undo: Duration) {
        let lifetimes = Lifetimes { promise: PROMISE, review_delay: REVIEW_DELAY, object_delay: PROMISE, undo };
        self.metadata.set_lifetimes(lifetimes).await.unwrap();
    }

    async fn delete(&self, digest: &Digest, who: &str) {
        self.metadata.delete_manifest(&repository("app"), digest, Some(who)).await.unwrap();
    }

    async fn deleted(&self, digest: &Digest) -> Option<DeletedManifest> {
        self.metadata.deleted_manifest(&repository("app"), digest).await.unwrap()
    }
}

/// So long after the test began.
fn after(duration: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(BEGIN as u64) + duration
}

/// A tag that moves from one manifest to another, and is deleted.
async fn move_and_delete(database: &Database) -> (Digest, Digest) {
    let first = database.push(by(tagged(manifest("app", "first"), &["latest"]), "alice")).await;
    database.advance(SECOND).await;
    let second = database.push(by(tagged(manifest("app", "second"), &["latest"]), "bob")).await;
    database.advance(SECOND).await;
    database.metadata.delete_tag(&repository("app"), &tag("latest"), None).await.unwrap();
    (first, second)
}

async fn every_move_of_a_tag_is_told_newest_first(database: Database) {
    let (first, second) = move_and_delete(&database).await;
    let changes = database.metadata.tag_changes(&repository("app"), &tag("latest"), None, 10).await.unwrap();
    let told: Vec<_> = changes.iter().map(|change| (change.digest, change.at, change.by.as_deref())).collect();
    let expected = [
        (None, after(2 * SECOND), None),
        (Some(second), after(SECOND), Some("bob")),
        (Some(first), after(Duration::ZERO), Some("alice")),
    ];
    assert_eq!(told, expected);
    let other = database.metadata.tag_changes(&repository("app"), &tag("other"), None, 10).await.unwrap();
    assert_eq!(other, []);
}

async fn a_page_of_the_history_ends_before_a_change(database: Database) {
    move_and_delete(&database).await;
    let (app, latest) = (repository("app"), tag("latest"));
    let page = |before| database.metadata.tag_changes(&app, &latest, before, 2);
    let newest = page(None).await.unwrap();
    let oldest = page(Some(newest[1].number)).await.unwrap();
    assert_eq!((newest.len(), oldest.len()), (2, 1));
    assert!(page(Some(oldest[0].number)).await.unwrap().is_empty());
}

async fn a_tag_is_resolved_as_of_a_time(database: Database) {
    let (first, second) = move_and_delete(&database).await;
    let (app, latest) = (repository("app"), tag("latest"));
    let at = |time| database.metadata.tag_at(&app, &latest, time);
    assert_eq!(at(after(Duration::ZERO) - TICK).await.unwrap(), None);
    for (time, digest) in [
        (after(Duration::ZERO), Some(first)),
        (after(SECOND) - TICK, Some(first)),
        (after(SECOND), Some(second)),
        (after(2 * SECOND), None),
        (after(1000 * SECOND), None),
    ] {
        let change = at(time).await.unwrap().unwrap();
        assert_eq!((change.digest, change.is_here), (digest, digest.is_some()), "{time:?}");
    }
}

async fn what_is_gone_is_told_to_be_gone(database: Database) {
    database.keep_deleted_for(UNDO).await;
    let (first, _) = move_and_delete(&database).await;
    let (app, latest) = (repository("app"), tag("latest"));
    let told = || async {
        let change: Option<TagChange> = database.metadata.tag_at(&app, &latest, after(Duration::ZERO)).await.unwrap();
        let change = change.unwrap();
        (change.is_here, change.is_restorable)
    };
    assert_eq!(told().await, (true, false));
    database.delete(&first, "carol").await;
    assert_eq!(told().await, (false, true), "it can be brought back");
    database.advance(UNDO).await;
    assert_eq!(told().await, (false, false));
}

async fn a_deleted_manifest_can_be_brought_back_for_a_while(database: Database) {
    database.keep_deleted_for(UNDO).await;
    let digest = database.push(manifest("app", "manifest")).await;
    assert_eq!(database.deleted(&digest).await, None);
    database.delete(&digest, "carol").await;
    database.advance(UNDO - TICK).await;
    let deleted = database.deleted(&digest).await.unwrap();
    assert_eq!((deleted.media_type, deleted.body), (crate::content::IMAGE.to_owned(), b"manifest".to_vec()));
    assert_eq!(database.metadata.deleted_manifest(&repository("other"), &digest).await.unwrap(), None);
    assert_eq!(database.metadata.forget_deleted(10).await.unwrap(), 0);
    database.advance(TICK).await;
    assert_eq!(database.deleted(&digest).await, None);
    assert_eq!(database.metadata.forget_deleted(10).await.unwrap(), 1);
    assert_eq!(database.inside.count("SELECT count(*) FROM deleted_manifests").await, 0);
}

async fn the_blobs_of_a_deleted_manifest_are_kept_as_long(database: Database) {
    database.keep_deleted_for(UNDO).await;
    for layer in ["layer", "other layer"] {
        database.push_blob("app", layer).await;
    }
    let digest = database.push(image("app", "manifest", &["layer"])).await;
    database.advance(SECOND).await;
    database.delete(&digest, "carol").await;
    let expires_at = "SELECT g.expires_at FROM repository_blobs g WHERE g.blob_id = $1";
    let layer = database.inside.blob_id(&digest_of("layer")).await;
    let other = database.inside.blob_id(&digest_of("other layer")).await;
    let micros = |duration: Duration| duration.as_micros() as i64;
    assert_eq!(database.inside.number(expires_at, &[layer]).await, Some(BEGIN + micros(SECOND + UNDO)));
    assert_eq!(database.inside.number(expires_at, &[other]).await, Some(BEGIN + micros(2 * PROMISE)));
    // As whoever brings it back does.
    database.advance(UNDO - TICK).await;
    database.push(image("app", "manifest", &["layer"])).await;
}

async fn without_undo_nothing_is_kept(database: Database) {
    let digest = database.push(manifest("app", "manifest")).await;
    database.delete(&digest, "carol").await;
    assert_eq!(database.deleted(&digest).await, None);
    assert_eq!(database.inside.count("SELECT count(*) FROM deleted_manifests").await, 0);
}

async fn the_last_delete_counts(database: Database) {
    database.keep_deleted_for(UNDO).await;
    let digest = database.push(manifest("app", "manifest")).await;
    database.delete(&digest, "carol").await;
    database.advance(UNDO - TICK).await;
    database.push(manifest("app", "manifest")).await;
    database.delete(&digest, "dave").await;
    database.advance(UNDO - TICK).await;
    assert!(database.deleted(&digest).await.is_some());
}
