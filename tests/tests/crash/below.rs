//! What replicas stand on goes away and comes back: the object store, the database. Clients are told to come again, or
//! lose their connection; they are never told that a thing is not there, and never given other bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use longshore_tests::client::{Client, expect};
use longshore_tests::image::Blob;
use longshore_tests::minio::Minio;
use longshore_tests::postgres::{Durability, Postgres, Stop};
use longshore_tests::random::Random;
use longshore_tests::server::{Options, Server};
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, Response, StatusCode};

use crate::MIB;
use crate::SEED;
use crate::errand::{Blow, Doors};
use crate::load::Load;
use crate::replicas::{begin_chunk, path, received};

const REPOSITORY: &str = "below/app";

fn assert_told_to_come_again(answer: &Response) {
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{}", answer.url());
    assert!(answer.headers().contains_key(RETRY_AFTER), "{} answered without Retry-After", answer.url());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_store_that_is_away_is_nobodys_loss() {
    let mut minio = Minio::start();
    // Without memory for layers each pull asks the store.
    let first = Server::start(Options::over(Postgres::shared(), &minio).set("storage.cache_size", "0"));
    let second = first.replica();
    let (here, there) = (Client::new(first.url()), Client::new(second.url()));
    let (large, blob) = (Blob::random(32 * MIB), Blob::random(20 * MIB));
    here.push_blob(REPOSITORY, &large).await;
    let upload = path(&here.start_upload(REPOSITORY).await);
    let chunk = here.send_chunk(&upload, Some(0), blob.bytes[..7 * MIB].to_vec()).await;
    expect(chunk, StatusCode::ACCEPTED, "the first chunk").await;

    let mut pull = here.get_blob(REPOSITORY, &large.digest).await;
    let begun = pull.chunk().await.expect("the store is there").expect("the layer is not empty");
    let push = begin_chunk(&first, &upload, 13 * MIB, &blob.bytes[7 * MIB..12 * MIB]);
    minio.kill9();

    let end = blob.bytes[12 * MIB..].to_vec();
    let told = tokio::task::spawn_blocking(move || end_chunk(push, &end));
    let (told, rest) = tokio::join!(told, rest_of(pull));
    let told = told.expect("the server answers");
    let to_come_again = told.starts_with("http/1.1 503") && told.contains("\r\nretry-after: ");
    assert!(to_come_again || told.is_empty(), "{told}");
    assert!(rest.len() < large.bytes.len(), "the store was killed too late");
    assert!(large.bytes.starts_with(&[&begun[..], &rest].concat()), "other bytes are served");
    look_while_the_store_is_away(&there, &large, &upload).await;

    minio.restart();
    let rest = there.send_chunk(&upload, Some(7 * MIB as u64), blob.bytes[7 * MIB..].to_vec()).await;
    expect(rest, StatusCode::ACCEPTED, "the chunk that was refused").await;
    let finished = there.finish_upload(&upload, &blob.digest, "").await;
    expect(finished, StatusCode::CREATED, "the end of the upload").await;
    for client in [&here, &there] {
        for blob in [&large, &blob] {
            assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "other bytes are served");
        }
    }
}

/// The head of the answer to a chunk whose last bytes are sent now; nothing where the connection breaks.
fn end_chunk(mut push: TcpStream, bytes: &[u8]) -> String {
    // The server may answer and close before it has read all: what it said still counts.
    drop(push.write_all(bytes));
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        match push.read(&mut byte) {
            Ok(1) => answer.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the chunk is not answered"),
            Ok(_) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).to_ascii_lowercase()
}

/// A pull that finds no bytes. The head of its answer may be on its way before the store is asked.
async fn assert_breaks_off(mut pull: Response) {
    if pull.status() == StatusCode::OK {
        assert!(pull.chunk().await.is_err(), "there is nowhere to take bytes from");
    } else {
        assert_told_to_come_again(&pull);
    }
}

/// What still comes of a pull until its connection breaks.
async fn rest_of(mut pull: Response) -> Vec<u8> {
    let mut rest = Vec::new();
    while let Ok(Some(piece)) = pull.chunk().await {
        rest.extend_from_slice(&piece);
    }
    rest
}

async fn look_while_the_store_is_away(client: &Client, large: &Blob, upload: &str) {
    let (small, other) = (Blob::random(1000), Blob::random(MIB));
    let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", other.digest);
    let whole = client.request(Method::POST, &path).body(other.bytes.clone()).send();
    let closed = client.finish_upload(upload, &other.digest, other.bytes.clone());
    let pulled = async { assert_breaks_off(client.get_blob(REPOSITORY, &large.digest).await).await };
    let ((), whole, closed) = tokio::join!(pulled, whole, closed);
    for answer in [whole.expect("the server answers"), closed] {
        assert_told_to_come_again(&answer);
    }
    // What the database knows goes on.
    assert_eq!(received(client, upload).await, 7 * MIB, "what was acknowledged");
    let head = client.head(&format!("/v2/{REPOSITORY}/blobs/{}", large.digest)).await;
    expect(head, StatusCode::OK, "a layer that is there").await;
    expect(client.get_blob(REPOSITORY, &other.digest).await, StatusCode::NOT_FOUND, "a blob that was refused").await;
    client.push_blob(REPOSITORY, &small).await;
    assert!(client.blob(REPOSITORY, &small.digest).await == small.bytes, "other bytes are served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_the_object_store_dies() {
    const OPERATIONS: usize = 150;
    const KILLS: usize = 4;
    let mut random = Random::announced("an object store that dies", SEED);
    let mut minio = Minio::start();
    let first = Server::start(Options::over(Postgres::shared(), &minio).set("storage.cache_size", "0"));
    let replicas = [first.replica(), first];
    let load = Load::new(doors(&replicas), Blow::Below, OPERATIONS);
    let (progress, mut kills) = (&load.progress, random.fork());
    let storm = async {
        for kill in 1..=KILLS {
            let (pieces, is_long) = (kills.between(0, 60), kill % 2 == 0);
            progress.reach(kill * OPERATIONS / (KILLS + 1)).await;
            progress.pass_pieces(pieces).await;
            println!("kill {kill}: after {pieces} pieces, long: {is_long}");
            progress.strike(|| minio.kill9());
            if is_long {
                progress.told().await;
            }
            progress.recover(|| minio.restart());
            progress.spared().await;
        }
    };
    load.run(&mut random, storm).await;
    println!("{}", load.account());
    load.assert_kept(&replicas).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_the_database_restarts() {
    const OPERATIONS: usize = 300;
    const STOPS: usize = 6;
    let mut random = Random::announced("a database that restarts", SEED);
    let mut postgres = Postgres::start(Durability::Full);
    let first = Server::start(Options::over(&postgres, Minio::shared()));
    let replicas = [first.replica(), first];
    let load = Load::new(doors(&replicas), Blow::Below, OPERATIONS);
    let (progress, mut stops) = (&load.progress, random.fork());
    let storm = async {
        for number in 1..=STOPS {
            let (pieces, is_long) = (stops.between(0, 60), stops.once_in(2));
            let stop = if number % 2 == 0 { Stop::Fast } else { Stop::Immediate };
            progress.reach(number * OPERATIONS / (STOPS + 1)).await;
            progress.pass_pieces(pieces).await;
            println!("stop {number}: {stop:?} after {pieces} pieces, long: {is_long}");
            progress.strike(|| postgres.stop(stop));
            if is_long {
                progress.told().await;
            }
            progress.recover(|| postgres.restart());
            progress.spared().await;
        }
    };
    load.run(&mut random, storm).await;
    println!("{}", load.account());
    load.assert_kept(&replicas).await;
}

fn doors(replicas: &[Server]) -> Doors {
    Doors::new(replicas.iter().map(Server::url))
}
