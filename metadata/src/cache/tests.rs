//! The cache by itself, and in the middle of the database's reads and writes, step by step: whatever can happen between
//! a look at the counters, a query, a commit and its announcement is played here in a fixed order. That the whole works
//! is for `tests/cache.rs`.

use super::*;
use crate::{BlobContent, BlobRecord, ConnectOptions, Engine, Lifetimes, Metadata, PutInlineBlob, PutManifest, Result};
use bytes::Bytes;
use longshore_oci::{Algorithm, ImmutableTags};
use longshore_tests::postgres::Postgres;

fn app() -> RepositoryName {
    "app".parse().unwrap()
}

fn latest() -> Tag {
    "latest".parse().unwrap()
}

fn digest_of(content: &str) -> Digest {
    Digest::of(Algorithm::Sha256, content.as_bytes())
}

fn manifest(body: &str, tags: &[&str]) -> PutManifest {
    PutManifest {
        repository: app(),
        digest: digest_of(body),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        artifact_type: None,
        config_media_type: None,
        subject: None,
        annotations: None,
        body: body.as_bytes().to_vec(),
        blobs: Vec::new(),
        children: Vec::new(),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        pushed_by: None,
        immutable: ImmutableTags::default(),
        allow_absent: false,
    }
}

fn record(body: &str) -> ManifestRecord {
    ManifestRecord { digest: digest_of(body), media_type: "a".into(), body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn open_cache(max_bytes: u64) -> Cache {
    let cache = Cache::new(max_bytes, Duration::from_secs(60));
    cache.open();
    cache
}

fn keep(cache: &Cache, body: &str) {
    let record = record(body);
    cache.begin(Question::Manifest(&app(), &record.digest)).unwrap().keep_manifest(&record);
}

fn shared(cache: &Cache) -> &Shared {
    cache.0.as_deref().unwrap()
}

impl Metadata {
    /// The tag as the database has it.
    async fn query_tag(&self, tag: &Tag) -> Result<ManifestRecord> {
        Ok(on_engine!(self.find_tag(&app(), tag))?.unwrap())
    }
}

/// Both engines, each with a cache that is open for good: notifications must not be what makes these tests right.
async fn both_engines() -> Vec<(Metadata, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("longshore.db").display());
    let mut both = Vec::new();
    for (url, folder) in [(file, Some(folder)), (Postgres::shared().create_database(), None)] {
        let acquire_timeout = Duration::from_secs(60);
        let options = ConnectOptions { url, max_connections: 4, acquire_timeout, cache_size: 1 << 20 };
        let metadata = Metadata::connect(&options).await.unwrap();
        metadata.migrate().await.unwrap();
        if let Engine::Postgres(store) = &metadata.engine {
            store.stop_listening();
        }
        metadata.cache.open();
        both.push((metadata, folder));
    }
    both
}

#[tokio::test]
async fn a_reader_that_a_writer_overtakes_keeps_nothing_stale() {
    for (metadata, _folder) in both_engines().await {
        metadata.put_manifest(manifest("old", &["latest"])).await.unwrap();
        let (app, latest) = (app(), latest());
        let reading = metadata.cache.begin(Question::Tag(&app, &latest)).unwrap();
        let old = metadata.query_tag(&latest).await.unwrap();
        metadata.put_manifest(manifest("new", &["latest"])).await.unwrap();
        reading.keep_tag(&old);
        assert_eq!(metadata.cache.tag(&app, &latest), None);
        assert_eq!(metadata.find_tag(&app, &latest).await.unwrap().unwrap().digest, digest_of("new"));
    }
}

#[tokio::test]
async fn what_a_reader_keeps_between_commit_and_announcement_dies_with_the_announcement() {
    for (metadata, _folder) in both_engines().await {
        metadata.put_manifest(manifest("old", &["latest"])).await.unwrap();
        let (app, latest) = (app(), latest());
        let reading = metadata.cache.begin(Question::Tag(&app, &latest)).unwrap();
        let old = metadata.query_tag(&latest).await.unwrap();
        // A writer whose caller is told only later.
        let announcement = metadata.cache.announce(vec![Change::Tag(app.clone(), latest.clone())]);
        reading.keep_tag(&old);
        assert_eq!(metadata.cache.tag(&app, &latest), Some(old), "before the answer, either is right");
        drop(announcement);
        assert_eq!(metadata.cache.tag(&app, &latest), None);
    }
}

/// The tag's own counter stays where it is: only the manifest that it names has another type now.
#[tokio::test]
async fn a_reader_of_a_tag_that_a_new_push_of_its_manifest_overtakes_keeps_no_old_type() {
    for (metadata, _folder) in both_engines().await {
        metadata.put_manifest(manifest("body", &["latest"])).await.unwrap();
        let (app, latest) = (app(), latest());
        let reading = metadata.cache.begin(Question::Tag(&app, &latest)).unwrap();
        let old = metadata.query_tag(&latest).await.unwrap();
        let retyped = PutManifest { media_type: "another/type".to_owned(), ..manifest("body", &["second"]) };
        metadata.put_manifest(retyped).await.unwrap();
        reading.keep_tag(&old);
        assert_eq!(metadata.cache.manifest(&app, &old.digest), None);
        assert_eq!(metadata.cache.tag(&app, &latest), None);
        assert_eq!(&*metadata.find_tag(&app, &latest).await.unwrap().unwrap().media_type, "another/type");
    }
}

/// Nobody raises the tag's own counter: who deletes a manifest does not know its tags.
#[tokio::test]
async fn a_reader_of_a_tag_whose_manifest_goes_and_comes_again_keeps_nothing() {
    for (metadata, _folder) in both_engines().await {
        metadata.put_manifest(manifest("body", &["latest"])).await.unwrap();
        let (app, latest) = (app(), latest());
        let reading = metadata.cache.begin(Question::Tag(&app, &latest)).unwrap();
        let old = metadata.query_tag(&latest).await.unwrap();
        metadata.delete_manifest(&app, &old.digest, None).await.unwrap();
        metadata.put_manifest(manifest("body", &[])).await.unwrap();
        assert!(metadata.find_manifest(&app, &old.digest).await.unwrap().is_some());
        reading.keep_tag(&old);
        assert_eq!(metadata.find_tag(&app, &latest).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_deleted_manifest_that_comes_again_has_not_its_old_tags() {
    for (metadata, _folder) in both_engines().await {
        let (app, latest) = (app(), latest());
        metadata.put_manifest(manifest("body", &["latest"])).await.unwrap();
        metadata.find_tag(&app, &latest).await.unwrap();
        metadata.delete_manifest(&app, &digest_of("body"), None).await.unwrap();
        metadata.put_manifest(manifest("body", &[])).await.unwrap();
        assert!(metadata.find_manifest(&app, &digest_of("body")).await.unwrap().is_some());
        assert_eq!(metadata.find_tag(&app, &latest).await.unwrap(), None);
    }
}

/// Every kind of change, and what it must and must not reach.
#[tokio::test]
async fn a_change_kills_what_it_names_and_spares_the_rest() {
    let (app, latest, blob) = (app(), latest(), digest_of("blob"));
    let elsewhere: RepositoryName = "elsewhere".parse().unwrap();
    let of_app = record("body");
    let blob_record = BlobRecord { size: 4, content: BlobContent::Inline(Bytes::from_static(b"blob")) };
    let cases = [
        (Change::Tag(app.clone(), latest.clone()), [false, true, true, true, true]),
        (Change::Manifest(app.clone(), of_app.digest), [false, false, true, true, true]),
        (Change::Blob(app.clone(), blob), [true, true, false, false, true]),
        (Change::Repository(app.clone()), [false, false, false, false, true]),
        (Change::Everything, [false; 5]),
    ];
    for (change, expected) in cases {
        let cache = open_cache(1 << 20);
        cache.begin(Question::Tag(&app, &latest)).unwrap().keep_tag(&of_app);
        cache.begin(Question::Blob(&app, &blob)).unwrap().keep_blob(&blob_record);
        let promised = Promised { size: 4, spare: Duration::from_secs(3600) };
        cache.begin(Question::Promise(&app, &blob)).unwrap().keep_promise(&promised);
        cache.begin(Question::Manifest(&elsewhere, &of_app.digest)).unwrap().keep_manifest(&of_app);
        let found = || {
            [
                cache.tag(&app, &latest).is_some(),
                cache.manifest(&app, &of_app.digest).is_some(),
                cache.blob(&app, &blob).is_some(),
                cache.promise(&app, &blob).is_some(),
                cache.manifest(&elsewhere, &of_app.digest).is_some(),
            ]
        };
        assert_eq!(found(), [true; 5]);
        cache.changed(&change);
        assert_eq!(found(), expected, "{change:?}");
    }
}

#[tokio::test]
async fn a_changed_promise_is_in_force_at_once() {
    for (metadata, _folder) in both_engines().await {
        let (app, digest) = (app(), digest_of("blob"));
        let content = b"blob".to_vec();
        metadata.put_inline_blob(PutInlineBlob { repository: app.clone(), digest, content }).await.unwrap();
        metadata.promise_blob(&app, &digest).await.unwrap();
        assert_eq!(metadata.cache.promise(&app, &digest), Some(4));
        let week = Duration::from_secs(7 * 86_400);
        metadata
            .set_lifetimes(Lifetimes { promise: week, review_delay: week, object_delay: week, undo: week })
            .await
            .unwrap();
        assert_eq!(metadata.cache.promise(&app, &digest), None);
    }
}

/// Time goes by from before the query, and a margin is left.
#[test]
fn a_promise_is_kept_while_the_lease_outlasts_it() {
    let (app, digest) = (app(), digest_of("blob"));
    for (spare, is_kept) in [
        (Duration::ZERO, false),
        (PROMISE_MARGIN, false),
        (PROMISE_MARGIN + Duration::from_nanos(1), false), // over by the time that it is asked for
        (PROMISE_MARGIN + Duration::from_secs(3600), true),
    ] {
        let cache = open_cache(1 << 20);
        let reading = cache.begin(Question::Promise(&app, &digest)).unwrap();
        let began = reading.began;
        reading.keep_promise(&Promised { size: 4, spare });
        assert_eq!(cache.promise(&app, &digest), is_kept.then_some(4), "{spare:?}");
        if let Some(Answer::Promise { until, .. }) = shared(&cache).answer(Question::Promise(&app, &digest)) {
            assert_eq!(until, began + (spare - PROMISE_MARGIN).as_nanos() as u64);
        }
    }
}

#[test]
fn a_closed_cache_answers_nothing_and_keeps_nothing() {
    let (app, digest) = (app(), digest_of("body"));
    let cache = Cache::new(1 << 20, Duration::from_secs(60));
    assert!(cache.begin(Question::Manifest(&app, &digest)).is_none());
    cache.open_for(Duration::ZERO);
    assert!(cache.begin(Question::Manifest(&app, &digest)).is_none(), "its time is over");
    cache.stay_open_for(Duration::from_secs(3600));
    keep(&cache, "body");
    assert!(cache.manifest(&app, &digest).is_some());
    let reading = cache.begin(Question::Manifest(&app, &digest)).unwrap();
    cache.close();
    cache.stay_open_for(Duration::from_secs(3600));
    assert_eq!(cache.manifest(&app, &digest), None, "what was closed is not kept open");
    cache.open();
    assert_eq!(cache.manifest(&app, &digest), None, "what was kept before is dead");
    reading.keep_manifest(&record("body"));
    assert_eq!(cache.manifest(&app, &digest), None, "and so is what began before");
    keep(&cache, "body");
    assert!(cache.manifest(&app, &digest).is_some());
}

#[test]
fn it_is_bounded_in_bytes() {
    const MAX: u64 = 1 << 20;
    let cache = open_cache(MAX);
    for number in 0..4_000 {
        keep(&cache, &format!("{number:01000}"));
    }
    shared(&cache).entries.settle();
    let usage = cache.usage();
    assert!(usage.bytes <= MAX && usage.bytes > MAX / 2, "{usage:?}");
    assert!((300..=MAX / 1_000).contains(&usage.entries), "{usage:?}");
    // What is larger than all of it is not kept, and drives nothing out.
    keep(&cache, &"x".repeat(2 << 20));
    assert_eq!(cache.usage().entries, usage.entries);
}

#[test]
fn large_entries_do_not_pile_up_in_line() {
    const MAX: u64 = 1 << 20;
    let cache = open_cache(MAX);
    for number in 0..50 {
        keep(&cache, &format!("{number:060000}").repeat(5));
        assert!(shared(&cache).entries.bytes() <= MAX, "{number}");
    }
}

#[test]
fn answers_share_their_bytes() {
    let (app, digest) = (app(), digest_of("body"));
    let cache = open_cache(1 << 20);
    keep(&cache, "body");
    let (one, two) = (cache.manifest(&app, &digest).unwrap(), cache.manifest(&app, &digest).unwrap());
    assert_eq!(one.body.as_ptr(), two.body.as_ptr());
    assert_eq!(one.media_type.as_ptr(), two.media_type.as_ptr());
}

#[test]
fn without_room_it_is_off() {
    let cache = Cache::new(0, Duration::ZERO);
    cache.open();
    assert!(!cache.is_on());
    assert!(cache.begin(Question::Tag(&app(), &latest())).is_none());
    assert_eq!(cache.usage(), CacheUsage::default());
}
