//! An object store of which every twentieth request fails: clients notice nothing.

use std::sync::Arc;

use futures_util::future::join_all;
use longshore_tests::balancer::Balancer;
use longshore_tests::client::{Client, expect};
use longshore_tests::image::Blob;
use longshore_tests::minio::Minio;
use longshore_tests::postgres::Postgres;
use longshore_tests::random::Random;
use longshore_tests::server::{Options, Server};
use reqwest::StatusCode;

use crate::{KIB, MIB, SEED};

const REPOSITORY: &str = "unreliable/app";
const CLIENTS: usize = 8;
/// For each client: enough that some of the store's failures meet each kind of request.
const PUSHES: usize = 12;
const PULLS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_store_that_fails_now_and_then_clients_notice_nothing() {
    let store = Balancer::failing_at_every_twentieth(Minio::shared().address());
    let options = Options::over(Postgres::shared(), Minio::shared());
    // Nothing is kept in memory: each pull asks the store.
    let options = options.set("storage.s3.endpoint", &store.url()).set("storage.cache_size", "0");
    let server = Arc::new(Server::start(options));
    let mut random = Random::announced("an unreliable store", SEED);
    let clients = (0..CLIENTS).map(|_| tokio::spawn(push_and_pull(server.url().to_owned(), random.fork())));
    let operations: usize = join_all(clients).await.into_iter().map(|ended| ended.expect("no operation fails")).sum();
    println!("{operations} operations of clients, none of which failed");
}

/// Answers how many requests it has made, each of which went well.
async fn push_and_pull(url: String, mut random: Random) -> usize {
    let client = Client::new(&url);
    let mut pushed = Vec::new();
    let mut operations = 0;
    for number in 0..PUSHES {
        let blob = Blob::random([20 * KIB, MIB, 7 * MIB, 20 * MIB][number % 4] + random.between(0, KIB));
        let upload = client.start_upload(REPOSITORY).await;
        // Half of it by PATCH, so that there are tails and parts that are gone on with.
        let (head, rest) = blob.bytes.split_at(blob.bytes.len() / 2);
        let sent = client.send_chunk(&upload, Some(0), head.to_vec()).await;
        let upload = longshore_tests::client::location(expect(sent, StatusCode::ACCEPTED, "the chunk").await.headers());
        let sent = client.send_chunk(&upload, Some(head.len() as u64), rest.to_vec()).await;
        let upload = longshore_tests::client::location(expect(sent, StatusCode::ACCEPTED, "the rest").await.headers());
        let finished = client.finish_upload(&upload, &blob.digest, "").await;
        expect(finished, StatusCode::CREATED, "the end of the upload").await;
        operations += 4;
        pushed.push(blob);
    }
    for _ in 0..PULLS {
        let blob = &pushed[random.between(0, pushed.len())];
        assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "other bytes are served");
        operations += 1;
    }
    operations
}
