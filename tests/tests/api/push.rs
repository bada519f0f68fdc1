//! Pushing whole blobs: every way that a client has, every size and digest at which the server changes its ways.

use bytes::Bytes;
use futures_util::stream;
use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, body, expect, location, send};
use longshore_tests::image::{Blob, random_bytes, sha512};
use longshore_tests::on_all;
use reqwest::{Body, Method, Response, StatusCode};

use crate::answers::{assert_refused, header};
use crate::{INLINE_MAX, MIB, shared_client};

on_all!(
    every_way_takes_every_size,
    the_algorithm_may_be_named_at_the_beginning,
    a_wrong_digest_is_refused_and_the_right_one_then_taken,
    a_digest_that_is_none_is_refused,
    a_missing_digest_is_refused,
    a_blob_may_be_pushed_again,
    a_repository_that_cannot_be_named_is_refused,
    the_largest_blob_may_be_limited,
);

/// A way to push a blob.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// POST with the digest and all bytes.
    OneRequest,
    /// The same, its length not announced.
    OneStreamedRequest,
    /// POST, then PUT with all bytes.
    PostThenPut,
    /// POST, one PATCH whose length nobody announces, an empty PUT: docker and podman.
    StreamThenPut,
    /// POST, PATCH with a part, PUT with the rest.
    PatchThenLastChunk,
    /// POST, three times PATCH with `Content-Range`, an empty PUT: regctl.
    ThreeChunks,
}

const WAYS: [Way; 6] = [
    Way::OneRequest,
    Way::OneStreamedRequest,
    Way::PostThenPut,
    Way::StreamThenPut,
    Way::PatchThenLastChunk,
    Way::ThreeChunks,
];

/// Pushes by the way and returns the answer to the last request.
async fn push(client: &Client, repository: &str, way: Way, bytes: &[u8], digest: &str) -> Response {
    let in_one = |body: Body| {
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        client.request(Method::POST, &target).header("content-type", "application/octet-stream").body(body)
    };
    match way {
        Way::OneRequest => return send(in_one(bytes.to_vec().into())).await,
        Way::OneStreamedRequest => return send(in_one(streamed(bytes))).await,
        _ => {}
    }
    let mut upload = client.start_upload(repository).await;
    let last = match way {
        Way::StreamThenPut => {
            let patched = send(client.request(Method::PATCH, &upload).body(streamed(bytes))).await;
            upload = assert_received(&patched, bytes.len());
            &[]
        }
        Way::PatchThenLastChunk => {
            let (first, last) = bytes.split_at(bytes.len() / 2);
            let patched = client.send_chunk(&upload, None, first.to_vec()).await;
            upload = assert_received(&patched, first.len());
            last
        }
        Way::ThreeChunks => {
            let mut sent = 0;
            for chunk in bytes.chunks(bytes.len().div_ceil(3).max(1)) {
                let patched = client.send_chunk(&upload, Some(sent as u64), chunk.to_vec()).await;
                sent += chunk.len();
                upload = assert_received(&patched, sent);
            }
            &[]
        }
        Way::OneRequest | Way::OneStreamedRequest | Way::PostThenPut => bytes,
    };
    client.finish_upload(&upload, digest, last.to_vec()).await
}

/// A body in several pieces that nobody announces the length of.
fn streamed(bytes: &[u8]) -> Body {
    let pieces: Vec<_> =
        bytes.chunks(100_000).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    Body::wrap_stream(stream::iter(pieces))
}

/// Sees that a chunk was taken, and returns where the session goes on.
fn assert_received(patched: &Response, received: usize) -> String {
    assert_eq!(patched.status(), 202);
    assert_eq!(header(patched, "range"), format!("0-{}", received.saturating_sub(1)));
    location(patched.headers())
}

async fn assert_created(client: &Client, pushed: Response, repository: &str, digest: &str, bytes: &[u8], what: &str) {
    let pushed = expect(pushed, StatusCode::CREATED, what).await;
    assert_eq!(header(&pushed, "location"), format!("/v2/{repository}/blobs/{digest}"), "{what}");
    assert_eq!(header(&pushed, "docker-content-digest"), digest, "{what}");
    assert_eq!(header(&pushed, "content-length"), "0", "{what}");
    let answer = client.get(header(&pushed, "location")).await;
    assert_eq!(header(&answer, "content-length"), bytes.len().to_string(), "{what}");
    assert_eq!(header(&answer, "docker-content-digest"), digest, "{what}");
    assert!(body(answer).await == bytes, "{what}: other bytes came back");
}

async fn every_way_takes_every_size(backend: Backend) {
    let client = shared_client(backend);
    for size in
        [0, 1, 2, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 2 * INLINE_MAX, MIB - 1, MIB, MIB + 1, 2 * MIB + 2]
    {
        for way in WAYS {
            for (repository, hash) in [("push/sha256", Blob::random as fn(usize) -> Blob), ("push/sha512", random_512)]
            {
                let blob = hash(size);
                let what = format!("{size} bytes by {way:?} as {}", blob.digest);
                let pushed = push(&client, repository, way, &blob.bytes, &blob.digest).await;
                assert_created(&client, pushed, repository, &blob.digest, &blob.bytes, &what).await;
            }
        }
    }
}

fn random_512(length: usize) -> Blob {
    let blob = Blob::random(length);
    Blob { digest: sha512(&blob.bytes), ..blob }
}

async fn the_algorithm_may_be_named_at_the_beginning(backend: Backend) {
    let client = shared_client(backend);
    let repository = "push/algorithm";
    let open = async |algorithm: &str| {
        let target = format!("/v2/{repository}/blobs/uploads/?digest-algorithm={algorithm}");
        send(client.request(Method::POST, &target).header("content-length", 0)).await
    };
    for size in [0, 10, INLINE_MAX + 1, MIB + 1] {
        for algorithm in ["sha256", "sha512"] {
            // The digest that closes the session decides, also where another one was announced.
            for blob in [Blob::random(size), random_512(size)] {
                let opened = expect(open(algorithm).await, StatusCode::ACCEPTED, algorithm).await;
                let patched = client.send_chunk(&location(opened.headers()), None, blob.bytes.clone()).await;
                let upload = assert_received(&patched, size);
                let pushed = client.finish_upload(&upload, &blob.digest, "").await;
                assert_created(&client, pushed, repository, &blob.digest, &blob.bytes, algorithm).await;
            }
        }
    }
    for algorithm in ["md5", "sha384", "", "SHA256", "%00"] {
        let refusal = assert_refused(open(algorithm).await, 400, "DIGEST_INVALID").await;
        assert!(refusal.message.contains("digest-algorithm"), "{refusal:?}");
    }
}

async fn a_wrong_digest_is_refused_and_the_right_one_then_taken(backend: Backend) {
    let client = shared_client(backend);
    let repository = "push/wrong-digest";
    for size in [0, 100, INLINE_MAX + 1, MIB + 1] {
        for way in WAYS {
            let blob = Blob::random(size);
            for wrong in [Blob::random(16), random_512(16)] {
                let refused = push(&client, repository, way, &blob.bytes, &wrong.digest).await;
                let refusal = assert_refused(refused, 400, "DIGEST_INVALID").await;
                assert_eq!(refusal.detail["declared"], wrong.digest.as_str(), "{way:?}");
                assert_eq!(client.get_blob(repository, &wrong.digest).await.status(), 404, "{way:?}");
            }
        }
        let blob = Blob::random(size);
        let (first, last) = blob.bytes.split_at(size / 2);
        let upload = client.start_upload(repository).await;
        let upload = assert_received(&client.send_chunk(&upload, None, first.to_vec()).await, first.len());
        let refused = client.finish_upload(&upload, &Blob::random(16).digest, last.to_vec()).await;
        assert_refused(refused, 400, "DIGEST_INVALID").await;
        let status = client.get(&upload).await;
        assert_eq!(
            header(&status, "range"),
            format!("0-{}", first.len().saturating_sub(1)),
            "the session is as before"
        );
        let pushed = client.finish_upload(&upload, &blob.digest, last.to_vec()).await;
        assert_created(&client, pushed, repository, &blob.digest, &blob.bytes, "after a wrong digest").await;
    }
}

async fn a_digest_that_is_none_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let repository = "push/bad-digest";
    let hex = "0".repeat(64);
    let upload = client.start_upload(repository).await;
    for digest in [
        "sha256:baddigeststring",
        "sha256:",
        ":",
        "",
        "latest",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        &format!("sha256:{hex}0"),
        &format!("sha512:{hex}"),
        &format!("SHA256:{hex}"),
        &format!("sha256:{}", "A".repeat(64)),
        &format!("sha256:..%2F{}", &hex[3..]),
        &format!("sha256:{hex}%00"),
    ] {
        let post = client.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/?digest={digest}"));
        assert_refused(send(post.body("x")).await, 400, "DIGEST_INVALID").await;
        assert_refused(client.finish_upload(&upload, digest, "x").await, 400, "DIGEST_INVALID").await;
        let mount =
            client.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/?mount={digest}&from=push/x"));
        assert_refused(send(mount).await, 400, "DIGEST_INVALID").await;
    }
    let blob = Blob::random(10);
    let pushed = client.finish_upload(&upload, &blob.digest, blob.bytes.clone()).await;
    assert_created(&client, pushed, repository, &blob.digest, &blob.bytes, "after bad digests").await;
}

async fn a_missing_digest_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let upload = client.start_upload("push/no-digest").await;
    let refusal =
        assert_refused(send(client.request(Method::PUT, &upload).body("x")).await, 400, "DIGEST_INVALID").await;
    assert!(refusal.message.contains("digest is missing"), "{refusal:?}");
    assert_eq!(client.get(&upload).await.status(), 204);
}

async fn a_blob_may_be_pushed_again(backend: Backend) {
    let client = shared_client(backend);
    for size in [10, INLINE_MAX + 1] {
        let blob = Blob::random(size);
        for repository in ["push/again", "push/again", "push/again-elsewhere"] {
            for way in WAYS {
                let pushed = push(&client, repository, way, &blob.bytes, &blob.digest).await;
                assert_created(&client, pushed, repository, &blob.digest, &blob.bytes, &format!("{way:?}")).await;
            }
        }
    }
}

async fn a_repository_that_cannot_be_named_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let long = "a".repeat(256);
    for repository in ["Upper", "a..b", "-a", "a/_b", "a%2Fb", &long] {
        let post = client.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/"));
        assert_refused(send(post).await, 400, "NAME_INVALID").await;
    }
    let longest = "a".repeat(255);
    client.push_blob(&longest, &Blob::new("application/octet-stream", random_bytes(10))).await;
}

async fn the_largest_blob_may_be_limited(backend: Backend) {
    use longshore_tests::server::{Options, Server};
    for limit in [10, INLINE_MAX + 10] {
        let server = Server::start(Options::on(backend).set("limits.blob_size", &limit.to_string()));
        let client = Client::new(server.url());
        for way in WAYS {
            let blob = Blob::random(limit);
            let pushed = push(&client, "push/limit", way, &blob.bytes, &blob.digest).await;
            assert_created(&client, pushed, "push/limit", &blob.digest, &blob.bytes, &format!("{way:?}")).await;
        }
        let blob = Blob::random(limit + 1);
        for way in [Way::OneRequest, Way::OneStreamedRequest, Way::PostThenPut, Way::PatchThenLastChunk] {
            let refused = push(&client, "push/limit", way, &blob.bytes, &blob.digest).await;
            let refusal = assert_refused(refused, 413, "BLOB_UPLOAD_INVALID").await;
            assert!(refusal.message.contains(&limit.to_string()), "{refusal:?}");
            assert_eq!(client.get_blob("push/limit", &blob.digest).await.status(), 404);
        }
        let upload = client.start_upload("push/limit").await;
        assert_refused(client.send_chunk(&upload, None, blob.bytes).await, 413, "BLOB_UPLOAD_INVALID").await;
    }
}
