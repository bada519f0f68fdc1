//! Clients that go away in the middle: their sessions can be gone on with, and the server keeps nothing open for them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, expect, location};
use longshore_tests::image::Blob;
use longshore_tests::server::{Options, Server};
use longshore_tests::{on_both, raw};
use reqwest::StatusCode;

use crate::eventually::eventually;
use crate::{KIB, MIB};

on_both!(
    a_client_that_hangs_up_in_a_download_leaves_nothing_open,
    a_client_that_hangs_up_in_an_upload_leaves_nothing_open,
    an_upload_is_gone_on_with_after_its_client_hung_up,
);

const REPOSITORY: &str = "hang/up";
/// Clients that hang up.
const CLIENTS: usize = 40;
/// What the server may open or close meanwhile on its own account: connections to its database, a file of the log of
/// SQLite, the connection of the client that warmed it up. Far fewer than the clients that hang up.
const OTHERS: usize = 5;

/// A server that has few connections to its database.
fn start(backend: Backend) -> Server {
    Server::start(Options::on(backend).set("database.max_connections", "1"))
}

/// Pushes the blob and pulls it, so that whatever the server opens once is open.
async fn push_and_pull(client: &Client, blob: &Blob) {
    client.push_blob(REPOSITORY, blob).await;
    assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "other bytes are served");
}

/// How many files, sockets and other things the server has open.
fn open_descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server is alive").count()
}

/// Each client has a connection at least.
fn all_are_connected(level: usize, server: &Server) -> bool {
    open_descriptors(server) >= level + CLIENTS - OTHERS
}

async fn assert_falls_back_to(level: usize, server: &Server) {
    eventually(&format!("the server has about {level} descriptors open"), || async {
        (open_descriptors(server) <= level + OTHERS).then_some(())
    })
    .await;
}

/// Sends the head of a request, and as much of its body as is given.
fn begin(server: &Server, method: &str, target: &str, headers: &str, body: &[u8]) -> TcpStream {
    let mut stream = raw::connect(server.address());
    let head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", server.address());
    stream.write_all(head.as_bytes()).expect("the server takes the head");
    stream.write_all(body).expect("the server takes some of the body");
    stream
}

async fn a_client_that_hangs_up_in_a_download_leaves_nothing_open(backend: Backend) {
    let server = start(backend);
    // More than the sockets' buffers hold: the server is still sending when the client goes.
    let blob = Blob::random(32 * MIB);
    push_and_pull(&Client::new(server.url()), &blob).await;
    let level = open_descriptors(&server);
    let target = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
    let ranges = "range: bytes=0-9000000,10000000-20000000\r\n";
    let mut downloads = Vec::new();
    for number in 0..CLIENTS {
        let mut stream = begin(&server, "GET", &target, ["", ranges][number % 2], b"");
        let mut first = [0; 100];
        stream.read_exact(&mut first).expect("the answer begins");
        assert!(first.starts_with([b"HTTP/1.1 200", b"HTTP/1.1 206"][number % 2]), "not a download");
        downloads.push(stream);
    }
    assert!(all_are_connected(level, &server), "the downloads are not there");
    drop(downloads);
    assert_falls_back_to(level, &server).await;
}

async fn a_client_that_hangs_up_in_an_upload_leaves_nothing_open(backend: Backend) {
    let server = start(backend);
    let client = Client::new(server.url());
    let blob = Blob::random(MIB);
    push_and_pull(&client, &blob).await;
    let level = open_descriptors(&server);
    let mut uploads = Vec::new();
    for number in 0..CLIENTS {
        let session = client.start_upload(REPOSITORY).await;
        let (method, target) = match number % 3 {
            0 => ("PATCH", session),
            1 => ("PUT", format!("{session}?digest={}", blob.digest)),
            _ => ("POST", format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", blob.digest)),
        };
        let headers = format!("content-length: {}\r\n", blob.bytes.len());
        uploads.push(begin(&server, method, &target, &headers, &blob.bytes[..MIB / 2]));
    }
    eventually("the uploads are there", || async { all_are_connected(level, &server).then_some(()) }).await;
    drop((uploads, client)); // this one keeps connections for later
    assert_falls_back_to(level, &server).await;
}

async fn an_upload_is_gone_on_with_after_its_client_hung_up(backend: Backend) {
    let server = start(backend);
    let client = Client::new(server.url());
    let blob = Blob::random(3 * MIB);
    let length = blob.bytes.len();
    let fixed = format!("content-length: {length}\r\n");
    let streamed = "transfer-encoding: chunked\r\n";
    // One piece, and the beginning of another.
    let head = format!("{MIB:x}\r\n");
    let in_pieces = [head.as_bytes(), &blob.bytes[..MIB], b"\r\n", head.as_bytes(), &blob.bytes[MIB..][..KIB]].concat();
    let cut_off: [(&str, &str, &[u8]); 6] = [
        ("PATCH", &fixed, b""),
        ("PATCH", &fixed, &blob.bytes[..10 * KIB]),
        ("PATCH", &fixed, &blob.bytes[..2 * MIB]),
        ("PATCH", streamed, &in_pieces),
        ("PUT", &fixed, b""),
        ("PUT", &fixed, &blob.bytes[..2 * MIB]),
    ];
    for (method, headers, sent) in cut_off {
        let upload = client.start_upload(REPOSITORY).await;
        let closing = format!("{upload}?digest={}", blob.digest);
        let target = if method == "PUT" { &closing } else { &upload };
        drop(begin(&server, method, target, headers, sent));
        finish(&client, &upload, &blob).await;
        assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "other bytes are served");
        expect(client.delete(&format!("/v2/{REPOSITORY}/blobs/{}", blob.digest)).await, StatusCode::ACCEPTED, "").await;
    }
}

/// Goes on where the server says that the session is, until the server has seen that the other client is gone.
async fn finish(client: &Client, upload: &str, blob: &Blob) {
    let sent = eventually("the session can be written again", || async {
        let status = expect(client.get(upload).await, StatusCode::NO_CONTENT, "the status of the upload").await;
        let range = status.headers()["range"].to_str().expect("a range is text");
        let last: usize = range.strip_prefix("0-").and_then(|last| last.parse().ok()).expect("the range of a session");
        let received = if last == 0 { 0 } else { last + 1 };
        let sent = client.send_chunk(upload, Some(received as u64), blob.bytes[received..].to_vec()).await;
        // 409: the other request still has the session. 416: its last bytes were saved after we had asked.
        let try_again = [StatusCode::CONFLICT, StatusCode::RANGE_NOT_SATISFIABLE].contains(&sent.status());
        if try_again { None } else { Some(expect(sent, StatusCode::ACCEPTED, "the rest of the upload").await) }
    })
    .await;
    let closed = client.finish_upload(&location(sent.headers()), &blob.digest, "").await;
    expect(closed, StatusCode::CREATED, "the end of the upload").await;
}
