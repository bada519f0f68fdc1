//! The past of tags, and manifests that were deleted and can be brought back.

use crate::content::{by, digest_of, image, manifest, repository, tag, tagged};
use crate::database::{BEGIN, Database, PROMISE, REVIEW_DELAY, TICK};
use longshore_metadata::{DeletedManifest, HistoryPlace, Lifetimes, TagChange};
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
    what_is_old_is_forgotten_but_for_what_a_tag_names,
    whatever_is_forgotten_every_time_since_is_answered_as_before,
    a_deletion_is_not_forgotten_before_what_it_ended,
    a_deletion_that_becomes_old_in_the_middle_waits_for_what_it_ended,
);

const UNDO: Duration = Duration::from_secs(7 * 24 * 3600);
const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

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

    async fn push_tags(&self, body: &str, names: &[&str]) -> Digest {
        self.push(tagged(manifest("app", body), names)).await
    }

    async fn delete_tag(&self, name: &str) {
        assert!(self.metadata.delete_tag(&repository("app"), &tag(name), None).await.unwrap(), "{name}");
    }

    /// What the tag has named, newest first; none where it was deleted.
    async fn past(&self, name: &str) -> Vec<Option<Digest>> {
        let changes = self.metadata.tag_changes(&repository("app"), &tag(name), None, 100).await.unwrap();
        changes.into_iter().map(|change| change.digest).collect()
    }

    /// What the tags named from then on, each half of a second; none where there was no such tag.
    async fn named_since(&self, names: &[&str], since: SystemTime) -> Vec<Option<Digest>> {
        let mut named = Vec::new();
        for name in names {
            for step in 0..20_u32 {
                let at = since + SECOND / 2 * step;
                let change = self.metadata.tag_at(&repository("app"), &tag(name), at).await.unwrap();
                named.push(change.and_then(|change| change.digest));
            }
        }
        named
    }

    /// Forgets what may be forgotten of the next few changes; answers how far it came.
    async fn forget_page(&self, age: Duration, after: HistoryPlace, limit: u32) -> Option<HistoryPlace> {
        self.metadata.forget_history(age, after, limit).await.unwrap()
    }

    /// Forgets all that is older and may be forgotten, so many changes at a time.
    async fn forget_history(&self, age: Duration, limit: u32) {
        let mut after = HistoryPlace::FIRST;
        while let Some(last) = self.forget_page(age, after, limit).await {
            after = last;
        }
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

async fn what_is_old_is_forgotten_but_for_what_a_tag_names(database: Database) {
    let first = database.push_tags("first", &["untouched", "moved", "deleted", "pushed-again"]).await;
    database.advance(SECOND).await;
    let second = database.push_tags("second", &["moved"]).await;
    for name in ["deleted", "pushed-again"] {
        database.delete_tag(name).await;
    }
    database.advance(SECOND).await;
    let third = database.push_tags("third", &["moved", "pushed-again"]).await;

    database.advance(YEAR - 2 * SECOND).await;
    database.forget_history(YEAR, 2).await;
    assert_eq!(database.inside.count("SELECT count(*) FROM tag_history").await, 9, "nothing is older than a year");

    database.advance(2 * SECOND).await;
    database.forget_history(YEAR, 2).await;
    assert_eq!(database.past("untouched").await, [Some(first)]);
    assert_eq!(database.past("moved").await, [Some(third), Some(second)], "it named the second a year ago");
    assert_eq!(database.past("pushed-again").await, [Some(third)]);
    assert_eq!(database.past("deleted").await, []);

    for _ in 0..2 {
        database.advance(YEAR).await;
        database.forget_history(YEAR, 2).await;
        assert_eq!(database.past("untouched").await, [Some(first)], "however long ago it was");
        assert_eq!(database.past("moved").await, [Some(third)]);
        assert_eq!(database.past("pushed-again").await, [Some(third)]);
    }
}

async fn whatever_is_forgotten_every_time_since_is_answered_as_before(database: Database) {
    const NAMES: [&str; 4] = ["untouched", "moved", "deleted", "pushed-again"];
    const STEPS: u32 = 8;
    database.push_tags("manifest", &NAMES).await;
    for step in 1..=STEPS {
        database.advance(SECOND).await;
        database.push_tags(&format!("manifest {step}"), &["moved"]).await;
        if step % 2 == 1 {
            database.delete_tag("pushed-again").await;
        } else {
            database.push_tags("manifest", &["pushed-again"]).await;
        }
        if step == 3 {
            database.delete_tag("deleted").await;
        }
    }
    for age in (0..=STEPS).rev() {
        let since = after(SECOND * (STEPS - age));
        let before = database.named_since(&NAMES, since).await;
        database.forget_history(SECOND * age, 3).await;
        assert_eq!(database.named_since(&NAMES, since).await, before, "{age} s ago and later");
    }
    // What "moved" named until now, and what each of the three tags names.
    assert_eq!(database.inside.count("SELECT count(*) FROM tag_history").await, 4);
}

/// The clock was set back between the two, so that the deletion is looked at first.
async fn a_deletion_is_not_forgotten_before_what_it_ended(database: Database) {
    database.push_tags("manifest", &["deleted"]).await;
    database.advance(SECOND).await;
    database.delete_tag("deleted").await;
    let later = "UPDATE tag_history SET changed_at = changed_at + 2000000 WHERE digest IS NOT NULL";
    assert_eq!(database.inside.execute(later, &[]).await.unwrap(), 1);
    database.advance(2 * YEAR).await;
    database.forget_history(YEAR, 1).await;
    assert_eq!(database.past("deleted").await, [None]);
    database.forget_history(YEAR, 1).await;
    assert_eq!(database.past("deleted").await, []);
}

async fn a_deletion_that_becomes_old_in_the_middle_waits_for_what_it_ended(database: Database) {
    let digest = database.push_tags("manifest", &["deleted"]).await;
    database.advance(SECOND).await;
    database.delete_tag("deleted").await;
    database.advance(YEAR).await;
    let came_to = database.forget_page(YEAR, HistoryPlace::FIRST, 1).await.unwrap();
    database.advance(TICK).await;
    assert!(database.forget_page(YEAR, came_to, 1).await.is_some(), "it is looked at");
    assert_eq!(database.past("deleted").await, [None, Some(digest)]);
    database.forget_history(YEAR, 1).await;
    assert_eq!(database.past("deleted").await, []);
}
