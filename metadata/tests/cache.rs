//! Reads that are answered from memory: they are, and never with what a write that was answered has changed.

use crate::content::{digest_of, image, index, inline_blob, manifest, repository, tag, tagged};
use crate::database::{Database, PROMISE, TICK, micros};
use crate::inside::Inside;
use futures_util::FutureExt as _;
use longshore_metadata::{BlobContent, Breaker, CacheUsage, Deleted, GarbageOutcome, Lifetimes, Metadata, PutManifest};
use longshore_oci::{Digest, RepositoryName};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use std::time::Duration;

on_both_engines!(
    what_was_read_once_comes_from_memory,
    a_manifest_that_was_read_by_its_tag_is_there_by_its_digest,
    what_is_absent_is_asked_for_each_time,
    without_room_every_read_is_a_query,
    a_head_renews_in_time_although_it_is_remembered,
    every_read_after_a_write_sees_it,
    what_goes_leaves_the_rest_of_its_repository_in_memory,
    a_closed_handle_answers_nothing,
);

/// Enough for everything that a test puts in.
pub(crate) const ROOM: u64 = 4 << 20;

impl Database {
    /// A process with a cache, once that is open.
    pub(crate) async fn process_with_cache(&self) -> Metadata {
        let metadata = self.empty.connect_with_cache(ROOM).await;
        until_open(&metadata).await;
        metadata
    }
}

/// How long a test waits for what takes a moment, so that a notification that never comes fails it. Shorter than an entry
/// lives, which would help a lost one.
const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until a check holds.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !check().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, holds).await.is_ok(), "{what}");
}

pub(crate) async fn until_open(metadata: &Metadata) {
    until("it is open", async || metadata.cache_usage().is_open).await;
}

/// How often reads were answered from memory, and by the database.
fn hits_and_misses(metadata: &Metadata) -> (u64, u64) {
    let CacheUsage { hits, misses, .. } = metadata.cache_usage();
    (hits, misses)
}

async fn what_was_read_once_comes_from_memory(database: Database) {
    let app = repository("app");
    let cached = database.process_with_cache().await;
    let small = database.push_blob("app", "small").await;
    let large = database.upload_blob("app", "objects/1", "large").await;
    let manifest = database.push(tagged(image("app", "manifest", &["small"]), &["latest"])).await;
    for (number, known) in [(0, (0, 0)), (1, (0, 5)), (2, (5, 5)), (3, (10, 5))] {
        assert_eq!(hits_and_misses(&cached), known, "after {number} rounds");
        let found = cached.find_manifest(&app, &manifest).await.unwrap().unwrap();
        assert_eq!((found.digest, &found.body[..]), (manifest, &b"manifest"[..]));
        let found = cached.find_tag(&app, &tag("latest")).await.unwrap().unwrap();
        assert_eq!((found.digest, &found.body[..]), (manifest, &b"manifest"[..]));
        let found = cached.find_blob(&app, &small).await.unwrap().unwrap();
        assert_eq!((found.size, found.content), (5, BlobContent::Inline(b"small".as_slice().into())));
        let found = cached.find_blob(&app, &large).await.unwrap().unwrap();
        assert_eq!((found.size, found.content), (5, BlobContent::Object { key: "objects/1".into() }));
        assert_eq!(cached.promise_blob(&app, &small).await.unwrap(), Some(5));
    }
}

async fn a_manifest_that_was_read_by_its_tag_is_there_by_its_digest(database: Database) {
    let app = repository("app");
    let cached = database.process_with_cache().await;
    let digest = database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
    let by_tag = cached.find_tag(&app, &tag("latest")).await.unwrap().unwrap();
    let by_digest = cached.find_manifest(&app, &digest).await.unwrap().unwrap();
    assert_eq!(hits_and_misses(&cached), (1, 1));
    assert_eq!(by_tag.body.as_ptr(), by_digest.body.as_ptr(), "a hit copies nothing");
}

async fn what_is_absent_is_asked_for_each_time(database: Database) {
    let app = repository("app");
    let cached = database.process_with_cache().await;
    let digest = digest_of("content");
    for _ in 0..2 {
        assert_eq!(cached.find_manifest(&app, &digest).await.unwrap(), None);
        assert_eq!(cached.find_tag(&app, &tag("latest")).await.unwrap(), None);
        assert_eq!(cached.find_blob(&app, &digest).await.unwrap(), None);
        assert_eq!(cached.promise_blob(&app, &digest).await.unwrap(), None);
    }
    assert_eq!(hits_and_misses(&cached), (0, 8));
    // Another process puts it there, and nobody has to be told.
    database.push(tagged(manifest("app", "content"), &["latest"])).await;
    database.push_blob("app", "content").await;
    assert!(cached.find_tag(&app, &tag("latest")).await.unwrap().is_some());
    assert!(cached.find_blob(&app, &digest).await.unwrap().is_some());
}

async fn without_room_every_read_is_a_query(database: Database) {
    let digest = database.push(manifest("app", "manifest")).await;
    for _ in 0..2 {
        assert!(database.metadata.find_manifest(&repository("app"), &digest).await.unwrap().is_some());
    }
    assert_eq!(database.metadata.cache_usage(), CacheUsage::default());
}

/// When the lease of the one grant ends.
async fn expires_at(database: &Database) -> i64 {
    database.inside.number("SELECT expires_at FROM repository_blobs", &[]).await.unwrap()
}

/// The clock of a test jumps, ours does not: what matters is what was left when the blob was looked at.
async fn a_head_renews_in_time_although_it_is_remembered(database: Database) {
    let app = repository("app");
    let digest = database.push_blob("app", "blob").await;
    let first = expires_at(&database).await;
    // Five seconds before it has to be renewed: too few to remember it.
    database.advance(PROMISE - Duration::from_secs(5)).await;
    let cached = database.process_with_cache().await;
    for _ in 0..2 {
        assert_eq!(cached.promise_blob(&app, &digest).await.unwrap(), Some(4));
    }
    assert_eq!((hits_and_misses(&cached), expires_at(&database).await), ((0, 2), first));
    database.advance(Duration::from_secs(5) + TICK).await;
    assert_eq!(cached.promise_blob(&app, &digest).await.unwrap(), Some(4));
    assert_eq!(expires_at(&database).await, database.now().await + 2 * micros(PROMISE));
    // And what the renewal left is known.
    assert_eq!(cached.promise_blob(&app, &digest).await.unwrap(), Some(4));
    assert_eq!(hits_and_misses(&cached), (1, 3));
    // A longer promise holds from the next look at the blob on.
    let longer = Lifetimes { promise: PROMISE * 9, review_delay: PROMISE, object_delay: PROMISE, undo: PROMISE };
    cached.set_lifetimes(longer).await.unwrap();
    assert_eq!(cached.promise_blob(&app, &digest).await.unwrap(), Some(4));
    assert_eq!(expires_at(&database).await, database.now().await + 2 * micros(PROMISE * 9));
}

async fn a_closed_handle_answers_nothing(database: Database) {
    let cached = database.process_with_cache().await;
    let digest = database.push(manifest("app", "manifest")).await;
    cached.find_manifest(&repository("app"), &digest).await.unwrap();
    cached.close().await;
    assert!(cached.find_manifest(&repository("app"), &digest).await.is_err());
}

/// A write to one of two repositories; things are told apart by small numbers.
#[derive(Debug, Clone, Copy)]
enum Write {
    /// Of these bytes, as one of two types, with a tag or without.
    Manifest(u8, bool, Option<u8>),
    /// An index of the manifest, which keeps it from being deleted.
    Index(u8),
    DeleteManifest(u8),
    DeleteTag(u8),
    Blob(u8),
    Upload(u8),
    Mount(u8),
    DeleteBlob(u8),
    Lifetimes(u8),
}

const NAMES: [&str; 2] = ["one", "two"];
const THINGS: u8 = 2;

fn writes() -> impl Strategy<Value = Vec<(usize, Write)>> {
    let thing = || 0..THINGS;
    let write = prop_oneof![
        4 => (thing(), any::<bool>(), proptest::option::of(thing())).prop_map(|(n, t, tag)| Write::Manifest(n, t, tag)),
        1 => thing().prop_map(Write::Index),
        2 => thing().prop_map(Write::DeleteManifest),
        2 => thing().prop_map(Write::DeleteTag),
        2 => thing().prop_map(Write::Blob),
        1 => thing().prop_map(Write::Upload),
        1 => thing().prop_map(Write::Mount),
        2 => thing().prop_map(Write::DeleteBlob),
        1 => thing().prop_map(Write::Lifetimes),
    ];
    proptest::collection::vec((0..NAMES.len(), write), 1..16)
}

fn body(number: u8) -> String {
    format!("manifest {number}")
}

fn content(number: u8) -> String {
    format!("blob {number}")
}

/// Repositories of a case of its own.
fn names(case: u64) -> [String; 2] {
    NAMES.map(|name| format!("case-{case}/{name}"))
}

/// The outcome does not matter: what is refused changes nothing.
async fn apply(database: &Database, cached: &Metadata, case: u64, step: usize, (at, write): (usize, Write)) {
    let names = names(case);
    let (name, other) = (names[at].as_str(), repository(&names[1 - at]));
    let here = repository(name);
    match write {
        Write::Manifest(number, is_retyped, tagged_as) => {
            let tags: Vec<String> = tagged_as.iter().map(|tag| format!("tag-{tag}")).collect();
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            let mut put = tagged(manifest(name, &body(number)), &tags);
            if is_retyped {
                put.media_type = "another/type".to_owned();
            }
            let _outcome = cached.put_manifest(put).await.unwrap();
        }
        Write::Index(number) => {
            let _outcome = cached.put_manifest(index(name, "index", &[&body(number)])).await.unwrap();
        }
        Write::DeleteManifest(number) => {
            let _outcome = cached.delete_manifest(&here, &digest_of(&body(number)), None).await.unwrap();
        }
        Write::DeleteTag(number) => {
            let _outcome = cached.delete_tag(&here, &tag(&format!("tag-{number}")), None).await.unwrap();
        }
        Write::Blob(number) => cached.put_inline_blob(inline_blob(name, &content(number))).await.unwrap(),
        Write::Upload(number) => {
            let key = format!("objects/{case}-{step}");
            let commit = database.attached_upload(name, &key, &content(number)).await;
            cached.commit_upload(commit).await.unwrap();
        }
        Write::Mount(number) => {
            let _outcome = cached.mount_blob(&here, &other, &digest_of(&content(number))).await.unwrap();
        }
        Write::DeleteBlob(number) => {
            let _outcome = cached.delete_blob(&here, &digest_of(&content(number))).await.unwrap();
        }
        Write::Lifetimes(number) => {
            let promise = PROMISE * u32::from(1 + number);
            let lifetimes = Lifetimes { promise, review_delay: PROMISE, object_delay: PROMISE, undo: PROMISE };
            cached.set_lifetimes(lifetimes).await.unwrap();
        }
    }
}

/// Reads everything there may be, by both handles.
async fn assert_same_reads(cached: &Metadata, uncached: &Metadata, case: u64) {
    for name in names(case) {
        let here = repository(&name);
        for number in 0..THINGS {
            let tag = tag(&format!("tag-{number}"));
            let (found, expected) = (cached.find_tag(&here, &tag).await, uncached.find_tag(&here, &tag).await);
            assert_eq!(found.unwrap(), expected.unwrap(), "{tag}");
            assert_same_content(cached, uncached, &here, &digest_of(&body(number))).await;
            assert_same_content(cached, uncached, &here, &digest_of(&content(number))).await;
        }
    }
}

async fn assert_same_content(cached: &Metadata, uncached: &Metadata, here: &RepositoryName, digest: &Digest) {
    let (found, expected) = (cached.find_manifest(here, digest).await, uncached.find_manifest(here, digest).await);
    assert_eq!(found.unwrap(), expected.unwrap());
    let (found, expected) = (cached.find_blob(here, digest).await, uncached.find_blob(here, digest).await);
    assert_eq!(found.unwrap(), expected.unwrap());
    // The cached one first: the other may renew the lease.
    let (found, expected) = (cached.promise_blob(here, digest).await, uncached.promise_blob(here, digest).await);
    assert_eq!(found.unwrap(), expected.unwrap());
}

/// After each write everything is read, so before each write everything that there is lies in memory.
async fn every_read_after_a_write_sees_it(database: Database) {
    let cached = database.process_with_cache().await;
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(12) });
    for case in 0..12 {
        let script = writes().new_tree(&mut runner).unwrap().current();
        println!("case {case}: {script:?}");
        for (step, write) in script.iter().enumerate() {
            apply(&database, &cached, case, step, *write).await;
            assert_same_reads(&cached, &database.metadata, case).await;
        }
    }
    let (hits, misses) = hits_and_misses(&cached);
    assert!(hits > 0 && misses > 0, "{hits} hits, {misses} misses");
}

/// Whether a client deletes it or the collector.
async fn what_goes_leaves_the_rest_of_its_repository_in_memory(database: Database) {
    let app = repository("app");
    let cached = database.process_with_cache().await;
    let blob = database.push_blob("app", "blob").await;
    let kept = database.push(tagged(image("app", "kept", &["blob"]), &["latest"])).await;
    let [goes, is_collected] = ["goes", "is collected"].map(|name| manifest("app", name));
    let (goes, is_collected) = (database.push(tagged(goes, &["goes"])).await, database.push(is_collected).await);
    database.advance(PROMISE * 3).await;
    let condemned = database.condemn(&is_collected).await;
    let read = async || {
        assert_eq!(cached.find_tag(&app, &tag("latest")).await.unwrap().unwrap().digest, kept);
        assert!(cached.find_manifest(&app, &kept).await.unwrap().is_some());
        assert!(cached.find_blob(&app, &blob).await.unwrap().is_some());
    };
    read().await;
    let misses = cached.cache_usage().misses;
    cached.delete_manifest(&app, &goes, None).await.unwrap();
    let breaker = Breaker { percent: 100, floor: 0 };
    let outcome = cached.delete_unkept_manifests(vec![condemned], breaker).await.unwrap();
    assert!(matches!(outcome, GarbageOutcome::Deleted(Deleted { count: 1, .. })), "{outcome:?}");
    read().await;
    assert_eq!(cached.cache_usage().misses, misses);
}

/// SQLite commits what is queued although its caller has gone away: what changes then is announced then.
#[tokio::test]
async fn a_write_whose_caller_has_gone_away_is_seen_all_the_same() {
    let database = Database::sqlite().await;
    let app = repository("app");
    let cached = database.process_with_cache().await;
    let old = database.push(tagged(manifest("app", "old"), &["latest"])).await;
    let Inside::Sqlite(pool) = &database.inside else { unreachable!("it was opened by a SQLite address") };
    let gate = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    // Asked once, and dropped: it is queued, and the writer waits for us.
    assert!(cached.put_manifest(tagged(manifest("app", "new"), &["latest"])).now_or_never().is_none());
    for _ in 0..2 {
        assert_eq!(cached.find_tag(&app, &tag("latest")).await.unwrap().unwrap().digest, old);
    }
    gate.commit().await.unwrap();
    // Whatever was queued before this is committed, and announced, before it.
    cached.put_inline_blob(inline_blob("app", "blob")).await.unwrap();
    let found = cached.find_tag(&app, &tag("latest")).await.unwrap().unwrap();
    assert_eq!(found.digest, digest_of("new"));
}

/// A write that fails may have failed after its commit: it counts as a change.
#[tokio::test]
async fn a_write_that_fails_is_announced() {
    let database = Database::sqlite().await;
    let app = repository("app");
    let cached = database.process_with_cache().await;
    database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
    cached.find_tag(&app, &tag("latest")).await.unwrap();
    let refused = "CREATE TRIGGER refuse BEFORE UPDATE ON tags BEGIN SELECT RAISE(FAIL, 'refused'); END";
    database.inside.execute(refused, &[]).await.unwrap();
    let put: PutManifest = tagged(manifest("app", "new"), &["latest"]);
    assert!(cached.put_manifest(put).await.is_err());
    cached.find_tag(&app, &tag("latest")).await.unwrap();
    assert_eq!(hits_and_misses(&cached), (0, 2));
}
