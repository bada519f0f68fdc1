//! What a preview is told beside the queue: sessions that have not ended, a repository's hold on one blob, who needs it, and
//! what manifests need.

use crate::content::{UPLOAD_LIFETIME, digest_of, image, repository};
use crate::database::{Database, PROMISE, TICK};
use longshore_metadata::{BlobUser, GrantFacts, ManifestFacts, NeededBlob, OpenSession, Review, ReviewPage};
use longshore_oci::Digest;
use std::time::{Duration, SystemTime};

on_both_engines!(
    sessions_are_read_in_the_order_in_which_they_expire,
    sessions_that_expire_at_one_tick_are_each_read_once,
    a_session_that_somebody_goes_on_with_expires_later,
    a_hold_on_a_blob_is_read_with_what_keeps_it,
    a_blob_that_the_repository_does_not_hold_is_not_read,
    the_manifests_that_need_a_blob_are_read_page_by_page,
    a_blob_that_many_manifests_need_is_told_once_with_how_many,
);

impl Database {
    /// What its clock says, as a time.
    async fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.now().await as u64)
    }

    /// All sessions that have not ended, by pages of so many.
    async fn sessions(&self, limit: u32) -> Vec<OpenSession> {
        let mut all: Vec<OpenSession> = Vec::new();
        loop {
            let page = self.metadata.open_sessions(all.last(), limit).await.unwrap();
            if page.sessions.is_empty() {
                return all;
            }
            assert_eq!(page.now, self.time().await);
            assert!(page.sessions.len() <= limit as usize);
            all.extend(page.sessions);
        }
    }

    /// What these manifests of the queue need.
    async fn needed_by(&self, repository_name: &str, manifests: &[Digest]) -> Vec<NeededBlob> {
        let page = ReviewPage { after: Review::FIRST, only_due: false, limit: 100 };
        let found = self.metadata.review_manifests(page).await.unwrap().found;
        let wanted = repository(repository_name);
        let review = |(review, facts): (Review, Option<ManifestFacts>)| {
            let is_meant = facts.is_some_and(|facts| facts.repository == wanted && manifests.contains(&facts.digest));
            is_meant.then(|| review.thing())
        };
        let reviews: Vec<Review> = found.into_iter().filter_map(review).collect();
        assert_eq!(reviews.len(), manifests.len());
        self.metadata.blobs_needed_by(&reviews).await.unwrap()
    }
}

async fn sessions_are_read_in_the_order_in_which_they_expire(database: Database) {
    assert_eq!(database.sessions(2).await, []);
    let mut expected = Vec::new();
    for name in ["b", "a", "c"] {
        let id = database.open_upload(name).await.id;
        let expires_at = database.time().await + UPLOAD_LIFETIME;
        expected.push(OpenSession { id, repository: repository(name), received: 0, expires_at });
        database.advance(TICK).await;
    }
    assert_eq!(database.sessions(2).await, expected);
    database.advance(UPLOAD_LIFETIME).await;
    assert_eq!(database.sessions(2).await, expected, "expired, and not ended");
    database.metadata.expire_uploads(1).await.unwrap();
    assert_eq!(database.sessions(2).await, expected[1..]);
}

async fn sessions_that_expire_at_one_tick_are_each_read_once(database: Database) {
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(database.open_upload("app").await.id.to_string());
    }
    expected.sort();
    let found: Vec<_> = database.sessions(2).await.iter().map(|session| session.id.to_string()).collect();
    assert_eq!(found, expected);
}

async fn a_session_that_somebody_goes_on_with_expires_later(database: Database) {
    let address = database.open_upload("app").await;
    let expires_at = database.time().await + UPLOAD_LIFETIME;
    assert_eq!(database.sessions(1).await[0].expires_at, expires_at);
    database.advance(TICK).await;
    database.claim(&address).await;
    assert_eq!(database.sessions(1).await[0].expires_at, expires_at + TICK);
}

async fn a_hold_on_a_blob_is_read_with_what_keeps_it(database: Database) {
    let digest = database.push_blob("app", "layer").await;
    let expires_at = database.time().await + 2 * PROMISE;
    let facts = |needed_by| GrantFacts { repository: repository("app"), digest, size: 5, expires_at, needed_by };
    let found = async || database.metadata.grant_facts(&repository("app"), &digest).await.unwrap();
    assert_eq!(found().await, Some((database.time().await, facts(None))));
    let manifest = database.push(image("app", "manifest", &["layer"])).await;
    database.push(image("app", "another manifest", &["layer"])).await;
    database.advance(PROMISE).await;
    assert_eq!(found().await, Some((database.time().await, facts(Some(manifest)))));
}

async fn a_blob_that_the_repository_does_not_hold_is_not_read(database: Database) {
    let digest = database.push_blob("other", "layer").await;
    database.push_blob("app", "another layer").await;
    assert_eq!(database.metadata.grant_facts(&repository("app"), &digest).await.unwrap(), None);
    assert_eq!(database.metadata.grant_facts(&repository("nowhere"), &digest).await.unwrap(), None);
    assert_eq!(database.metadata.grant_facts(&repository("app"), &digest_of("nothing")).await.unwrap(), None);
}

async fn the_manifests_that_need_a_blob_are_read_page_by_page(database: Database) {
    for name in ["app", "other"] {
        database.push_blob(name, "layer").await;
        database.push_blob(name, "another layer").await;
    }
    let mut expected = Vec::new();
    for body in ["first", "second", "third"] {
        expected.push(database.push(image("app", body, &["layer"])).await);
        database.push(image("other", body, &["layer"])).await;
        database.push(image("app", &format!("{body} without it"), &["another layer"])).await;
    }
    let (app, layer) = (repository("app"), digest_of("layer"));
    let page = async |after| database.metadata.users_of_blob(&app, &layer, after, 2).await.unwrap();
    let digests = |users: &[BlobUser]| users.iter().map(|user| user.digest).collect::<Vec<_>>();
    let first = page(i64::MIN).await;
    assert_eq!(digests(&first), expected[..2]);
    let last = page(first[1].number).await;
    assert_eq!(digests(&last), expected[2..]);
    assert_eq!(page(last[0].number).await, []);
    let nothing = database.metadata.users_of_blob(&app, &digest_of("nothing"), i64::MIN, 2).await.unwrap();
    assert_eq!(nothing, []);
}

async fn a_blob_that_many_manifests_need_is_told_once_with_how_many(database: Database) {
    for (name, layer) in [("app", "base"), ("app", "own"), ("other", "base")] {
        database.push_blob(name, layer).await;
    }
    let first = database.push(image("app", "first", &["base", "own"])).await;
    let second = database.push(image("app", "second", &["base"])).await;
    let third = database.push(image("app", "third", &["base"])).await;
    let elsewhere = database.push(image("other", "first", &["base"])).await;
    let needed_by = async |name: &str, manifests: &[Digest]| -> Vec<(Digest, [u64; 4])> {
        let needed = database.needed_by(name, manifests).await;
        assert!(needed.iter().all(|blob| blob.repository == repository(name)), "{needed:?}");
        needed.iter().map(|blob| (blob.digest, [blob.size, blob.lost, blob.users, blob.holders])).collect()
    };
    let (base, own) = (digest_of("base"), digest_of("own"));
    assert_eq!(needed_by("app", &[first, second]).await, [(base, [4, 2, 3, 2]), (own, [3, 1, 1, 1])]);
    assert_eq!(needed_by("app", &[third]).await, [(base, [4, 1, 3, 2])]);
    assert_eq!(needed_by("app", &[first, second, third]).await[0], (base, [4, 3, 3, 2]));
    assert_eq!(needed_by("other", &[elsewhere]).await, [(base, [4, 1, 1, 2])]);
}
