//! Being told to stop: what is under way ends well, nothing new begins, and nothing is lost.

use std::io::{Read, Write};
use std::net::TcpStream;

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, expect};
use longshore_tests::image::{Blob, sha256};
use longshore_tests::server::{Options, Server};
use longshore_tests::{on_all, raw};
use reqwest::StatusCode;

use crate::MIB;
use crate::answers::{eventually, header};
use crate::exchange::{OpenRequest, read_head};

on_all!(a_download_under_way_ends_well, an_upload_that_takes_too_long_is_saved, idle_connections_hold_nothing_up);

async fn a_download_under_way_ends_well(backend: Backend) {
    let mut server = Server::start(Options::on(backend).set("http.drain_delay", "3s"));
    let client = Client::new(server.url());
    // More than all buffers on the way can hold: the server is not done before the client has read.
    let blob = Blob::random(64 * MIB);
    client.push_blob("shutdown/download", &blob).await;
    let mut download = raw::connect(server.address());
    let request = format!("GET /v2/shutdown/download/blobs/{} HTTP/1.1\r\nhost: x\r\n\r\n", blob.digest);
    download.write_all(request.as_bytes()).expect("the server takes the request");
    assert!(read_head(&mut download).starts_with("HTTP/1.1 200"));

    server.signal("TERM");
    eventually("not ready", || async {
        let answer = client.get("/readyz").await;
        (answer.status() == 503).then_some(())
    })
    .await;
    assert_eq!(client.get("/v2/").await.status(), 200, "balancers have not noticed yet");
    let address = server.address().to_owned();
    eventually("closed to new connections", || async { TcpStream::connect(&address).is_err().then_some(()) }).await;

    let mut received = vec![0; blob.bytes.len()];
    download.read_exact(&mut received).expect("the download goes on");
    assert_eq!(sha256(&received), blob.digest);
    assert!(raw::read_to_close(&mut download).is_empty(), "the connection ends after its answer");
    assert!(server.terminate().success());
}

async fn an_upload_that_takes_too_long_is_saved(backend: Backend) {
    let mut server = Server::start(Options::on(backend).set("http.drain_timeout", "1s"));
    let client = Client::new(server.url());
    for size in [100, 2 * MIB] {
        let blob = Blob::random(size);
        let upload = client.start_upload("shutdown/upload").await;
        let headers = format!("content-length: {size}\r\n");
        let mut open = OpenRequest::begin(server.address(), "PATCH", &upload, &headers);
        open.send(&blob.bytes[..size / 2]);
        assert!(server.terminate().success());
        drop(open);

        server.restart();
        let client = Client::new(server.url());
        let status = client.get(&upload).await;
        assert_eq!(header(&status, "range"), format!("0-{}", size / 2 - 1));
        let pushed = client.finish_upload(&upload, &blob.digest, blob.bytes[size / 2..].to_vec()).await;
        expect(pushed, StatusCode::CREATED, "the rest of the upload").await;
        assert!(client.blob("shutdown/upload", &blob.digest).await == blob.bytes);
    }
}

async fn idle_connections_hold_nothing_up(backend: Backend) {
    // Longer than the harness waits for the end of a server.
    let options = Options::on(backend).set("http.drain_timeout", "10m").set("http.header_timeout", "10m");
    let mut server = Server::start(options);
    let client = Client::new(server.url());
    assert_eq!(client.get("/v2/").await.status(), 200);
    let over_http2 = Client::new(server.url()).over_http2();
    assert_eq!(over_http2.get("/v2/").await.status(), 200);
    let silent = raw::connect(server.address());
    assert!(server.terminate().success());
    drop((client, over_http2, silent));
}
