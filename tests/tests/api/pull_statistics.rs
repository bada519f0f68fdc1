//! What is pulled is in the database soon after: how often, and when last. A pull itself writes nothing.

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::Blob;
use longshore_tests::on_all;
use longshore_tests::server::{Options, Server};
use reqwest::StatusCode;
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::answers::eventually;
use crate::content::{SmallImage, index_of};

on_all!(
    pulls_are_written_at_the_latest_when_the_server_ends,
    pulls_are_written_while_the_server_runs,
    nothing_is_counted_where_nothing_is_to_be,
);

const REPOSITORY: &str = "statistics/app";

/// One number out of the server's database, on a connection of its own.
async fn number(server: &Server, sql: &'static str) -> Option<i64> {
    let (url, query) = (server.database_url(), sqlx::query_scalar(sql));
    let number: Option<Option<i64>> = if url.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(url).await.expect("the database can be opened");
        query.fetch_optional(&mut connection).await.expect("the statement is right")
    } else {
        let mut connection = PgConnection::connect(url).await.expect("the database can be reached");
        sqlx::query_scalar(sql).fetch_optional(&mut connection).await.expect("the statement is right")
    };
    number.flatten()
}

async fn now(server: &Server) -> i64 {
    number(server, "SELECT now FROM clock").await.expect("there is a clock")
}

async fn assert_pulled(client: &Client, reference: &str) {
    assert_eq!(client.get_manifest(REPOSITORY, reference).await.status(), StatusCode::OK, "{reference}");
}

async fn assert_looked_at(client: &Client, reference: &str) {
    let path = format!("/v2/{REPOSITORY}/manifests/{reference}");
    assert_eq!(client.head(&path).await.status(), StatusCode::OK, "{reference}");
}

/// As Docker (by tag) and containerd (HEAD by tag, then by digest what it has not got) do it.
async fn pulls_are_written_at_the_latest_when_the_server_ends(backend: Backend) {
    // Long, so that it is the end that writes.
    let mut server = Server::start(Options::on(backend).set("database.pull_statistics", "10m"));
    let client = Client::new(server.url());
    let image = SmallImage::pushed_to(&client, REPOSITORY, "by-tag").await;
    let index = index_of(&[&image.manifest]);
    client.push_manifest(REPOSITORY, "looked-at", &index).await;
    client.push_manifest(REPOSITORY, "never", &index).await;
    let before = now(&server).await;
    for _ in 0..3 {
        assert_pulled(&client, "by-tag").await;
    }
    for _ in 0..2 {
        assert_looked_at(&client, "looked-at").await;
        assert_pulled(&client, &index.digest).await;
    }
    assert_pulled(&client, &image.manifest.digest).await;
    assert_eq!(client.get_manifest(REPOSITORY, "unknown").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        number(&server, "SELECT sum(pulls) FROM manifests WHERE pulls > 0").await,
        None,
        "nothing is written yet"
    );
    assert_eq!(client.metric("longshore_pull_rows_waiting").await, 4);
    assert!(server.terminate().success());

    let after = now(&server).await;
    let of_image = "SELECT pulls FROM manifests WHERE media_type LIKE '%manifest.v1%'";
    assert_eq!(number(&server, of_image).await, Some(4));
    assert_eq!(number(&server, "SELECT pulls FROM manifests WHERE media_type LIKE '%index.v1%'").await, Some(2));
    for last in [
        "SELECT max(last_pulled_at) FROM manifests",
        "SELECT min(last_pulled_at) FROM manifests",
        "SELECT last_pulled_at FROM tags WHERE name = 'by-tag'",
        "SELECT last_pulled_at FROM tags WHERE name = 'looked-at'",
    ] {
        let last = number(&server, last).await.expect(last);
        assert!((before..=after).contains(&last), "{last} is not between {before} and {after}");
    }
    assert_eq!(number(&server, "SELECT last_pulled_at FROM tags WHERE name = 'never'").await, None);
}

/// On two replicas, where there may be two: both count.
async fn pulls_are_written_while_the_server_runs(backend: Backend) {
    let server = Server::start(Options::on(backend).set("database.pull_statistics", "50ms"));
    let replica = (backend == Backend::S3).then(|| server.replica());
    let client = Client::new(server.url());
    SmallImage::pushed_to(&client, REPOSITORY, "latest").await;
    let mut pulls = 0;
    for url in [Some(server.url()), replica.as_ref().map(Server::url)].into_iter().flatten() {
        let client = Client::new(url);
        for _ in 0..5 {
            assert_pulled(&client, "latest").await;
            pulls += 1;
        }
    }
    let written = || async { (number(&server, "SELECT pulls FROM manifests").await == Some(pulls)).then_some(()) };
    eventually("all pulls are written", written).await;
    eventually("and counted as such", || async {
        (client.metric("longshore_pull_rows_written_total").await >= 2).then_some(())
    })
    .await;
    assert_eq!(client.metric("longshore_pulls_dropped_total").await, 0);
    assert_eq!(client.metric("longshore_pull_rows_failures_total").await, 0);
}

async fn nothing_is_counted_where_nothing_is_to_be(backend: Backend) {
    let mut server = Server::start(Options::on(backend).set("database.pull_statistics", "0s"));
    let client = Client::new(server.url());
    SmallImage::pushed_to(&client, REPOSITORY, "latest").await;
    assert_pulled(&client, "latest").await;
    assert_eq!(client.metric("longshore_pull_rows_waiting").await, 0);
    assert!(server.terminate().success());
    assert_eq!(number(&server, "SELECT pulls FROM manifests").await, Some(0));
    assert_eq!(number(&server, "SELECT last_pulled_at FROM tags").await, None);
}

/// `SQLite` tells a connection how often others have changed anything.
async fn changes(watching: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("PRAGMA data_version").fetch_one(watching).await.expect("it is a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_changes_nothing_in_the_database() {
    // Neither statistics nor a pass of collection come in between.
    let options = Options::on(Backend::Sqlite).set("database.pull_statistics", "10m").set("gc.interval", "1h");
    let server = Server::start(options);
    let client = Client::new(server.url());
    let (image, layer) = (SmallImage::pushed_to(&client, REPOSITORY, "latest").await, Blob::random(100_000));
    client.push_blob(REPOSITORY, &layer).await;
    let mut watching = SqliteConnection::connect(server.database_url()).await.expect("the database can be opened");
    let before = changes(&mut watching).await;
    for _ in 0..20 {
        assert_looked_at(&client, "latest").await;
        assert_pulled(&client, "latest").await;
        assert_pulled(&client, &image.manifest.digest).await;
        assert!(client.blob(REPOSITORY, &layer.digest).await == layer.bytes);
    }
    assert_eq!(changes(&mut watching).await, before);
    client.push_blob(REPOSITORY, &Blob::random(10)).await;
    assert_ne!(changes(&mut watching).await, before, "a push is seen");
}
