//! More uploads or downloads at once than there is memory for on their way to and from an object store: who finds none is told
//! to come back, and finds it then.

use std::io::ErrorKind;
use std::net::SocketAddr;

use futures_util::future::select_all;
use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::Blob;
use longshore_tests::server::{Options, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::MIB;
use crate::answers::{eventually, read_refusal};
use crate::exchange::Answer;

const REPOSITORY: &str = "overload/app";

/// Sees that somebody is told to come back, soon enough.
fn assert_told_to_come_back(answer: &Answer, message: &str) {
    assert_eq!(answer.status, 503, "{answer:?}");
    let seconds: u64 = answer.header("retry-after").and_then(|value| value.parse().ok()).expect("when to come back");
    assert!((1..=60).contains(&seconds), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    // What follows says where more is to be found.
    let told = read_refusal(&answer.json(), "UNKNOWN").message;
    assert!(told.starts_with(message), "{told}");
}

/// What the server says before it closes the connection; a reset after that is a close too.
async fn told(stream: &mut TcpStream) -> Vec<u8> {
    let mut told = Vec::new();
    match stream.read_to_end(&mut told).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    told
}

/// An upload whose client has sent so many bytes of a chunk, and sends no more.
async fn silent(server: &Server, client: &Client, bytes: usize) -> TcpStream {
    let (upload, address) = (client.start_upload(REPOSITORY).await, server.address());
    let target = upload.strip_prefix(server.url()).unwrap_or(&upload);
    let head = format!(
        "PATCH {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        16 * MIB
    );
    let mut stream = TcpStream::connect(address).await.expect("the server takes connections");
    stream.write_all(&[head.as_bytes(), &vec![7; bytes]].concat()).await.expect("the server takes the chunk");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_keeps_others_from_memory_is_told_to_come_back() {
    const HELD: &str = "longshore_upload_memory_bytes";
    let server = Server::start(Options::on(Backend::S3).set("storage.upload_memory", "16MiB"));
    let client = Client::new(server.url());
    // Two have as good as all that is shared, a byte short of a part each. Then one of them or the third has the turn.
    let mut uploads = Vec::new();
    for (bytes, held) in [(5 * MIB - 1, 5), (5 * MIB - 1, 10), (MIB / 4, 15)] {
        uploads.push(silent(&server, &client, bytes).await);
        let is_held = async || (client.metric(HELD).await >= held * MIB as u64).then_some(());
        eventually(&format!("holding {held} MiB"), is_held).await;
    }
    let blob = Blob::random(12 * MIB);
    let answers = select_all(uploads.iter_mut().map(|upload| Box::pin(told(upload))));
    let ((answer, _, others), ()) = tokio::join!(answers, client.push_blob(REPOSITORY, &blob));
    assert_told_to_come_back(&Answer::parse(&answer), "too many uploads at once, try again");
    assert!(client.metric("longshore_memory_refusals_total{of=\"upload\"}").await >= 1);
    assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes);

    drop(others);
    drop(uploads);
    eventually("giving all of it back", async || (client.metric(HELD).await == 0).then_some(())).await;
    client.push_blob(REPOSITORY, &Blob::random(12 * MIB)).await;
}

/// Asks for a range of a blob, and takes the head of the answer. What comes after it nobody takes yet, and the kernel keeps
/// little of it.
async fn ask(address: SocketAddr, digest: &str, mib: usize) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket.set_recv_buffer_size(16 * 1024).expect("a buffer may be small");
    let mut stream = socket.connect(address).await.expect("the server takes connections");
    let (first, last) = (mib * MIB, (mib + 4) * MIB - 1);
    let request = format!(
        "GET /v2/{REPOSITORY}/blobs/{digest} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         range: bytes={first}-{last}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("the server takes the request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the server answers"));
    }
    (stream, String::from_utf8(head).expect("a head is text").to_lowercase())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_finds_no_memory_is_told_to_come_back_and_finds_it_then() {
    const LENGTH: usize = 64;
    let server = Server::start(Options::on(Backend::S3).set("storage.cache_size", "0"));
    let (client, address) = (Client::new(server.url()), server.address().parse().expect("an address"));
    let blob = Blob::random(LENGTH * MIB);
    client.push_blob(REPOSITORY, &blob).await;

    // Each that stands still holds what it is being sent, until nothing is left.
    let mut stuck = Vec::new();
    let (mut refused, head) = loop {
        let (stream, head) = ask(address, &blob.digest, stuck.len() * 4 % LENGTH).await;
        if !head.starts_with("http/1.1 206") {
            break (stream, head);
        }
        stuck.push(stream);
        assert!(stuck.len() < 200, "they hold more than there is");
    };
    let answer = [head.into_bytes(), told(&mut refused).await].concat();
    assert_told_to_come_back(&Answer::parse(&answer), "too many downloads at once, try again");
    assert!(client.metric("longshore_memory_refusals_total{of=\"download\"}").await >= 1);

    drop(stuck);
    assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes);
}
