//! Connections to PostgreSQL that the server has ended: whoever finds one in the pool is not told of it.

use crate::cache::until;
use crate::content::{digest_of, inline_blob, manifest, repository, tag, tagged};
use crate::database::{Database, connect};
use futures_util::future::join_all;
use longshore_metadata::{Metadata, PutManifestOutcome};
use longshore_tests::postgres::{Durability, Postgres, Stop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// As many as a handle of these tests may have.
const CONNECTIONS: usize = 10;

/// Lets the handle have all the connections that it may have, used a moment ago.
async fn open_all(metadata: &Metadata) {
    let reads = (0..CONNECTIONS * 4).map(|_| metadata.list_repositories("", 10));
    for read in join_all(reads).await {
        read.unwrap();
    }
}

/// Ends every connection of the product, as a restart of the server does.
async fn end_all(database: &Database) {
    const END: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'longshore'";
    assert!(database.inside.count(END).await > 1);
    while database.inside.count(END).await > 0 {}
}

#[tokio::test]
async fn reads_are_read_again() {
    let database = Database::postgres().await;
    let (app, metadata) = (repository("app"), &database.metadata);
    let digest = database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
    database.push_blob("app", "blob").await;
    for _ in 0..4 {
        open_all(metadata).await;
        end_all(&database).await;
        assert!(metadata.find_manifest(&app, &digest).await.unwrap().is_some());
        open_all(metadata).await;
        end_all(&database).await;
        assert!(metadata.find_tag(&app, &tag("latest")).await.unwrap().is_some());
        assert!(metadata.find_blob(&app, &digest_of("blob")).await.unwrap().is_some());
        assert_eq!(metadata.promise_blob(&app, &digest_of("blob")).await.unwrap(), Some(4));
        assert_eq!(metadata.list_tags(&app, "", 10).await.unwrap(), Some(vec![tag("latest")]));
        metadata.ping().await.unwrap();
    }
}

#[tokio::test]
async fn writes_are_written_again_and_once() {
    let database = Database::postgres().await;
    let metadata = &database.metadata;
    for number in 0..4 {
        open_all(metadata).await;
        end_all(&database).await;
        let put = tagged(manifest("app", &format!("manifest {number}")), &["latest"]);
        assert_eq!(metadata.put_manifest(put).await.unwrap(), PutManifestOutcome::Stored);
        metadata.put_inline_blob(inline_blob("app", &format!("blob {number}"))).await.unwrap();
    }
    assert_eq!(database.inside.count("SELECT count(*) FROM tag_history").await, 4);
}

#[tokio::test]
async fn a_crowd_is_not_told_either() {
    let database = Database::postgres().await;
    let digest = database.push(manifest("app", "manifest")).await;
    for _ in 0..4 {
        open_all(&database.metadata).await;
        end_all(&database).await;
        let app = repository("app");
        let crowd = (0..CONNECTIONS * 4).map(|_| database.metadata.find_manifest(&app, &digest));
        for found in join_all(crowd).await {
            assert!(found.unwrap().is_some());
        }
    }
}

/// A write that loses its connection in the middle: nothing of it is there, so it is done from its beginning.
#[tokio::test]
async fn a_write_that_is_cut_off_before_its_commit_is_done_on_another_connection() {
    let database = Database::postgres().await;
    database.push(tagged(manifest("app", "old"), &["latest"])).await;
    // It waits for the row of the tag, and is found by that.
    let mut held = database.inside.as_postgres().begin().await.unwrap();
    sqlx::query("SELECT FROM tags FOR UPDATE").execute(&mut *held).await.unwrap();
    let metadata = database.metadata.clone();
    let put = tokio::spawn(async move { metadata.put_manifest(tagged(manifest("app", "new"), &["latest"])).await });
    const CUT_OFF: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'longshore' AND wait_event_type = 'Lock'";
    while database.inside.count(CUT_OFF).await == 0 {}
    held.commit().await.unwrap();
    assert_eq!(put.await.unwrap().unwrap(), PutManifestOutcome::Stored);
    let found = database.metadata.find_tag(&repository("app"), &tag("latest")).await.unwrap().unwrap();
    assert_eq!(found.digest, digest_of("new"));
    assert_eq!(database.inside.count("SELECT count(*) FROM tag_history").await, 2);
}

/// The server goes and comes back while clients read all the time, in good order and as in a crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_is_noticed_by_nobody_who_reads() {
    let mut server = Postgres::start(Durability::Full);
    let metadata = connect(&server.create_database()).await;
    metadata.migrate().await.unwrap();
    metadata.put_manifest(manifest("app", "manifest")).await.unwrap();
    let (is_over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<_> = (0..CONNECTIONS * 2)
        .map(|_| {
            let (metadata, is_over, rounds) = (metadata.clone(), is_over.clone(), rounds.clone());
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let found = metadata.find_manifest(&repository("app"), &digest_of("manifest")).await;
                    assert!(found.unwrap().is_some());
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let some_reads = async || {
        let enough = rounds.load(Ordering::Relaxed) + CONNECTIONS * 20;
        until("they read", async || rounds.load(Ordering::Relaxed) >= enough).await;
    };
    for stop in [Stop::Fast, Stop::Immediate, Stop::Fast] {
        some_reads().await;
        tokio::task::block_in_place(|| {
            server.stop(stop);
            server.restart();
        });
    }
    some_reads().await;
    is_over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}
