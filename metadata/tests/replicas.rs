//! Several processes on one PostgreSQL, each with a cache of its own: what one changes, the others hear of; and who hears
//! nothing answers nothing from memory.

use crate::cache::{ROOM, until, until_open};
use crate::content::{digest_of, inline_blob, manifest, repository, tag, tagged};
use crate::database::{Database, Empty};
use longshore_metadata::{DeleteOutcome, Metadata, PutManifest};
use longshore_oci::Digest;
use longshore_tests::proxy::Proxy;

async fn tagged_digest(metadata: &Metadata) -> Option<Digest> {
    let found = metadata.find_tag(&repository("app"), &tag("latest")).await.unwrap();
    found.map(|record| record.digest)
}

async fn media_type(metadata: &Metadata, digest: &Digest) -> Option<String> {
    let found = metadata.find_manifest(&repository("app"), digest).await.unwrap();
    found.map(|record| record.media_type.to_string())
}

async fn has_blob(metadata: &Metadata, digest: &Digest) -> bool {
    metadata.find_blob(&repository("app"), digest).await.unwrap().is_some()
}

/// Two replicas that have both read what the first one pushed.
async fn two_replicas(database: &Database) -> (Metadata, Metadata) {
    let (one, two) = (database.process_with_cache().await, database.process_with_cache().await);
    one.put_manifest(tagged(manifest("app", "old"), &["latest"])).await.unwrap();
    one.put_inline_blob(inline_blob("app", "blob")).await.unwrap();
    for replica in [&one, &two] {
        for _ in 0..2 {
            assert_eq!(tagged_digest(replica).await, Some(digest_of("old")));
            assert!(has_blob(replica, &digest_of("blob")).await);
        }
    }
    (one, two)
}

/// Reads from memory, at least while nothing is heard.
async fn assert_in_memory(metadata: &Metadata) {
    let before = metadata.cache_usage().hits;
    until("it is read from memory", async || {
        tagged_digest(metadata).await;
        metadata.cache_usage().hits > before
    })
    .await;
}

#[tokio::test]
async fn a_crowd_that_asks_for_one_thing_is_one_query() {
    let database = Database::postgres().await;
    let _others = two_replicas(&database).await;
    let two = database.process_with_cache().await;
    until_open(&two).await;
    let digest = digest_of("blob");
    let before = two.cache_usage();
    let crowd = (0..200).map(|_| has_blob(&two, &digest));
    assert!(futures_util::future::join_all(crowd).await.into_iter().all(|found| found));
    // Each of them has missed at first; all but the first have then found it.
    assert_eq!(two.cache_usage().hits - before.hits, 199);
}

#[tokio::test]
async fn what_a_write_was_answered_for_is_known_everywhere() {
    let database = Database::postgres().await;
    let (one, two) = two_replicas(&database).await;
    for number in 0..50 {
        let name = format!("image {number}");
        one.put_manifest(tagged(manifest("app", &name), &["latest"])).await.unwrap();
        assert_eq!(tagged_digest(&two).await, Some(digest_of(&name)));
        assert_eq!(tagged_digest(&two).await, Some(digest_of(&name)), "from memory");
        assert!(two.delete_tag(&repository("app"), &tag("latest"), None).await.unwrap());
        assert_eq!(tagged_digest(&one).await, None);
        two.delete_manifest(&repository("app"), &digest_of(&name), None).await.unwrap();
        assert_eq!(media_type(&one, &digest_of(&name)).await, None);
    }
}

#[tokio::test]
async fn a_tag_that_one_replica_moves_or_deletes_is_another_everywhere() {
    let database = Database::postgres().await;
    let (one, two) = two_replicas(&database).await;
    assert_in_memory(&two).await;
    one.put_manifest(tagged(manifest("app", "new"), &["latest"])).await.unwrap();
    assert_eq!(tagged_digest(&one).await, Some(digest_of("new")), "the writer itself sees it at once");
    until("it has moved", async || tagged_digest(&two).await == Some(digest_of("new"))).await;
    assert_in_memory(&two).await;
    assert!(two.delete_tag(&repository("app"), &tag("latest"), None).await.unwrap());
    assert_eq!(tagged_digest(&two).await, None);
    until("it is gone", async || tagged_digest(&one).await.is_none()).await;
}

#[tokio::test]
async fn a_manifest_that_one_replica_deletes_is_gone_everywhere() {
    let database = Database::postgres().await;
    let (one, two) = two_replicas(&database).await;
    let digest = digest_of("old");
    assert_in_memory(&two).await;
    let deleted = one.delete_manifest(&repository("app"), &digest, None).await.unwrap();
    assert_eq!(deleted, DeleteOutcome::Deleted);
    assert_eq!((tagged_digest(&one).await, media_type(&one, &digest).await), (None, None));
    until("its tag is gone", async || tagged_digest(&two).await.is_none()).await;
    until("it is gone", async || media_type(&two, &digest).await.is_none()).await;
}

/// A cleanup of a repository leaves those who pull from it their memory.
#[tokio::test]
async fn what_goes_leaves_the_rest_of_its_repository_in_memory_everywhere() {
    let database = Database::postgres().await;
    let (one, two) = two_replicas(&database).await;
    let app = repository("app");
    one.put_manifest(tagged(manifest("app", "goes"), &["goes"])).await.unwrap();
    one.put_inline_blob(inline_blob("app", "goes too")).await.unwrap();
    for replica in [&one, &two] {
        assert_in_memory(replica).await;
        assert!(has_blob(replica, &digest_of("blob")).await && has_blob(replica, &digest_of("goes too")).await);
        assert!(replica.find_tag(&app, &tag("goes")).await.unwrap().is_some());
    }
    let before = [&one, &two].map(|replica| replica.cache_usage().misses);
    one.delete_manifest(&app, &digest_of("goes"), None).await.unwrap();
    one.delete_blob(&app, &digest_of("goes too")).await.unwrap();
    for replica in [&one, &two] {
        until("its tag is gone", async || replica.find_tag(&app, &tag("goes")).await.unwrap().is_none()).await;
        until("it is gone", async || !has_blob(replica, &digest_of("goes too")).await).await;
    }
    // Notifications keep their order: both have heard all of this once they have heard of another tag's move.
    for number in 0..2 {
        one.put_manifest(tagged(manifest("app", &format!("moves {number}")), &["moves"])).await.unwrap();
        for replica in [&one, &two] {
            until("it has moved", async || {
                let found = replica.find_tag(&app, &tag("moves")).await.unwrap();
                found.is_some_and(|found| found.digest == digest_of(&format!("moves {number}")))
            })
            .await;
        }
    }
    for (replica, before) in [&one, &two].into_iter().zip(before) {
        let misses = replica.cache_usage().misses;
        assert!(misses > before, "what goes and moves is asked for");
        assert_eq!(tagged_digest(replica).await, Some(digest_of("old")));
        assert!(has_blob(replica, &digest_of("blob")).await);
        assert_eq!(replica.cache_usage().misses, misses, "the rest is answered from memory");
    }
}

#[tokio::test]
async fn a_blob_that_one_replica_deletes_is_gone_everywhere() {
    let database = Database::postgres().await;
    let (one, two) = two_replicas(&database).await;
    let (app, digest) = (repository("app"), digest_of("blob"));
    assert_eq!(two.promise_blob(&app, &digest).await.unwrap(), Some(4));
    assert_eq!(one.delete_blob(&app, &digest).await.unwrap(), DeleteOutcome::Deleted);
    assert!(!has_blob(&one, &digest).await);
    until("it is gone", async || !has_blob(&two, &digest).await).await;
    until("nothing is promised", async || two.promise_blob(&app, &digest).await.unwrap().is_none()).await;
}

#[tokio::test]
async fn a_manifest_that_comes_again_as_another_type_has_it_everywhere() {
    let database = Database::postgres().await;
    let (one, two) = two_replicas(&database).await;
    let (digest, other) = (digest_of("old"), "another/type");
    assert_ne!(media_type(&two, &digest).await.as_deref(), Some(other));
    one.put_manifest(PutManifest { media_type: other.to_owned(), ..manifest("app", "old") }).await.unwrap();
    assert_eq!(media_type(&one, &digest).await.as_deref(), Some(other));
    until("it has the new type", async || media_type(&two, &digest).await.as_deref() == Some(other)).await;
}

/// Whoever it is: the trigger speaks for a program that knows nothing of caches, and for the operator.
#[tokio::test]
async fn what_changes_behind_all_replicas_is_heard_of() {
    let database = Database::postgres().await;
    let (one, two) = two_replicas(&database).await;
    assert_in_memory(&one).await;
    database.inside.execute("DELETE FROM tags", &[]).await.unwrap();
    for replica in [&one, &two] {
        until("it is gone", async || tagged_digest(replica).await.is_none()).await;
    }
}

/// A new tag or manifest makes nothing wrong that is in memory, and notifications make commits wait for each other.
#[tokio::test]
async fn what_is_new_is_not_announced() {
    let database = Database::postgres().await;
    let (one, two) = two_replicas(&database).await;
    one.put_manifest(tagged(manifest("app", "new"), &["second"])).await.unwrap();
    one.put_manifest(tagged(manifest("app", "new"), &["third"])).await.unwrap();
    one.put_inline_blob(inline_blob("app", "another blob")).await.unwrap();
    // Notifications keep their order: this one comes after any that came before.
    one.put_manifest(tagged(manifest("elsewhere", "old"), &["latest"])).await.unwrap();
    two.find_tag(&repository("elsewhere"), &tag("latest")).await.unwrap();
    one.delete_tag(&repository("elsewhere"), &tag("latest"), None).await.unwrap();
    let gone = async || two.find_tag(&repository("elsewhere"), &tag("latest")).await.unwrap().is_none();
    until("the tag elsewhere is gone", gone).await;
    let before = two.cache_usage();
    assert_eq!(tagged_digest(&two).await, Some(digest_of("old")));
    let after = two.cache_usage();
    assert_eq!((after.hits, after.misses), (before.hits + 1, before.misses));
}

#[tokio::test]
async fn who_no_longer_hears_asks_the_database() {
    let database = Database::postgres().await;
    let (one, two) = two_replicas(&database).await;
    let listeners = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'longshore listener'";
    assert_eq!(database.inside.count(listeners).await, 2);
    until("both have closed", async || !one.cache_usage().is_open && !two.cache_usage().is_open).await;
    one.put_manifest(tagged(manifest("app", "new"), &["latest"])).await.unwrap();
    assert_eq!(tagged_digest(&two).await, Some(digest_of("new")));
    // What was kept before does not come back with the connection.
    until_open(&two).await;
    assert_eq!(tagged_digest(&two).await, Some(digest_of("new")));
    assert_in_memory(&two).await;
    one.put_manifest(tagged(manifest("app", "newer"), &["latest"])).await.unwrap();
    until("it is heard of again", async || tagged_digest(&two).await == Some(digest_of("newer"))).await;
}

/// The connection looks well, and nothing comes back: only the sign of life that is missing tells.
#[tokio::test]
async fn a_connection_that_dies_without_a_word_closes_the_cache() {
    let database = Database::postgres().await;
    let (server, name) = database.empty.url.split_once("@").unwrap().1.split_once('/').unwrap();
    let proxy = Proxy::in_front_of(server);
    let far = Empty::at(format!("postgres://postgres@{}/{name}", proxy.address()));
    let two = far.connect_with_cache(ROOM).await;
    until_open(&two).await;
    database.push(tagged(manifest("app", "old"), &["latest"])).await;
    assert_eq!(tagged_digest(&two).await, Some(digest_of("old")));
    assert_in_memory(&two).await;
    proxy.hold_after(0);
    until("it has closed", async || !two.cache_usage().is_open).await;
    database.push(tagged(manifest("app", "new"), &["latest"])).await;
    // Whether the same connection comes back to life just in time or another one is made: what happened meanwhile is known
    // before anything is answered.
    proxy.release();
    until_open(&two).await;
    assert_eq!(tagged_digest(&two).await, Some(digest_of("new")));
}

/// As behind a pooler that shares connections between transactions, and as before the migration.
#[tokio::test]
async fn a_database_that_delivers_nothing_is_asked_each_time() {
    for broken in [
        "CREATE OR REPLACE FUNCTION announce(payload TEXT) RETURNS void LANGUAGE sql AS 'SELECT NULL::void'",
        "ALTER FUNCTION announce RENAME TO announce_later",
    ] {
        let database = Database::postgres().await;
        database.inside.execute(broken, &[]).await.unwrap();
        let digest = database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
        let cached = database.empty.connect_with_cache(ROOM).await;
        // It listens, tries, and gives up.
        let listening = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = current_database() AND application_name = 'longshore listener'";
        until("it has begun", async || database.inside.count(listening).await == 1).await;
        until("it has given up", async || database.inside.count(listening).await == 0).await;
        for _ in 0..2 {
            assert_eq!(tagged_digest(&cached).await, Some(digest));
        }
        let usage = cached.cache_usage();
        assert_eq!((usage.is_open, usage.hits, usage.misses, usage.entries), (false, 0, 2, 0));
    }
}
