//! Pulling blobs and manifests: the right bytes under the right headers.

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, body, expect, send};
use longshore_tests::image::{Blob, INDEX, MANIFEST, sha512};
use longshore_tests::on_all;
use reqwest::{Method, Response, StatusCode};

use crate::answers::{assert_refused, header, lasting_headers};
use crate::content::{SmallImage, index_of};
use crate::exchange::Answer;
use crate::{INLINE_MAX, MIB, shared_client, shared_server};

on_all!(
    head_answers_as_get_does,
    the_digest_asked_for_is_the_digest_answered,
    a_tag_keeps_the_digest_that_it_was_pushed_with,
    accept_changes_nothing,
    nothing_is_compressed_or_sent_in_chunks,
    what_the_client_has_is_not_sent_again,
    a_condition_that_does_not_hold_is_an_answer,
    what_is_not_here_is_unknown,
    strangers_parameters_are_ignored,
    the_base_says_that_a_registry_is_here,
);

async fn head_answers_as_get_does(backend: Backend) {
    let client = shared_client(backend);
    let repository = "pull/head";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    for size in [0, 1, INLINE_MAX, INLINE_MAX + 1, 3 * MIB + 1] {
        let blob = Blob::random(size);
        client.push_blob(repository, &blob).await;
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        let answer = assert_get_and_head(&client, &path, &blob).await;
        assert_eq!(header(&answer, "content-type"), "application/octet-stream");
        assert_eq!(header(&answer, "content-disposition"), "attachment");
        assert_eq!(header(&answer, "cache-control"), "max-age=31536000, immutable");
    }
    for (reference, caching) in
        [(image.manifest.digest.as_str(), "max-age=31536000, immutable"), ("latest", "no-cache")]
    {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let answer = assert_get_and_head(&client, &path, &image.manifest).await;
        assert_eq!(header(&answer, "content-type"), MANIFEST);
        assert_eq!(header(&answer, "cache-control"), caching);
    }
}

/// Sees that GET gives the content, and HEAD the same headers and nothing else.
async fn assert_get_and_head(client: &Client, path: &str, content: &Blob) -> Response {
    let get = expect(client.get(path).await, StatusCode::OK, path).await;
    let head = expect(client.head(path).await, StatusCode::OK, path).await;
    assert_eq!(lasting_headers(&get), lasting_headers(&head), "{path}");
    assert_eq!(header(&head, "content-length"), content.bytes.len().to_string());
    assert_eq!(header(&head, "docker-content-digest"), content.digest);
    assert_eq!(header(&head, "etag"), format!("\"{}\"", content.digest));
    assert_eq!(header(&head, "accept-ranges"), "bytes");
    assert_eq!(header(&head, "x-content-type-options"), "nosniff");
    assert_eq!(header(&head, "content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!(header(&head, "docker-distribution-api-version"), "registry/2.0");
    assert!(!head.headers().contains_key("transfer-encoding"), "{head:?}");
    assert!(body(get).await == content.bytes, "{path} gives other bytes than were pushed");
    head
}

async fn the_digest_asked_for_is_the_digest_answered(backend: Backend) {
    let client = shared_client(backend);
    let repository = "pull/digests";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    for size in [10, 2 * INLINE_MAX] {
        let blob = Blob::random(size);
        for digest in [blob.digest.clone(), sha512(&blob.bytes)] {
            client.push_blob(repository, &Blob { digest, ..blob.clone() }).await;
        }
        assert_both_digests(&client, &format!("/v2/{repository}/blobs/"), &blob).await;
    }
    for digest in [image.manifest.digest.clone(), sha512(&image.manifest.bytes)] {
        client.push_manifest(repository, &digest, &image.manifest).await;
    }
    assert_both_digests(&client, &format!("/v2/{repository}/manifests/"), &image.manifest).await;
}

async fn assert_both_digests(client: &Client, prefix: &str, content: &Blob) {
    for digest in [content.digest.clone(), sha512(&content.bytes)] {
        let path = format!("{prefix}{digest}");
        for method in [Method::GET, Method::HEAD] {
            let answer = expect(send(client.request(method, &path)).await, StatusCode::OK, &path).await;
            assert_eq!(header(&answer, "docker-content-digest"), digest);
        }
    }
}

async fn a_tag_keeps_the_digest_that_it_was_pushed_with(backend: Backend) {
    let client = shared_client(backend);
    let repository = "pull/tag-digest";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    let digest = sha512(&image.manifest.bytes);
    client.push_manifest(repository, &format!("{digest}?tag=long"), &image.manifest).await;
    client.push_manifest(repository, "short", &image.manifest).await;
    for (tag, digest) in [("long", &digest), ("short", &image.manifest.digest)] {
        let answer = client.head(&format!("/v2/{repository}/manifests/{tag}")).await;
        assert_eq!(header(&answer, "docker-content-digest"), digest, "{tag}");
    }
}

async fn accept_changes_nothing(backend: Backend) {
    let client = shared_client(backend);
    let repository = "pull/accept";
    let image = SmallImage::pushed_to(&client, repository, "image").await;
    let index = index_of(&[&image.manifest]);
    client.push_manifest(repository, "index", &index).await;
    let address = shared_server(backend).address();
    let one_type = format!("accept: {INDEX}\r\n");
    let two_lines = format!("accept: {INDEX}\r\naccept: {MANIFEST}\r\n");
    let schema1 = "accept: application/vnd.docker.distribution.manifest.v1+prettyjws\r\n";
    for accept in ["", "accept: */*\r\n", "accept: text/html;q=0.1\r\n", "accept: \r\n", schema1, &one_type, &two_lines]
    {
        for (tag, stored) in [("image", &image.manifest), ("index", &index)] {
            let request = format!(
                "GET /v2/{repository}/manifests/{tag} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{accept}\r\n"
            );
            let answer = Answer::to(address, request);
            assert_eq!(answer.status, 200, "{accept}");
            assert_eq!(answer.header("content-type"), Some(stored.media_type.as_str()), "{accept}");
            assert_eq!(answer.body, stored.bytes, "{accept}");
        }
    }
}

async fn nothing_is_compressed_or_sent_in_chunks(backend: Backend) {
    let client = shared_client(backend);
    let repository = "pull/encoding";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let zeroes = Blob::new("application/octet-stream", vec![0; 2 * MIB]);
    client.push_blob(repository, &zeroes).await;
    let address = shared_server(backend).address();
    let blob = format!("blobs/{}", zeroes.digest);
    for (target, content) in [("manifests/latest", &image.manifest), (&blob, &zeroes)] {
        // What containerd sends.
        let request = format!(
            "GET /v2/{repository}/{target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             accept-encoding: zstd;q=1.0, gzip;q=0.8, deflate\r\n\r\n"
        );
        let answer = Answer::to(address, request);
        assert_eq!(answer.header("content-encoding"), None, "{target}");
        assert_eq!(answer.header("transfer-encoding"), None, "{target}");
        assert_eq!(answer.header("content-length"), Some(content.bytes.len().to_string().as_str()), "{target}");
        assert!(answer.body == content.bytes, "{target}");
    }
}

async fn what_the_client_has_is_not_sent_again(backend: Backend) {
    let client = shared_client(backend);
    let repository = "pull/etag";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let large = Blob::random(INLINE_MAX + 1);
    client.push_blob(repository, &large).await;
    let other = format!("\"{}\"", Blob::random(1).digest);
    for (target, content) in targets(repository, &image, &large) {
        let etag = format!("\"{}\"", content.digest);
        let weak = format!("W/{etag}");
        let list = format!("{other}, {etag}");
        for known in [&etag, &weak, &list, "*"] {
            for method in [Method::GET, Method::HEAD] {
                let answer = send(client.request(method, &target).header("if-none-match", known)).await;
                assert_eq!(answer.status(), 304, "{target} {known}");
                assert_eq!(header(&answer, "etag"), etag, "{target} {known}");
                assert_eq!(header(&answer, "docker-content-digest"), content.digest, "{target} {known}");
                assert!(body(answer).await.is_empty(), "{target} {known}");
            }
        }
        for unknown in [&other, "", "nonsense"] {
            let answer = send(client.request(Method::GET, &target).header("if-none-match", unknown)).await;
            assert_eq!(answer.status(), 200, "{target} {unknown}");
            assert!(body(answer).await == content.bytes, "{target} {unknown}");
        }
    }
}

async fn a_condition_that_does_not_hold_is_an_answer(backend: Backend) {
    let client = shared_client(backend);
    let repository = "pull/if-match";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let large = Blob::random(INLINE_MAX + 1);
    client.push_blob(repository, &large).await;
    for (target, content) in targets(repository, &image, &large) {
        let etag = format!("\"{}\"", content.digest);
        let other = format!("\"{}\"", Blob::random(1).digest);
        for (condition, status) in [(&etag, 200), (&other, 412)] {
            for method in [Method::GET, Method::HEAD] {
                let answer = send(client.request(method, &target).header("if-match", condition)).await;
                assert_eq!(answer.status(), status, "{target} {condition}");
            }
        }
    }
}

/// A manifest by tag and by digest, a blob in the database, a blob in a file.
fn targets<'a>(repository: &str, image: &'a SmallImage, large: &'a Blob) -> [(String, &'a Blob); 4] {
    [
        (format!("/v2/{repository}/manifests/latest"), &image.manifest),
        (format!("/v2/{repository}/manifests/{}", image.manifest.digest), &image.manifest),
        (format!("/v2/{repository}/blobs/{}", image.layer.digest), &image.layer),
        (format!("/v2/{repository}/blobs/{}", large.digest), large),
    ]
}

async fn what_is_not_here_is_unknown(backend: Backend) {
    let client = shared_client(backend);
    SmallImage::pushed_to(&client, "pull/known", "latest").await;
    let absent = Blob::random(10);
    let digests = [absent.digest.clone(), sha512(&absent.bytes)];
    for repository in ["pull/known", "pull/never-seen"] {
        for digest in &digests {
            let target = format!("/v2/{repository}/blobs/{digest}");
            let refusal = assert_refused(client.get(&target).await, 404, "BLOB_UNKNOWN").await;
            assert!(refusal.message.contains(digest), "{refusal:?}");
            assert_eq!(refusal.detail["digest"], digest.as_str());
            assert_eq!(client.head(&target).await.status(), 404);
        }
        for reference in [digests[0].as_str(), &digests[1], "no-such-tag"] {
            let target = format!("/v2/{repository}/manifests/{reference}");
            let refusal = assert_refused(client.get(&target).await, 404, "MANIFEST_UNKNOWN").await;
            assert_eq!(refusal.detail["reference"], reference);
            assert_eq!(client.head(&target).await.status(), 404);
        }
    }
}

async fn strangers_parameters_are_ignored(backend: Backend) {
    let client = shared_client(backend);
    let repository = "pull/ns";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    for query in ["?ns=docker.io", "?ns=", "?x[]=%00%ff&&=&y"] {
        assert!(client.manifest(repository, &format!("latest{query}")).await == image.manifest.bytes, "{query}");
        let layer = format!("{}{query}", image.layer.digest);
        assert!(client.blob(repository, &layer).await == image.layer.bytes, "{query}");
    }
}

async fn the_base_says_that_a_registry_is_here(backend: Backend) {
    let client = shared_client(backend);
    for path in ["/v2/", "/v2"] {
        let answer = client.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(header(&answer, "docker-distribution-api-version"), "registry/2.0");
        assert_eq!(body(answer).await, b"{}");
        assert_eq!(client.head(path).await.status(), 200, "{path}");
    }
}
