//! Mounting a blob from another repository; and that nothing of another repository shows without it.

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, expect, location, send};
use longshore_tests::image::{Blob, sha512};
use longshore_tests::on_all;
use reqwest::{Method, Response, StatusCode};

use crate::answers::{assert_refused, header};
use crate::{INLINE_MAX, shared_client};

on_all!(
    a_blob_is_mounted_from_where_it_is,
    a_blob_is_mounted_from_anywhere,
    what_cannot_be_mounted_is_uploaded,
    what_is_elsewhere_only_is_unknown_here,
    a_mounted_blob_is_the_repositorys_own,
    a_source_that_cannot_be_named_is_refused,
);

async fn mount(client: &Client, target: &str, digest: &str, from: Option<&str>) -> Response {
    let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
    let path = format!("/v2/{target}/blobs/uploads/?mount={digest}{from}");
    send(client.request(Method::POST, &path).header("content-length", 0)).await
}

/// Blobs in the database and in a file, by both algorithms.
async fn blobs_in(client: &Client, repository: &str) -> Vec<Blob> {
    let mut blobs = Vec::new();
    for size in [0, 10, INLINE_MAX + 1] {
        let blob = Blob::random(size);
        let long = Blob { digest: sha512(&blob.bytes), ..blob.clone() };
        for blob in [blob, long] {
            client.push_blob(repository, &blob).await;
            blobs.push(blob);
        }
    }
    blobs
}

async fn assert_mounted(client: &Client, mounted: Response, target: &str, blob: &Blob) {
    let mounted = expect(mounted, StatusCode::CREATED, "mounting").await;
    assert_eq!(header(&mounted, "location"), format!("/v2/{target}/blobs/{}", blob.digest));
    assert_eq!(header(&mounted, "docker-content-digest"), blob.digest);
    assert!(client.blob(target, &blob.digest).await == blob.bytes);
}

async fn a_blob_is_mounted_from_where_it_is(backend: Backend) {
    let client = shared_client(backend);
    for blob in blobs_in(&client, "mount/source").await {
        for target in ["mount/target", "mount/target", "mount/source"] {
            let mounted = mount(&client, target, &blob.digest, Some("mount/source")).await;
            assert_mounted(&client, mounted, target, &blob).await;
        }
        let encoded = mount(&client, "mount/encoded", &blob.digest, Some("mount%2Fsource")).await;
        assert_mounted(&client, encoded, "mount/encoded", &blob).await;
    }
}

async fn a_blob_is_mounted_from_anywhere(backend: Backend) {
    let client = shared_client(backend);
    for blob in blobs_in(&client, "mount/somewhere").await {
        let mounted = mount(&client, "mount/anonymous", &blob.digest, None).await;
        assert_mounted(&client, mounted, "mount/anonymous", &blob).await;
    }
}

async fn what_cannot_be_mounted_is_uploaded(backend: Backend) {
    let client = shared_client(backend);
    let target = "mount/uploaded";
    client.push_blob("mount/without-it", &Blob::random(1)).await;
    for size in [10, INLINE_MAX + 1] {
        for from in [Some("mount/without-it"), Some("mount/not-there"), None] {
            let blob = Blob::random(size);
            let opened =
                expect(mount(&client, target, &blob.digest, from).await, StatusCode::ACCEPTED, "mounting").await;
            assert_eq!(client.get_blob(target, &blob.digest).await.status(), 404);
            let pushed = client.finish_upload(&location(opened.headers()), &blob.digest, blob.bytes.clone()).await;
            expect(pushed, StatusCode::CREATED, "the upload instead").await;
            assert!(client.blob(target, &blob.digest).await == blob.bytes);
        }
    }
    // `from` is an order and no hint: what is elsewhere is not taken from there.
    let blob = Blob::random(10);
    client.push_blob("mount/elsewhere", &blob).await;
    assert_eq!(mount(&client, target, &blob.digest, Some("mount/without-it")).await.status(), 202);
    assert_eq!(client.get_blob(target, &blob.digest).await.status(), 404);
}

async fn what_is_elsewhere_only_is_unknown_here(backend: Backend) {
    let client = shared_client(backend);
    client.push_blob("mount/here", &Blob::random(1)).await;
    for blob in blobs_in(&client, "mount/there").await.iter().filter(|blob| !blob.bytes.is_empty()) {
        let path = format!("/v2/mount/here/blobs/{}", blob.digest);
        assert_refused(client.get(&path).await, 404, "BLOB_UNKNOWN").await;
        assert_eq!(client.head(&path).await.status(), 404);
        assert_refused(client.delete(&path).await, 404, "BLOB_UNKNOWN").await;
        assert!(client.blob("mount/there", &blob.digest).await == blob.bytes);
    }
}

async fn a_mounted_blob_is_the_repositorys_own(backend: Backend) {
    let client = shared_client(backend);
    for blob in blobs_in(&client, "mount/lender").await {
        let mounted = mount(&client, "mount/borrower", &blob.digest, Some("mount/lender")).await;
        assert_mounted(&client, mounted, "mount/borrower", &blob).await;
        let delete = client.delete(&format!("/v2/mount/lender/blobs/{}", blob.digest)).await;
        assert_eq!(delete.status(), 202);
        assert_refused(client.get_blob("mount/lender", &blob.digest).await, 404, "BLOB_UNKNOWN").await;
        assert!(client.blob("mount/borrower", &blob.digest).await == blob.bytes);
    }
}

async fn a_source_that_cannot_be_named_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let digest = Blob::random(1).digest;
    for from in ["", "Upper", "..%2Fmount", "a%00b", "%2Fa"] {
        let refusal = assert_refused(mount(&client, "mount/bad", &digest, Some(from)).await, 400, "NAME_INVALID").await;
        assert!(refusal.message.contains("from"), "{refusal:?}");
    }
}
