//! Pull statistics: how often, and when last, by the database's clock; and that nothing else comes of them.

use crate::cache::until_open;
use crate::content::{digest_of, manifest, repository, tag, tagged};
use crate::database::{BEGIN, Database, micros};
use futures_util::future::join_all;
use longshore_metadata::{ManifestPulls, TagPulls};
use std::time::Duration;

on_both_engines!(
    pulls_add_up_and_the_last_one_is_known,
    an_earlier_pull_is_not_the_last_one,
    what_is_gone_is_passed_over,
    what_is_new_was_never_pulled,
    a_push_keeps_what_was_counted,
    nobody_hears_of_pulls,
    replicas_count_together,
);

const SECOND: Duration = Duration::from_secs(1);

fn of_manifest(name: &str, content: &str, count: u64, last: Duration) -> ManifestPulls {
    ManifestPulls { repository: repository(name), digest: digest_of(content), count, last }
}

fn of_tag(name: &str, tag_name: &str, last: Duration) -> TagPulls {
    TagPulls { repository: repository(name), tag: tag(tag_name), last }
}

/// How often a manifest was pulled, and when last.
async fn manifest_pulls(database: &Database, content: &str) -> (i64, Option<i64>) {
    let id = database.inside.manifest_id(&digest_of(content)).await;
    let pulls = database.inside.number("SELECT pulls FROM manifests WHERE id = $1", &[id]).await.unwrap();
    (pulls, database.inside.number("SELECT last_pulled_at FROM manifests WHERE id = $1", &[id]).await)
}

/// When the one tag was last pulled.
async fn tag_pulled_at(database: &Database) -> Option<i64> {
    database.inside.number("SELECT last_pulled_at FROM tags", &[]).await
}

async fn pulls_add_up_and_the_last_one_is_known(database: Database) {
    database.push(tagged(manifest("app", "one"), &["latest"])).await;
    database.push(manifest("app", "two")).await;
    database.push(manifest("other", "three")).await;
    let pulls = [of_manifest("app", "one", 3, SECOND), of_manifest("other", "three", 1, SECOND * 2)];
    assert_eq!(database.metadata.record_pulls_of_manifests(&pulls).await.unwrap(), 2);
    assert_eq!(database.metadata.record_pulls_of_tags(&[of_tag("app", "latest", SECOND * 3)]).await.unwrap(), 1);
    assert_eq!(manifest_pulls(&database, "one").await, (3, Some(BEGIN - micros(SECOND))));
    assert_eq!(manifest_pulls(&database, "two").await, (0, None));
    assert_eq!(manifest_pulls(&database, "three").await, (1, Some(BEGIN - micros(SECOND * 2))));
    assert_eq!(tag_pulled_at(&database).await, Some(BEGIN - micros(SECOND * 3)));
    database.advance(SECOND * 60).await;
    let now = BEGIN + micros(SECOND * 60);
    let pulls = [of_manifest("app", "one", 4, Duration::ZERO)];
    assert_eq!(database.metadata.record_pulls_of_manifests(&pulls).await.unwrap(), 1);
    database.metadata.record_pulls_of_tags(&[of_tag("app", "latest", Duration::ZERO)]).await.unwrap();
    assert_eq!(manifest_pulls(&database, "one").await, (7, Some(now)));
    assert_eq!(tag_pulled_at(&database).await, Some(now));
}

/// As when a replica writes later what it has counted earlier.
async fn an_earlier_pull_is_not_the_last_one(database: Database) {
    database.push(tagged(manifest("app", "one"), &["latest"])).await;
    for last in [SECOND, SECOND * 9] {
        database.metadata.record_pulls_of_manifests(&[of_manifest("app", "one", 1, last)]).await.unwrap();
        database.metadata.record_pulls_of_tags(&[of_tag("app", "latest", last)]).await.unwrap();
    }
    assert_eq!(manifest_pulls(&database, "one").await, (2, Some(BEGIN - micros(SECOND))));
    assert_eq!(tag_pulled_at(&database).await, Some(BEGIN - micros(SECOND)));
}

async fn what_is_gone_is_passed_over(database: Database) {
    database.push(manifest("app", "one")).await;
    let gone = [
        of_manifest("app", "gone", 1, SECOND),
        of_manifest("nowhere", "one", 1, SECOND),
        of_manifest("app", "one", 1, SECOND),
    ];
    assert_eq!(database.metadata.record_pulls_of_manifests(&gone).await.unwrap(), 1);
    let gone = [of_tag("app", "latest", SECOND), of_tag("nowhere", "latest", SECOND)];
    assert_eq!(database.metadata.record_pulls_of_tags(&gone).await.unwrap(), 0);
    assert_eq!(database.metadata.record_pulls_of_manifests(&[]).await.unwrap(), 0);
}

async fn what_is_new_was_never_pulled(database: Database) {
    database.push(tagged(manifest("app", "one"), &["latest"])).await;
    assert_eq!(manifest_pulls(&database, "one").await, (0, None));
    assert_eq!(tag_pulled_at(&database).await, None);
}

async fn a_push_keeps_what_was_counted(database: Database) {
    database.push(tagged(manifest("app", "one"), &["latest"])).await;
    database.metadata.record_pulls_of_manifests(&[of_manifest("app", "one", 1, SECOND)]).await.unwrap();
    database.metadata.record_pulls_of_tags(&[of_tag("app", "latest", SECOND)]).await.unwrap();
    database.push(tagged(manifest("app", "one"), &["latest"])).await;
    database.push(tagged(manifest("app", "two"), &["latest"])).await;
    assert_eq!(manifest_pulls(&database, "one").await, (1, Some(BEGIN - micros(SECOND))));
    assert_eq!(tag_pulled_at(&database).await, Some(BEGIN - micros(SECOND)), "the tag is as much in use as before");
}

/// Neither garbage collection nor what is answered from memory.
async fn nobody_hears_of_pulls(database: Database) {
    let digest = database.push(tagged(manifest("app", "one"), &["latest"])).await;
    let cached = database.process_with_cache().await;
    until_open(&cached).await;
    let read = async || {
        let by_tag = cached.find_tag(&repository("app"), &tag("latest")).await.unwrap().unwrap();
        assert_eq!(by_tag.digest, digest);
    };
    read().await;
    const QUEUE: &str = "SELECT kind, id2, review_after FROM gc_queue ORDER BY kind, id2";
    let (queue, before) = (database.inside.triples(QUEUE, &[]).await, cached.cache_usage());
    database.advance(SECOND).await;
    for process in [&cached, &database.metadata] {
        process.record_pulls_of_manifests(&[of_manifest("app", "one", 1, SECOND)]).await.unwrap();
        process.record_pulls_of_tags(&[of_tag("app", "latest", SECOND)]).await.unwrap();
    }
    read().await;
    let after = cached.cache_usage();
    assert_eq!((after.hits, after.misses), (before.hits + 1, before.misses), "it was still in memory");
    assert_eq!(database.inside.triples(QUEUE, &[]).await, queue);
    assert_eq!(database.inside.count("SELECT count(*) FROM manifests WHERE untagged_since IS NOT NULL").await, 0);
}

/// The same rows at the same moment, named in opposite orders.
async fn replicas_count_together(database: Database) {
    const MANIFESTS: usize = 50;
    let contents: Vec<String> = (0..MANIFESTS).map(|number| format!("manifest {number}")).collect();
    for content in &contents {
        database.push(tagged(manifest("app", content), &[&content.replace(' ', "-")])).await;
    }
    let replicas = [database.another_process().await, database.another_process().await];
    let writes = (0..20).map(|number| {
        let (replica, contents) = (&replicas[number % 2], &contents);
        async move {
            let row = |content: &String| of_manifest("app", content, 1, Duration::ZERO);
            let mut rows: Vec<ManifestPulls> = contents.iter().map(row).collect();
            let mut tags: Vec<TagPulls> =
                contents.iter().map(|content| of_tag("app", &content.replace(' ', "-"), Duration::ZERO)).collect();
            if number % 2 == 0 {
                rows.reverse();
                tags.reverse();
            }
            assert_eq!(replica.record_pulls_of_manifests(&rows).await.unwrap(), MANIFESTS as u64);
            assert_eq!(replica.record_pulls_of_tags(&tags).await.unwrap(), MANIFESTS as u64);
        }
    });
    join_all(writes).await;
    assert_eq!(database.inside.count("SELECT count(*) FROM manifests WHERE pulls = 20").await, MANIFESTS as i64);
}
