//! Replicas on one database and one object store: an upload goes on wherever its next chunk comes to.

use std::io::Write;

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, error_code, expect, location};
use longshore_tests::image::{Blob, Image};
use longshore_tests::raw;
use longshore_tests::server::{Options, Server};
use reqwest::{StatusCode, Url};
use url::Position;

use crate::eventually::eventually;
use crate::{KIB, MIB};

const REPOSITORY: &str = "replicas/app";

/// Where a replica says that the session is.
pub(crate) async fn received(client: &Client, upload: &str) -> usize {
    let status = expect(client.get(upload).await, StatusCode::NO_CONTENT, "the status of the upload").await;
    let range = status.headers()["range"].to_str().expect("a range is text");
    let last: usize = range.strip_prefix("0-").and_then(|last| last.parse().ok()).expect("the range of a session");
    if last == 0 { 0 } else { last + 1 }
}

/// The path of an upload, without the host of the replica that gave it.
pub(crate) fn path(upload: &str) -> String {
    Url::parse(upload).map_or_else(|_| upload.to_owned(), |url| url[Position::BeforePath..].to_owned())
}

/// Sends the head of a PATCH and some of its body, and leaves the rest out.
pub(crate) fn begin_chunk(server: &Server, upload: &str, length: usize, some: &[u8]) -> std::net::TcpStream {
    let mut stream = raw::connect(server.address());
    let head = format!("PATCH {upload} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n", server.address());
    stream.write_all(head.as_bytes()).expect("the server takes the head");
    stream.write_all(some).expect("the server takes some of the body");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_any_size_go_to_any_replica_and_one_dies_at_it() {
    let first = Server::start(Options::on(Backend::S3));
    let second = first.replica();
    let mut doomed = first.replica();
    let clients = [Client::new(first.url()), Client::new(second.url())];
    // Nothing, rows, whole objects, tails, parts, and what is exactly as long as any of these.
    let sizes = [2, 20 * KIB, MIB, 7 * MIB, 3 * MIB, 20 * MIB, 5 * MIB, 8 * MIB, 100 * KIB, 5 * MIB - 1, 9 * MIB];
    let blob = Blob::random(sizes.iter().sum());
    let upload = path(&clients[0].start_upload(REPOSITORY).await);
    let mut sent = 0;
    for (number, size) in sizes.into_iter().enumerate() {
        // Another replica has begun to take this chunk, and is gone.
        let broken = begin_chunk(&doomed, &upload, size, &blob.bytes[sent..sent + size / 2]);
        doomed.kill9();
        drop(broken);
        doomed.restart();
        let client = &clients[number % 2];
        let chunk = blob.bytes[sent..sent + size].to_vec();
        expect(client.send_chunk(&upload, Some(sent as u64), chunk).await, StatusCode::ACCEPTED, "a chunk").await;
        sent += size;
        assert_eq!(received(&clients[(number + 1) % 2], &upload).await, sent, "the other replica knows");
    }
    let finished = clients[1].finish_upload(&upload, &blob.digest, "").await;
    expect(finished, StatusCode::CREATED, "the end of the upload").await;
    for client in &clients {
        assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "other bytes are served");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_on_two_replicas_one_is_told_and_the_bytes_are_right() {
    let first = Server::start(Options::on(Backend::S3));
    let second = first.replica();
    let client = Client::new(second.url());
    // Enough for parts in what is saved, and in what both send after it.
    let blob = Blob::random(40 * MIB);
    let upload = path(&client.start_upload(REPOSITORY).await);
    let head = blob.bytes[..20 * MIB].to_vec();
    expect(client.send_chunk(&upload, Some(0), head).await, StatusCode::ACCEPTED, "the first chunk").await;

    let wrong = vec![7; 19 * MIB];
    let mut slow = begin_chunk(&first, &upload, wrong.len() + 1, &wrong);
    // It takes the session before it reads on, so what did not fit into the sockets' buffers says that it has it.
    let rest = blob.bytes[20 * MIB..].to_vec();
    expect(client.send_chunk(&upload, Some(20 * MIB as u64), rest).await, StatusCode::ACCEPTED, "the second chunk")
        .await;
    slow.write_all(b"!").expect("the server takes the rest");
    let answer = read_head(&mut slow);
    assert!(answer.starts_with("HTTP/1.1 409") || answer.starts_with("HTTP/1.1 416"), "{answer}");

    assert_eq!(received(&client, &upload).await, blob.bytes.len());
    let finished = client.finish_upload(&upload, &blob.digest, "").await;
    expect(finished, StatusCode::CREATED, "the end of the upload").await;
    assert!(Client::new(first.url()).blob(REPOSITORY, &blob.digest).await == blob.bytes, "other bytes are served");
}

fn read_head(stream: &mut std::net::TcpStream) -> String {
    use std::io::Read;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("the server answers") == 1 {
        answer.push(byte[0]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_ends_on_another_replica_than_it_began_is_a_blob_on_both() {
    let first = Server::start(Options::on(Backend::S3));
    let second = first.replica();
    let (here, there) = (Client::new(first.url()), Client::new(second.url()));
    for length in [1, 20 * KIB, 4 * MIB, 8 * MIB, 8 * MIB + 1, 30 * MIB] {
        let blob = Blob::random(length);
        let upload = path(&here.start_upload(REPOSITORY).await);
        let sent = here.send_chunk(&upload, None, blob.bytes.clone()).await;
        let upload = path(&location(expect(sent, StatusCode::ACCEPTED, "the chunk").await.headers()));
        // What it says is compared with what came, and the session stays as it was.
        let wrong = there.finish_upload(&upload, &Blob::random(8).digest, "").await;
        assert_eq!((wrong.status(), error_code(wrong).await.as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"));
        let finished = there.finish_upload(&upload, &blob.digest, "").await;
        expect(finished, StatusCode::CREATED, "the end of the upload").await;
        assert!(here.blob(REPOSITORY, &blob.digest).await == blob.bytes, "{length} bytes");
        assert!(there.blob(REPOSITORY, &blob.digest).await == blob.bytes, "{length} bytes");
    }
}

#[test]
fn an_embedded_database_has_one_server_wherever_the_objects_are() {
    let options = Backend::S3
        .new_store()
        .into_iter()
        .fold(Options::on(Backend::Sqlite), |options, (key, value)| options.set(&key, &value));
    let first = Server::start(options.clone());
    // Its folder is another one.
    let said = Server::start_refused(options.set("database.url", first.database_url()));
    assert!(said.contains("is in use by another longshore"), "{said}");
}

/// As when its host is suspended, or when the network takes it away: it stays connected, and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_halted_is_waited_for_at_first_and_goes_on_with_what_is_true() {
    let first = Server::start(Options::on(Backend::S3));
    let halted = first.replica();
    let (here, there) = (Client::new(first.url()), Client::new(halted.url()));
    let images = [Image::random(KIB), Image::random(KIB)];
    for (tag, image) in ["one", "two"].into_iter().zip(&images) {
        here.push_image(REPOSITORY, tag, image).await;
    }
    let mut moves = 0;
    let mut move_tag = async || {
        moves += 1;
        let manifest = &images[moves % 2].manifest;
        here.push_manifest(REPOSITORY, "latest", manifest).await;
        manifest.bytes.clone()
    };
    let is_at = async |manifest: Vec<u8>| assert!(there.manifest(REPOSITORY, "latest").await == manifest);
    is_at(move_tag().await).await;

    halted.signal("STOP");
    let waits = || first.log().matches("not all replicas have heard of a change in time").count();
    while !first.log().contains("a replica is connected and answers nothing") {
        move_tag().await;
        assert!(waits() < 60, "it is not left out");
    }
    let before = waits();
    assert!(before > 0, "it was waited for at first");
    let mut newest = Vec::new();
    for _ in 0..20 {
        newest = move_tag().await;
    }
    assert_eq!(waits(), before, "nobody has waited for it any more");

    halted.signal("CONT");
    is_at(newest).await;
    for _ in 0..100 {
        is_at(move_tag().await).await;
    }
    eventually("it answers from memory again", async || {
        let metrics = there.get("/metrics").await.text().await.ok()?;
        metrics.contains("longshore_cache_open 1\n").then_some(())
    })
    .await;
    for _ in 0..20 {
        is_at(move_tag().await).await;
    }
}
