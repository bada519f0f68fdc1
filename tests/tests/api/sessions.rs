//! Upload sessions: where they stand, who may write them, and what is left of them when something goes wrong.

use bytes::Bytes;
use futures_util::stream;
use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, expect, location, send};
use longshore_tests::image::{Blob, random_bytes};
use longshore_tests::on_all;
use longshore_tests::server::{Options, Server};
use reqwest::{Body, Method, Response, StatusCode};

use crate::answers::{assert_refused, eventually, header};
use crate::exchange::{Answer, OpenRequest};
use crate::{INLINE_MAX, KIB, MIB, shared_client, shared_server};

on_all!(
    a_session_says_where_it_stands,
    a_cancelled_session_is_gone,
    a_finished_session_is_gone,
    a_session_is_known_in_its_repository_only,
    names_of_sessions_that_are_none_are_unknown,
    a_chunk_out_of_order_changes_nothing,
    a_large_chunk_out_of_order_is_answered_too,
    a_chunk_of_another_length_changes_nothing,
    a_content_range_that_is_none_changes_nothing,
    the_second_writer_is_refused,
    a_body_that_breaks_off_is_kept_and_taken_up_again,
    a_client_that_hangs_up_can_come_back,
    a_body_that_stalls_is_told_so_and_kept,
    the_end_of_a_session_that_is_none_is_refused_before_its_bytes_come,
    a_restart_loses_no_session,
    an_end_that_is_sent_again_is_answered_as_before,
    the_end_of_no_session_finds_only_what_its_repository_holds,
    a_wrong_digest_of_another_algorithm_leaves_the_bytes_to_be_ended_rightly,
    other_bytes_after_a_wrong_digest_of_another_algorithm,
);

/// Sizes at which a session is kept in the database, moves into a file, and has been there before.
const SIZES: [usize; 3] = [1000, INLINE_MAX + 1000, MIB + 1000];

async fn assert_stands_at(client: &Client, upload: &str, received: usize) {
    let status = client.get(upload).await;
    assert_eq!(status.status(), 204);
    assert_eq!(header(&status, "range"), format!("0-{}", received.saturating_sub(1)));
    assert_eq!(header(&status, "location"), upload);
}

/// Sends the rest of a blob of which the server has `received` bytes, and sees that all of it is right.
async fn assert_goes_on(client: &Client, repository: &str, upload: &str, blob: &Blob, received: usize) {
    assert_stands_at(client, upload, received).await;
    let patched = client.send_chunk(upload, Some(received as u64), blob.bytes[received..].to_vec()).await;
    let patched = expect(patched, StatusCode::ACCEPTED, "the rest of the blob").await;
    let pushed = client.finish_upload(&location(patched.headers()), &blob.digest, "").await;
    expect(pushed, StatusCode::CREATED, "the end of the upload").await;
    assert!(client.blob(repository, &blob.digest).await == blob.bytes, "other bytes came back");
}

/// A session that has the first half of a blob.
async fn half_done(client: &Client, repository: &str, size: usize) -> (String, Blob, usize) {
    let blob = Blob::random(size);
    let upload = client.start_upload(repository).await;
    let half = size / 2;
    let patched = client.send_chunk(&upload, Some(0), blob.bytes[..half].to_vec()).await;
    expect(patched, StatusCode::ACCEPTED, "the first half").await;
    (upload, blob, half)
}

async fn a_session_says_where_it_stands(backend: Backend) {
    let client = shared_client(backend);
    let repository = "sessions/status";
    let open = client.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/"));
    let opened = expect(send(open).await, StatusCode::ACCEPTED, "a session").await;
    let id = header(&opened, "docker-upload-uuid").to_owned();
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
    let upload = header(&opened, "location").to_owned();
    assert_eq!(upload, format!("/v2/{repository}/blobs/uploads/{id}"), "relative: a proxy may have another name");
    assert_eq!(header(&opened, "range"), "0-0", "0--1 would be no range to any client");
    assert_eq!(header(&opened, "content-length"), "0");

    assert_stands_at(&client, &upload, 0).await;
    let mut sent = 0;
    for size in [1, 9, INLINE_MAX - 10, 1, 2 * MIB] {
        let patched = client.send_chunk(&upload, Some(sent as u64), vec![0; size]).await;
        sent += size;
        assert_eq!(patched.status(), 202);
        assert_eq!(header(&patched, "range"), format!("0-{}", sent - 1));
        assert_eq!(header(&patched, "location"), upload);
        assert_eq!(header(&patched, "docker-upload-uuid"), id);
        assert_stands_at(&client, &upload, sent).await;
    }
    let empty = client.send_chunk(&upload, None, "").await;
    assert_eq!((empty.status().as_u16(), header(&empty, "range")), (202, format!("0-{}", sent - 1).as_str()));
}

/// Everything that can be asked of a session.
async fn ask_everything(client: &Client, upload: &str) -> Vec<Response> {
    let digest = Blob::random(1).digest;
    vec![
        client.get(upload).await,
        client.send_chunk(upload, None, "x").await,
        client.send_chunk(upload, Some(0), "x").await,
        client.finish_upload(upload, &digest, "x").await,
        client.delete(upload).await,
    ]
}

async fn assert_unknown(client: &Client, upload: &str) {
    for answer in ask_everything(client, upload).await {
        assert_refused(answer, 404, "BLOB_UPLOAD_UNKNOWN").await;
    }
}

async fn a_cancelled_session_is_gone(backend: Backend) {
    let client = shared_client(backend);
    for size in SIZES {
        let (upload, ..) = half_done(&client, "sessions/cancelled", size).await;
        assert_eq!(client.delete(&upload).await.status(), 204);
        assert_unknown(&client, &upload).await;
    }
}

async fn a_finished_session_is_gone(backend: Backend) {
    let client = shared_client(backend);
    for size in SIZES {
        let (upload, blob, half) = half_done(&client, "sessions/finished", size).await;
        assert_goes_on(&client, "sessions/finished", &upload, &blob, half).await;
        assert_unknown(&client, &upload).await;
        assert!(client.blob("sessions/finished", &blob.digest).await == blob.bytes);
    }
}

async fn a_session_is_known_in_its_repository_only(backend: Backend) {
    let client = shared_client(backend);
    for size in SIZES {
        let (upload, blob, half) = half_done(&client, "sessions/mine", size).await;
        client.push_blob("sessions/other", &Blob::random(1)).await;
        for repository in ["sessions/other", "sessions/not-there", "sessions"] {
            assert_unknown(&client, &upload.replace("sessions/mine", repository)).await;
        }
        assert_goes_on(&client, "sessions/mine", &upload, &blob, half).await;
    }
}

async fn names_of_sessions_that_are_none_are_unknown(backend: Backend) {
    let client = shared_client(backend);
    client.push_blob("sessions/names", &Blob::random(1)).await;
    for id in ["00000000-0000-4000-8000-000000000000", "x", "%00", "0", &"9".repeat(5000)] {
        assert_unknown(&client, &format!("/v2/sessions/names/blobs/uploads/{id}")).await;
    }
}

async fn a_chunk_out_of_order_changes_nothing(backend: Backend) {
    let client = shared_client(backend);
    let repository = "sessions/order";
    for size in SIZES {
        let (upload, blob, half) = half_done(&client, repository, size).await;
        for start in [half + 1, size, half - 1, 0, 1] {
            let chunk = vec![0; 100];
            let patched = client.send_chunk(&upload, Some(start as u64), chunk.clone()).await;
            let put = client.request(Method::PUT, &format!("{upload}?digest={}", blob.digest));
            let put = put.header("content-range", format!("{start}-{}", start + 99)).body(chunk);
            for refused in [patched, send(put).await] {
                assert_eq!(header(&refused, "location"), upload, "{start}");
                assert_eq!(header(&refused, "range"), format!("0-{}", half - 1), "{start}");
                let refusal = assert_refused(refused, 416, "BLOB_UPLOAD_INVALID").await;
                assert!(refusal.message.contains(&half.to_string()), "{refusal:?}");
            }
            assert_stands_at(&client, &upload, half).await;
        }
        assert_goes_on(&client, repository, &upload, &blob, half).await;
    }
}

async fn a_large_chunk_out_of_order_is_answered_too(backend: Backend) {
    let client = shared_client(backend);
    let (upload, blob, half) = half_done(&client, "sessions/large-chunk", MIB).await;
    // The server answers before it has read all of it: the answer must reach the client all the same.
    for _ in 0..10 {
        let refused = client.send_chunk(&upload, Some(5), vec![0; 16 * MIB]).await;
        assert_refused(refused, 416, "BLOB_UPLOAD_INVALID").await;
    }
    assert_goes_on(&client, "sessions/large-chunk", &upload, &blob, half).await;
}

/// A PATCH whose `Content-Range` and body are as the test likes.
async fn patch(client: &Client, upload: &str, content_range: &str, body: impl Into<Body>) -> Response {
    send(client.request(Method::PATCH, upload).header("content-range", content_range).body(body)).await
}

async fn a_chunk_of_another_length_changes_nothing(backend: Backend) {
    let client = shared_client(backend);
    for size in SIZES {
        let (upload, blob, half) = half_done(&client, "sessions/length", size).await;
        let rest = &blob.bytes[half..];
        for announced in [rest.len() - 1, rest.len() + 1, 1] {
            let content_range = format!("{half}-{}", half + announced - 1);
            let refused = patch(&client, &upload, &content_range, rest.to_vec()).await;
            assert_refused(refused, 400, "SIZE_INVALID").await;
            // Without a Content-Length it shows only at the end.
            let streamed = Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(rest))]));
            let refused = patch(&client, &upload, &content_range, streamed).await;
            assert_refused(refused, 400, "SIZE_INVALID").await;
            assert_stands_at(&client, &upload, half).await;
        }
        assert_goes_on(&client, "sessions/length", &upload, &blob, half).await;
    }
}

async fn a_content_range_that_is_none_changes_nothing(backend: Backend) {
    let client = shared_client(backend);
    for size in SIZES {
        let (upload, blob, half) = half_done(&client, "sessions/content-range", size).await;
        for content_range in [
            "",
            "-",
            &format!("{half}-"),
            &format!("-{half}"),
            &format!("{half}-{}", half - 1),
            &format!("bytes {half}-{half}/*"),
            &format!("bytes={half}-{half}"),
            &format!("{half}-{half}/{size}"),
            &format!("{half}-{half},{}-{}", half + 1, half + 1),
            &format!("+{half}-{half}"),
            &format!("{half}.0-{half}.0"),
            "a-b",
            "0-18446744073709551615",
            "99999999999999999999-99999999999999999999",
        ] {
            let refused = patch(&client, &upload, content_range, "x").await;
            let refusal = assert_refused(refused, 400, "BLOB_UPLOAD_INVALID").await;
            assert!(refusal.message.contains("Content-Range"), "{content_range}: {refusal:?}");
        }
        assert_goes_on(&client, "sessions/content-range", &upload, &blob, half).await;
    }
}

async fn the_second_writer_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let repository = "sessions/two-writers";
    for size in SIZES {
        let (upload, blob, half) = half_done(&client, repository, size).await;
        let (first_part, last_part) = blob.bytes[half..].split_at(100);
        let headers = format!("content-length: {}\r\n", size - half);
        let mut first = OpenRequest::begin(shared_server(backend).address(), "PATCH", &upload, &headers);
        first.send(first_part);

        let at_the_end = Some(half as u64);
        for refused in [
            client.send_chunk(&upload, None, "intruder").await,
            client.send_chunk(&upload, at_the_end, "intruder").await,
            client.finish_upload(&upload, &blob.digest, "intruder").await,
            client.delete(&upload).await,
        ] {
            assert_refused(refused, 409, "BLOB_UPLOAD_INVALID").await;
        }
        assert_stands_at(&client, &upload, half).await;

        first.send(last_part);
        let answer = first.answer();
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.header("range"), Some(format!("0-{}", size - 1).as_str()));
        let pushed = client.finish_upload(&upload, &blob.digest, "").await;
        expect(pushed, StatusCode::CREATED, "the end of the upload").await;
        assert!(client.blob(repository, &blob.digest).await == blob.bytes, "other bytes came back");
    }
}

/// Heads of a PATCH that announce more than will come.
fn unfinished_bodies(half: usize, size: usize) -> [String; 3] {
    let length = size - half;
    [
        format!("content-length: {length}\r\n"),
        format!("content-length: {length}\r\ncontent-range: {half}-{}\r\n", size - 1),
        "transfer-encoding: chunked\r\n".to_owned(),
    ]
}

/// The part of a body as it goes over the wire: a chunk of chunked encoding where the head says so.
fn on_the_wire(headers: &str, part: &[u8]) -> Vec<u8> {
    if headers.contains("chunked") {
        [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
    } else {
        part.to_vec()
    }
}

async fn a_body_that_breaks_off_is_kept_and_taken_up_again(backend: Backend) {
    let client = shared_client(backend);
    for size in SIZES {
        for number in 0..3 {
            let (upload, blob, half) = half_done(&client, "sessions/broken-off", size).await;
            let headers = &unfinished_bodies(half, size)[number];
            let came = half + size / 4;
            let mut open = OpenRequest::begin(shared_server(backend).address(), "PATCH", &upload, headers);
            open.send(&on_the_wire(headers, &blob.bytes[half..came]));
            let answer = open.break_off();
            assert_eq!(answer.status, 400, "{headers}: {answer:?}");
            assert_eq!(answer.json()["errors"][0]["code"], "BLOB_UPLOAD_INVALID");
            assert_goes_on(&client, "sessions/broken-off", &upload, &blob, came).await;
        }
    }
}

async fn a_client_that_hangs_up_can_come_back(backend: Backend) {
    let client = shared_client(backend);
    for size in SIZES {
        for number in 0..3 {
            let (upload, blob, half) = half_done(&client, "sessions/hung-up", size).await;
            let headers = &unfinished_bodies(half, size)[number];
            let came = half + size / 4;
            let mut open = OpenRequest::begin(shared_server(backend).address(), "PATCH", &upload, headers);
            open.send(&on_the_wire(headers, &blob.bytes[half..came]));
            drop(open);
            let at_half = format!("0-{}", half - 1);
            eventually("noticed that the client hung up", || async {
                let status = client.get(&upload).await;
                (header(&status, "range") != at_half).then_some(())
            })
            .await;
            eventually("ready for the next writer", || async {
                let patched = client.send_chunk(&upload, None, "").await;
                (patched.status() == 202).then_some(())
            })
            .await;
            assert_goes_on(&client, "sessions/hung-up", &upload, &blob, came).await;
        }
    }
}

async fn a_body_that_stalls_is_told_so_and_kept(backend: Backend) {
    let server = Server::start(Options::on(backend).set("http.idle_timeout", "1s"));
    let client = Client::new(server.url());
    for size in SIZES {
        let (upload, blob, half) = half_done(&client, "sessions/stalled", size).await;
        let headers = format!("content-length: {}\r\n", size - half);
        let mut open = OpenRequest::begin(server.address(), "PATCH", &upload, &headers);
        open.send(&blob.bytes[half..half + 10]);
        let answer = open.answer();
        assert_eq!(answer.status, 408, "{answer:?}");
        assert_eq!(answer.json()["errors"][0]["code"], "BLOB_UPLOAD_INVALID");
        assert_goes_on(&client, "sessions/stalled", &upload, &blob, half + 10).await;
    }
}

/// The server takes a small end at once, without a claim before it; a client that withholds it is told all the same.
async fn the_end_of_a_session_that_is_none_is_refused_before_its_bytes_come(backend: Backend) {
    let client = shared_client(backend);
    let (upload, blob, half) = half_done(&client, "sessions/withheld", 1000).await;
    let end = format!("{upload}?digest={}", blob.digest);
    let out_of_order = format!("content-length: 10\r\ncontent-range: {}-{}\r\n", half + 1, half + 10);
    let mut open = OpenRequest::begin(shared_server(backend).address(), "PUT", &end, &out_of_order);
    open.send(b"x");
    assert_eq!(open.answer().status, 416);
    eventually("ready for the next writer", || async {
        let deleted = client.delete(&upload).await;
        (deleted.status() == 204).then_some(())
    })
    .await;
    let mut open = OpenRequest::begin(shared_server(backend).address(), "PUT", &end, "content-length: 10\r\n");
    open.send(b"x");
    assert_eq!(open.answer().status, 404);
}

/// As a proxy does it when the server has died behind its commit, and as a client does that heard nothing.
async fn an_end_that_is_sent_again_is_answered_as_before(backend: Backend) {
    let mut server = Server::start(Options::on(backend));
    let repository = "sessions/again";
    let mut ends = Vec::new();
    for size in SIZES {
        let client = Client::new(server.url());
        let (upload, blob, half) = half_done(&client, repository, size).await;
        let rest = blob.bytes[half..].to_vec();
        let pushed = client.finish_upload(&upload, &blob.digest, rest).await;
        ends.push((upload, blob, half, header(&pushed, "location").to_owned()));
        expect(pushed, StatusCode::CREATED, "the end of the upload").await;
    }
    server.kill9();
    server.restart();
    let client = Client::new(server.url());
    for (upload, blob, half, location) in ends {
        let rest = blob.bytes[half..].to_vec();
        for last in [rest, Vec::new()] {
            let again = client.finish_upload(&upload, &blob.digest, last).await;
            assert_eq!(
                (header(&again, "location"), header(&again, "docker-content-digest")),
                (&*location, &*blob.digest)
            );
            expect(again, StatusCode::CREATED, "the same end again").await;
        }
        assert!(client.blob(repository, &blob.digest).await == blob.bytes);
        // Its bytes are not waited for: this client sends one of them.
        let end = format!("{upload}?digest={}", blob.digest);
        let address = server.address();
        let head =
            format!("PUT {end} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 100000000\r\n");
        assert_eq!(Answer::to(address, format!("{head}\r\nx")).status, 201);
    }
}

async fn the_end_of_no_session_finds_only_what_its_repository_holds(backend: Backend) {
    let client = shared_client(backend);
    let blob = Blob::random(MIB);
    client.push_blob("sessions/holds", &blob).await;
    client.push_blob("sessions/holds-not", &Blob::random(1)).await;
    let end_of = async |repository: &str, digest: &str| {
        let upload = format!("/v2/{repository}/blobs/uploads/00000000-0000-4000-8000-000000000000");
        client.finish_upload(&upload, digest, "").await
    };
    assert_eq!(end_of("sessions/holds", &blob.digest).await.status(), 201);
    for (repository, digest) in [
        ("sessions/holds-not", &blob.digest),
        ("sessions/not-there", &blob.digest),
        ("sessions/holds", &Blob::random(1).digest),
    ] {
        assert_refused(end_of(repository, digest).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    }
    // What was taken away is not found either.
    assert_eq!(client.delete(&format!("/v2/sessions/holds/blobs/{}", blob.digest)).await.status(), 202);
    assert_refused(end_of("sessions/holds", &blob.digest).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
}

/// The object is made before such a digest can be compared, and with it the last bytes are.
async fn other_bytes_after_a_wrong_digest_of_another_algorithm(backend: Backend) {
    let client = shared_client(backend);
    let repository = "sessions/other-bytes";
    let blob = Blob::random(30 * MIB);
    let (before, last) = blob.bytes.split_at(29 * MIB);
    let upload = client.start_upload(repository).await;
    let patched = client.send_chunk(&upload, None, before.to_vec()).await;
    expect(patched, StatusCode::ACCEPTED, "what comes before the end").await;
    let digest = longshore_tests::image::sha512(&blob.bytes);
    let spoiled = client.finish_upload(&upload, &digest, vec![0; MIB]).await;
    assert_refused(spoiled, 400, "DIGEST_INVALID").await;
    let again = client.finish_upload(&upload, &digest, last.to_vec()).await;
    if backend == Backend::S3 {
        // Parts cannot be taken out of an object again.
        let refusal = assert_refused(again, 404, "BLOB_UPLOAD_UNKNOWN").await;
        assert!(refusal.message.contains("start a new one"), "{refusal:?}");
    } else {
        expect(again, StatusCode::CREATED, "the end with the right bytes").await;
        assert!(client.blob(repository, &digest).await == blob.bytes);
    }
}

/// The object is made before such a digest can be compared.
async fn a_wrong_digest_of_another_algorithm_leaves_the_bytes_to_be_ended_rightly(backend: Backend) {
    let client = shared_client(backend);
    let repository = "sessions/another-algorithm";
    for (size, at_the_end) in
        [(1000, 10), (MIB, 0), (MIB, MIB / 2), (30 * MIB, 0), (30 * MIB, MIB), (30 * MIB, 12 * MIB)]
    {
        let blob = Blob::random(size);
        let (before, last) = blob.bytes.split_at(size - at_the_end);
        let upload = client.start_upload(repository).await;
        let patched = client.send_chunk(&upload, None, before.to_vec()).await;
        expect(patched, StatusCode::ACCEPTED, "what comes before the end").await;
        for _ in 0..2 {
            let refused = client.finish_upload(&upload, &longshore_tests::image::sha512(b"x"), last.to_vec()).await;
            assert_refused(refused, 400, "DIGEST_INVALID").await;
            assert_stands_at(&client, &upload, before.len()).await;
        }
        let digest = longshore_tests::image::sha512(&blob.bytes);
        let pushed = client.finish_upload(&upload, &digest, last.to_vec()).await;
        expect(pushed, StatusCode::CREATED, "the end with the right digest").await;
        assert!(client.blob(repository, &digest).await == blob.bytes, "{size} bytes, {at_the_end} of them at the end");
    }
}

async fn a_restart_loses_no_session(backend: Backend) {
    let mut server = Server::start(Options::on(backend));
    let repository = "sessions/restart";
    let mut sessions = Vec::new();
    for size in [1, KIB, INLINE_MAX, INLINE_MAX + 1000, MIB + 1000] {
        let client = Client::new(server.url());
        sessions.push(half_done(&client, repository, size.max(2)).await);
    }
    assert!(server.terminate().success());
    server.restart();
    let client = Client::new(server.url());
    for (upload, blob, half) in sessions {
        assert_goes_on(&client, repository, &upload, &blob, half).await;
    }
    // And what is closed only now, by another algorithm than the bytes before the restart were hashed with.
    let bytes = random_bytes(MIB);
    let upload = client.start_upload(repository).await;
    client.send_chunk(&upload, None, bytes.clone()).await;
    server.kill9();
    server.restart();
    let client = Client::new(server.url());
    let digest = longshore_tests::image::sha512(&bytes);
    expect(client.finish_upload(&upload, &digest, "").await, StatusCode::CREATED, "after kill -9").await;
    assert!(client.blob(repository, &digest).await == bytes, "other bytes came back");
}
