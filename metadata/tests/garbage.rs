//! Garbage collection's steps: what nothing keeps goes, and what somebody took up in between stays.

use crate::content::{IMAGE, digest_of, image, index, manifest, repository, tag, tagged};
use crate::database::{Database, PROMISE, REVIEW_DELAY, TICK};
use longshore_metadata::{
    BlobFacts, Breaker, CondemnedGrant, CondemnedManifest, Deleted, GarbageOutcome, GrantFacts, ManifestFacts,
    PutManifest, PutManifestOutcome, Review, ReviewPage,
};
use longshore_oci::Digest;
use std::time::{Duration, SystemTime};

on_both_engines!(
    a_manifest_is_read_with_what_keeps_it,
    a_page_goes_on_where_the_last_ended,
    an_unkept_manifest_is_deleted,
    a_manifest_that_was_tagged_in_between_stays,
    a_manifest_that_was_pushed_again_in_between_stays,
    a_child_of_an_index_that_came_in_between_stays,
    a_referrer_whose_subject_came_in_between_stays,
    what_an_index_kept_is_kept_no_longer_since_it_went,
    what_a_subject_kept_is_kept_no_longer_since_it_went,
    what_happens_after_a_review_was_read_is_reviewed_again,
    a_review_that_ended_is_gone_and_one_that_was_postponed_is_not_due,
    a_grant_is_read_with_what_keeps_it,
    a_grant_goes_when_its_lease_has_ended,
    a_grant_that_was_promised_again_in_between_stays,
    a_grant_that_a_manifest_needs_in_between_stays,
    a_blob_goes_with_its_last_grant_and_its_object_is_condemned,
    a_blob_in_its_row_goes_without_an_object,
    a_blob_that_was_pushed_again_in_between_stays,
    a_blob_that_two_repositories_let_go_at_one_tick_is_reviewed_again,
    too_many_blobs_stop_the_collection_until_somebody_lets_it_go_on,
    few_blobs_are_never_too_many,
    too_many_manifests_stop_the_collection_until_somebody_lets_it_go_on,
    few_manifests_are_never_too_many_and_each_day_counts_anew,
    a_new_day_begins_the_count_anew,
    a_clock_that_was_moved_makes_the_collection_wait,
    the_review_that_waits_longest_tells_how_late_it_is,
);

/// Everything may go.
pub(crate) const NO_BREAKER: Breaker = Breaker { percent: 100, floor: 0 };
const DUE: ReviewPage = ReviewPage { after: Review::FIRST, only_due: true, limit: 100 };

/// What was deleted: nothing stopped it.
pub(crate) fn went(outcome: GarbageOutcome) -> Deleted {
    match outcome {
        GarbageOutcome::Deleted(deleted) => deleted,
        GarbageOutcome::Stopped => panic!("it was stopped"),
    }
}

impl Database {
    /// The due reviews of manifests that are there.
    pub(crate) async fn due_manifests(&self) -> Vec<(Review, ManifestFacts)> {
        let reviewed = self.metadata.review_manifests(DUE).await.unwrap();
        reviewed.found.into_iter().filter_map(|(review, facts)| Some((review, facts?))).collect()
    }

    pub(crate) async fn facts(&self, digest: &Digest) -> (Review, ManifestFacts) {
        let due = self.due_manifests().await;
        due.into_iter().find(|(_, facts)| facts.digest == *digest).unwrap()
    }

    /// What the collector would delete, once its time has come.
    pub(crate) async fn condemn(&self, digest: &Digest) -> CondemnedManifest {
        let (review, facts) = self.facts(digest).await;
        let untagged_since = facts.untagged_since.unwrap();
        CondemnedManifest { review, repository: facts.repository, digest: *digest, untagged_since }
    }

    pub(crate) async fn collect_manifest(&self, condemned: CondemnedManifest) -> u64 {
        let outcome = self.metadata.delete_unkept_manifests(vec![condemned], NO_BREAKER).await.unwrap();
        went(outcome).count
    }

    /// What is to be deleted of these manifests, which nothing keeps.
    async fn condemn_all(&self, bodies: &[&str]) -> Vec<CondemnedManifest> {
        let mut condemned = Vec::new();
        for body in bodies {
            condemned.push(self.condemn(&digest_of(body)).await);
        }
        condemned
    }

    async fn collect_manifests(&self, condemned: Vec<CondemnedManifest>, breaker: Breaker) -> GarbageOutcome {
        self.metadata.delete_unkept_manifests(condemned, breaker).await.unwrap()
    }

    async fn due_grants(&self) -> Vec<(Review, GrantFacts)> {
        let reviewed = self.metadata.review_grants(DUE).await.unwrap();
        reviewed.found.into_iter().filter_map(|(review, facts)| Some((review, facts?))).collect()
    }

    pub(crate) async fn condemned_grants(&self) -> Vec<CondemnedGrant> {
        let condemn = |(review, facts): (Review, GrantFacts)| CondemnedGrant {
            review,
            repository: facts.repository,
            digest: facts.digest,
        };
        self.due_grants().await.into_iter().map(condemn).collect()
    }

    pub(crate) async fn due_blobs(&self) -> Vec<(Review, BlobFacts)> {
        let reviewed = self.metadata.review_blobs(DUE).await.unwrap();
        reviewed.found.into_iter().filter_map(|(review, facts)| Some((review, facts?))).collect()
    }

    pub(crate) async fn collect_blobs(&self, breaker: Breaker) -> GarbageOutcome {
        let reviews = self.due_blobs().await.into_iter().map(|(review, _)| review).collect();
        self.metadata.delete_unheld_blobs(reviews, breaker).await.unwrap()
    }

    /// Pushes blobs and takes them away again: they are garbage from then on.
    pub(crate) async fn leave_blobs(&self, names: &[&str]) {
        for name in names {
            let digest = self.push_blob("app", name).await;
            self.metadata.delete_blob(&repository("app"), &digest).await.unwrap();
        }
        self.advance(REVIEW_DELAY).await;
    }

    pub(crate) async fn is_there(&self, digest: &Digest) -> bool {
        self.metadata.find_manifest(&repository("app"), digest).await.unwrap().is_some()
    }
}

async fn a_manifest_is_read_with_what_keeps_it(database: Database) {
    let subject = database.push(tagged(manifest("app", "subject"), &["latest"])).await;
    let child = database.push(manifest("app", "child")).await;
    let parent = database.push(index("app", "index", &["child"])).await;
    let signature = PutManifest {
        subject: Some(subject),
        config_media_type: Some("application/vnd.example.config".into()),
        ..manifest("app", "signature")
    };
    let signature = database.push(signature).await;
    assert_eq!(database.due_manifests().await, [], "nothing is due yet");
    let pushed_at: SystemTime = SystemTime::UNIX_EPOCH + Duration::from_micros(database.now().await as u64);
    database.advance(REVIEW_DELAY).await;

    let found = database.facts(&subject).await.1;
    assert_eq!(found.tag, Some(tag("latest")));
    assert_eq!((found.parent, found.subject, found.untagged_since), (None, None, None));
    assert_eq!((found.repository, found.size, found.pushed_at), (repository("app"), 7, pushed_at));
    let found = database.facts(&child).await.1;
    assert_eq!((found.tag, found.parent, found.subject), (None, Some(parent), None));
    assert_eq!(found.untagged_since, Some(pushed_at));
    let found = database.facts(&signature).await.1;
    assert_eq!((found.tag, found.parent, found.subject), (None, None, Some(subject)));
    assert_eq!(found.config_media_type.as_deref(), Some("application/vnd.example.config"));
    let found = database.facts(&parent).await.1;
    assert_eq!((found.tag, found.parent, found.subject, found.last_pulled_at), (None, None, None, None));
}

async fn a_page_goes_on_where_the_last_ended(database: Database) {
    let mut pushed = Vec::new();
    for number in 0..5 {
        pushed.push(database.push(manifest("app", &format!("manifest {number}"))).await);
    }
    database.advance(REVIEW_DELAY).await;
    let (mut read, mut after) = (Vec::new(), Review::FIRST);
    loop {
        let page = ReviewPage { after, only_due: true, limit: 2 };
        let found = database.metadata.review_manifests(page).await.unwrap().found;
        assert!(found.len() <= 2);
        let Some((last, _)) = found.last() else { break };
        after = *last;
        read.extend(found.into_iter().map(|(_, facts)| facts.unwrap().digest));
    }
    assert_eq!(read, pushed);
}

async fn an_unkept_manifest_is_deleted(database: Database) {
    let digest = database.push_blob("app", "layer").await;
    let manifest = database.push(image("app", "manifest", &["layer"])).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&manifest).await;
    let deleted = went(database.collect_manifests(vec![condemned.clone()], NO_BREAKER).await);
    assert_eq!(deleted, Deleted { count: 1, bytes: 8 });
    assert!(!database.is_there(&manifest).await);
    assert_eq!(database.inside.count("SELECT count(*) FROM gc_queue WHERE kind = 1").await, 0);
    assert_eq!(database.collect_manifest(condemned).await, 0, "once");
    // Its layer is promised from now on, and reviewed.
    assert!(database.metadata.promise_blob(&repository("app"), &digest).await.unwrap().is_some());
    database.advance(REVIEW_DELAY).await;
    assert_eq!(database.due_grants().await.len(), 1);
}

async fn a_manifest_that_was_tagged_in_between_stays(database: Database) {
    let digest = database.push(manifest("app", "manifest")).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&digest).await;
    database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
    assert_eq!(database.collect_manifest(condemned).await, 0);
    assert!(database.is_there(&digest).await);
}

async fn a_manifest_that_was_pushed_again_in_between_stays(database: Database) {
    let digest = database.push(manifest("app", "manifest")).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&digest).await;
    database.push(manifest("app", "manifest")).await;
    assert_eq!(database.collect_manifest(condemned).await, 0);
    assert!(database.is_there(&digest).await);
}

async fn a_child_of_an_index_that_came_in_between_stays(database: Database) {
    let digest = database.push(manifest("app", "child")).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&digest).await;
    database.push(index("app", "index", &["child"])).await;
    assert_eq!(database.collect_manifest(condemned).await, 0);
    assert!(database.is_there(&digest).await);
}

async fn a_referrer_whose_subject_came_in_between_stays(database: Database) {
    let signature = PutManifest { subject: Some(digest_of("subject")), ..manifest("app", "signature") };
    let digest = database.push(signature).await;
    database.advance(REVIEW_DELAY).await;
    let condemned = database.condemn(&digest).await;
    database.push(manifest("app", "subject")).await;
    assert_eq!(database.collect_manifest(condemned).await, 0);
    assert!(database.is_there(&digest).await);
}

/// When this one came to be kept by nothing.
async fn unkept_since(database: &Database, digest: &Digest) -> i64 {
    let id = database.inside.manifest_id(digest).await;
    database.inside.number("SELECT untagged_since FROM manifests WHERE id = $1", &[id]).await.unwrap()
}

async fn what_an_index_kept_is_kept_no_longer_since_it_went(database: Database) {
    let child = database.push(manifest("app", "child")).await;
    let parent = database.push(tagged(index("app", "index", &["child"]), &["latest"])).await;
    database.advance(PROMISE).await;
    // By a client, which took its tag with it.
    database.metadata.delete_manifest(&repository("app"), &parent, None).await.unwrap();
    assert_eq!(unkept_since(&database, &child).await, database.now().await);
    // By garbage collection, long after it was kept by anything: the child has been kept by nothing for as long.
    database.push(index("app", "index", &["child"])).await;
    let pushed = database.now().await;
    database.advance(PROMISE).await;
    let condemned = database.condemn(&parent).await;
    assert_eq!(database.collect_manifest(condemned).await, 1);
    assert_eq!(unkept_since(&database, &child).await, pushed);
    database.assert_consistent().await;
}

async fn what_a_subject_kept_is_kept_no_longer_since_it_went(database: Database) {
    let subject = database.push(tagged(manifest("app", "subject"), &["latest"])).await;
    let referrer = |body| PutManifest { subject: Some(subject), ..manifest("app", body) };
    let loose = database.push(referrer("signature")).await;
    database.push(tagged(referrer("tagged signature"), &["signature"])).await;
    database.advance(PROMISE).await;
    database.metadata.delete_manifest(&repository("app"), &subject, None).await.unwrap();
    assert_eq!(unkept_since(&database, &loose).await, database.now().await);
    database.assert_consistent().await;
}

async fn what_happens_after_a_review_was_read_is_reviewed_again(database: Database) {
    let digest = database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
    database.advance(REVIEW_DELAY).await;
    let (review, facts) = database.facts(&digest).await;
    assert_eq!(facts.tag, Some(tag("latest")));
    database.metadata.delete_tag(&repository("app"), &tag("latest"), None).await.unwrap();
    // It was kept when it was read: what took the tag away is not to be forgotten with that.
    database.metadata.keep_manifests(vec![review], Vec::new()).await.unwrap();
    database.advance(REVIEW_DELAY).await;
    assert_eq!(database.facts(&digest).await.1.tag, None);
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    database.metadata.keep_manifests(Vec::new(), vec![(review, later)]).await.unwrap();
    assert_eq!(database.due_manifests().await.len(), 1);
}

async fn a_review_that_ended_is_gone_and_one_that_was_postponed_is_not_due(database: Database) {
    let (kept, postponed) = (manifest("app", "kept"), manifest("app", "postponed"));
    let (kept, postponed) = (database.push(kept).await, database.push(postponed).await);
    database.advance(REVIEW_DELAY).await;
    let now = database.metadata.review_manifests(DUE).await.unwrap().now;
    let (kept, postponed) = (database.facts(&kept).await.0, database.facts(&postponed).await.0);
    database.metadata.keep_manifests(vec![kept], vec![(postponed, now + PROMISE)]).await.unwrap();
    assert_eq!(database.due_manifests().await, []);
    assert_eq!(database.inside.count("SELECT count(*) FROM gc_queue").await, 1);
    database.advance(PROMISE).await;
    assert_eq!(database.due_manifests().await.len(), 1);
}

async fn a_grant_is_read_with_what_keeps_it(database: Database) {
    database.push_blob("app", "loose").await;
    database.push_blob("app", "layer").await;
    let manifest = database.push(image("app", "manifest", &["layer"])).await;
    let promised = SystemTime::UNIX_EPOCH + Duration::from_micros(database.now().await as u64) + 2 * PROMISE;
    database.advance(REVIEW_DELAY).await;
    let facts: Vec<_> = database.due_grants().await.into_iter().map(|(_, facts)| facts).collect();
    let grant = |content: &str, needed_by| GrantFacts {
        repository: repository("app"),
        digest: digest_of(content),
        size: 5,
        expires_at: promised,
        needed_by,
    };
    assert_eq!(facts, [grant("loose", None), grant("layer", Some(manifest))]);
}

async fn a_grant_goes_when_its_lease_has_ended(database: Database) {
    let digest = database.push_blob("app", "blob").await;
    database.advance(2 * PROMISE - TICK).await;
    let condemned = database.condemned_grants().await;
    let delete = |condemned: Vec<CondemnedGrant>| database.metadata.delete_unkept_grants(condemned);
    assert_eq!(delete(condemned.clone()).await.unwrap(), Deleted::default(), "it is promised still");
    database.advance(TICK).await;
    assert_eq!(delete(condemned).await.unwrap(), Deleted { count: 1, bytes: 4 });
    assert_eq!(database.metadata.find_blob(&repository("app"), &digest).await.unwrap(), None);
    assert_eq!(database.inside.count("SELECT count(*) FROM gc_queue WHERE kind = 2").await, 0);
    assert_eq!(database.due_blobs().await.len(), 1, "nobody can be promised it: there is nothing to wait for");
}

async fn a_grant_that_was_promised_again_in_between_stays(database: Database) {
    let digest = database.push_blob("app", "blob").await;
    database.advance(2 * PROMISE).await;
    let condemned = database.condemned_grants().await;
    assert!(database.metadata.promise_blob(&repository("app"), &digest).await.unwrap().is_some());
    assert_eq!(database.metadata.delete_unkept_grants(condemned).await.unwrap(), Deleted::default());
    assert!(database.metadata.find_blob(&repository("app"), &digest).await.unwrap().is_some());
}

async fn a_grant_that_a_manifest_needs_in_between_stays(database: Database) {
    database.push_blob("app", "layer").await;
    database.advance(2 * PROMISE).await;
    let condemned = database.condemned_grants().await;
    let put = database.metadata.put_manifest(image("app", "manifest", &["layer"])).await.unwrap();
    assert_eq!(put, PutManifestOutcome::Stored);
    assert_eq!(database.metadata.delete_unkept_grants(condemned).await.unwrap(), Deleted::default());
}

async fn a_blob_goes_with_its_last_grant_and_its_object_is_condemned(database: Database) {
    let digest = database.upload_blob("app", "objects/1", "layer").await;
    database.metadata.mount_blob(&repository("other"), &repository("app"), &digest).await.unwrap();
    let mut expected = [false, true].into_iter();
    for name in ["app", "other"] {
        database.metadata.delete_blob(&repository(name), &digest).await.unwrap();
        database.advance(REVIEW_DELAY).await;
        let is_last = expected.next().unwrap();
        let held_by: Vec<_> = database.due_blobs().await.into_iter().map(|(_, facts)| facts.held_by).collect();
        assert_eq!(held_by, [(!is_last).then(|| repository("other"))]);
        let deleted = Deleted { count: is_last.into(), bytes: if is_last { 5 } else { 0 } };
        assert_eq!(database.collect_blobs(NO_BREAKER).await, GarbageOutcome::Deleted(deleted));
    }
    assert_eq!(database.inside.count("SELECT count(*) FROM blobs").await, 0);
    assert_eq!(database.inside.count("SELECT count(*) FROM objects").await, 0);
    assert_eq!(database.inside.count("SELECT count(*) FROM gc_queue WHERE kind = 3").await, 0);
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/1"]);
}

async fn a_blob_in_its_row_goes_without_an_object(database: Database) {
    database.leave_blobs(&["blob"]).await;
    let deleted = Deleted { count: 1, bytes: 4 };
    assert_eq!(database.collect_blobs(NO_BREAKER).await, GarbageOutcome::Deleted(deleted));
    assert_eq!(database.inside.count("SELECT count(*) FROM tombstones").await, 0);
}

async fn a_blob_that_was_pushed_again_in_between_stays(database: Database) {
    database.leave_blobs(&["blob"]).await;
    let reviews: Vec<_> = database.due_blobs().await.into_iter().map(|(review, _)| review).collect();
    let digest = database.push_blob("other", "blob").await;
    let outcome = database.metadata.delete_unheld_blobs(reviews, NO_BREAKER).await.unwrap();
    assert_eq!(outcome, GarbageOutcome::Deleted(Deleted::default()));
    assert!(database.metadata.find_blob(&repository("other"), &digest).await.unwrap().is_some());
}

async fn a_blob_that_two_repositories_let_go_at_one_tick_is_reviewed_again(database: Database) {
    database.push_blob("first", "blob").await;
    database.push_blob("second", "blob").await;
    database.advance(2 * PROMISE).await;
    let mut condemned = database.condemned_grants().await;
    let second = condemned.split_off(1);
    database.metadata.delete_unkept_grants(condemned).await.unwrap();
    let (review, held) = database.due_blobs().await.remove(0);
    assert_eq!(held.held_by, Some(repository("second")));
    database.metadata.delete_unkept_grants(second).await.unwrap();
    // The second hold's review is due at the same tick as the first's, and is not to end with it.
    database.metadata.keep_blobs(vec![review]).await.unwrap();
    assert_eq!(database.due_blobs().await.len(), 1);
    assert_eq!(database.collect_blobs(NO_BREAKER).await, GarbageOutcome::Deleted(Deleted { count: 1, bytes: 4 }));
}

async fn too_many_blobs_stop_the_collection_until_somebody_lets_it_go_on(database: Database) {
    let breaker = Breaker { percent: 50, floor: 0 };
    database.push_blob("app", "stays").await;
    database.leave_blobs(&["one"]).await;
    let one = GarbageOutcome::Deleted(Deleted { count: 1, bytes: 3 });
    assert_eq!(database.collect_blobs(breaker).await, one, "half of them");
    database.leave_blobs(&["two"]).await;
    assert_eq!(database.collect_blobs(breaker).await, GarbageOutcome::Stopped);
    assert_eq!(database.inside.count("SELECT count(*) FROM blobs").await, 2);
    let why = database.metadata.collection_state().await.unwrap().stopped.unwrap();
    assert!(why.contains("2 of 2 blobs"), "{why}");
    assert_eq!(database.collect_blobs(NO_BREAKER).await, GarbageOutcome::Stopped, "whatever the rule is now");

    database.metadata.resume_collection().await.unwrap();
    assert_eq!(database.metadata.collection_state().await.unwrap().stopped, None);
    assert_eq!(database.collect_blobs(breaker).await, one);
}

async fn few_blobs_are_never_too_many(database: Database) {
    database.leave_blobs(&["one", "two"]).await;
    let deleted = GarbageOutcome::Deleted(Deleted { count: 2, bytes: 6 });
    assert_eq!(database.collect_blobs(Breaker { percent: 1, floor: 2 }).await, deleted);
    database.leave_blobs(&["three"]).await;
    assert_eq!(database.collect_blobs(Breaker { percent: 1, floor: 2 }).await, GarbageOutcome::Stopped);
}

async fn too_many_manifests_stop_the_collection_until_somebody_lets_it_go_on(database: Database) {
    let breaker = Breaker { percent: 50, floor: 0 };
    database.push(tagged(manifest("app", "stays"), &["latest"])).await;
    for body in ["one", "two", "three"] {
        database.push(manifest("app", body)).await;
    }
    database.advance(REVIEW_DELAY).await;
    let (first, second) = (database.condemn_all(&["one", "two"]).await, database.condemn_all(&["three"]).await);
    assert_eq!(went(database.collect_manifests(first, breaker).await).count, 2, "half of them");
    assert_eq!(database.collect_manifests(second.clone(), breaker).await, GarbageOutcome::Stopped);
    let why = database.metadata.collection_state().await.unwrap().stopped.unwrap();
    assert_eq!(why, "it would have deleted 3 of 4 manifests within a day, more than 50 %");
    assert_eq!(database.collect_manifests(second.clone(), NO_BREAKER).await, GarbageOutcome::Stopped);
    database.leave_blobs(&["blob"]).await;
    assert_eq!(database.collect_blobs(NO_BREAKER).await, GarbageOutcome::Stopped, "nothing else goes either");
    assert!(database.is_there(&digest_of("three")).await);

    database.metadata.resume_collection().await.unwrap();
    assert_eq!(went(database.collect_manifests(second, breaker).await).count, 1);
    database.assert_consistent().await;
}

async fn few_manifests_are_never_too_many_and_each_day_counts_anew(database: Database) {
    let breaker = Breaker { percent: 1, floor: 2 };
    for day in 0..2 {
        for body in ["one", "two"] {
            database.push(manifest("app", body)).await;
        }
        database.advance(REVIEW_DELAY).await;
        let condemned = database.condemn_all(&["one", "two"]).await;
        assert_eq!(went(database.collect_manifests(condemned, breaker).await).count, 2, "day {day}");
        database.advance(Duration::from_secs(24 * 3600)).await;
    }
}

async fn a_new_day_begins_the_count_anew(database: Database) {
    let breaker = Breaker { percent: 50, floor: 0 };
    for name in ["stays", "stays too", "and this"] {
        database.push_blob("app", name).await;
    }
    for name in ["one", "two", "three", "four"] {
        database.leave_blobs(&[name]).await;
        assert!(matches!(database.collect_blobs(breaker).await, GarbageOutcome::Deleted(_)), "{name}");
        database.advance(Duration::from_secs(24 * 3600)).await;
    }
}

async fn a_clock_that_was_moved_makes_the_collection_wait(database: Database) {
    let begin = || async { database.metadata.begin_collection().await.unwrap() };
    // The clock of the test stood still before: what was seen then was the real one.
    database.metadata.resume_collection().await.unwrap();
    assert_eq!(begin().await.waits_until, None);
    database.advance(PROMISE).await;
    assert_eq!(begin().await.waits_until, None, "nobody looked for a day");
    database.advance(PROMISE + TICK).await;
    let state = begin().await;
    assert_eq!(state.waits_until, Some(state.now + PROMISE));
    database.advance(PROMISE - TICK).await;
    assert!(begin().await.waits_until.is_some());
    database.advance(TICK).await;
    assert_eq!(begin().await.waits_until, None);
    database.inside.execute("UPDATE stopped_clock SET now = now - $1", &[3_600_000_000]).await.unwrap();
    let state = begin().await;
    assert_eq!(state.waits_until, Some(state.now + PROMISE), "back");
    database.metadata.resume_collection().await.unwrap();
    assert_eq!(begin().await.waits_until, None);
    database.metadata.hold_collection().await.unwrap();
    assert_eq!(begin().await.waits_until, Some(state.now + PROMISE));
}

async fn the_review_that_waits_longest_tells_how_late_it_is(database: Database) {
    assert_eq!(database.metadata.overdue_for().await.unwrap(), Duration::ZERO);
    database.push(PutManifest { media_type: IMAGE.into(), ..manifest("app", "manifest") }).await;
    assert_eq!(database.metadata.overdue_for().await.unwrap(), Duration::ZERO, "not due yet");
    database.advance(REVIEW_DELAY + TICK).await;
    database.push_blob("app", "blob").await;
    assert_eq!(database.metadata.overdue_for().await.unwrap(), TICK);
}
