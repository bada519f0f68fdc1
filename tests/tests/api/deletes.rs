//! Deleting: what goes, what stays, and what may not go.

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::{Blob, sha512};
use longshore_tests::on_all;

use crate::answers::assert_refused;
use crate::content::{SmallImage, image_manifest, index_of};
use crate::{INLINE_MAX, shared_client};

on_all!(
    a_tag_goes_alone,
    a_manifest_takes_its_tags_along,
    a_blob_goes_at_once,
    a_blob_in_use_stays,
    a_manifest_in_an_index_stays,
    what_is_not_here_cannot_be_deleted,
    another_repository_keeps_its_own,
    an_image_can_be_deleted_from_the_top,
    what_was_deleted_can_be_pushed_again,
);

async fn delete_manifest(client: &Client, repository: &str, reference: &str) -> u16 {
    client.delete(&format!("/v2/{repository}/manifests/{reference}")).await.status().as_u16()
}

async fn delete_blob(client: &Client, repository: &str, digest: &str) -> u16 {
    client.delete(&format!("/v2/{repository}/blobs/{digest}")).await.status().as_u16()
}

async fn assert_no_manifest(client: &Client, repository: &str, reference: &str) {
    let target = format!("/v2/{repository}/manifests/{reference}");
    assert_eq!(client.head(&target).await.status(), 404, "{reference}");
    assert_refused(client.get(&target).await, 404, "MANIFEST_UNKNOWN").await;
}

async fn assert_no_blob(client: &Client, repository: &str, digest: &str) {
    let target = format!("/v2/{repository}/blobs/{digest}");
    assert_eq!(client.head(&target).await.status(), 404, "{digest}");
    assert_refused(client.get(&target).await, 404, "BLOB_UNKNOWN").await;
}

async fn a_tag_goes_alone(backend: Backend) {
    let client = shared_client(backend);
    let repository = "deletes/tag";
    let image = SmallImage::pushed_to(&client, repository, "one").await;
    client.push_manifest(repository, "two", &image.manifest).await;
    assert_eq!(delete_manifest(&client, repository, "one").await, 202);
    assert_no_manifest(&client, repository, "one").await;
    assert_eq!(client.tags(repository).await, ["two"]);
    assert_eq!(client.manifest(repository, "two").await, image.manifest.bytes);
    assert_eq!(delete_manifest(&client, repository, "two").await, 202);
    assert_eq!(client.manifest(repository, &image.manifest.digest).await, image.manifest.bytes);
    assert_eq!(delete_manifest(&client, repository, "two").await, 404);
}

async fn a_manifest_takes_its_tags_along(backend: Backend) {
    let client = shared_client(backend);
    let repository = "deletes/manifest";
    let image = SmallImage::pushed_to(&client, repository, "one").await;
    let long = sha512(&image.manifest.bytes);
    client.push_manifest(repository, "two", &image.manifest).await;
    client.push_manifest(repository, &format!("{long}?tag=long"), &image.manifest).await;
    let other = SmallImage::pushed_to(&client, repository, "other").await;
    assert_eq!(delete_manifest(&client, repository, &image.manifest.digest).await, 202);
    for reference in ["one", "two", &image.manifest.digest] {
        assert_no_manifest(&client, repository, reference).await;
    }
    assert_eq!(
        client.tags(repository).await,
        ["long", "other"],
        "the same bytes by another digest are another manifest"
    );
    assert_eq!(client.manifest(repository, &long).await, image.manifest.bytes);
    assert_eq!(client.manifest(repository, "other").await, other.manifest.bytes);
}

async fn a_blob_goes_at_once(backend: Backend) {
    let client = shared_client(backend);
    let repository = "deletes/blob";
    for size in [0, 10, INLINE_MAX + 1] {
        let blob = Blob::random(size);
        let long = Blob { digest: sha512(&blob.bytes), ..blob.clone() };
        for blob in [blob, long] {
            client.push_blob(repository, &blob).await;
            assert!(client.blob(repository, &blob.digest).await == blob.bytes);
            assert_eq!(delete_blob(&client, repository, &blob.digest).await, 202);
            assert_no_blob(&client, repository, &blob.digest).await;
            assert_eq!(delete_blob(&client, repository, &blob.digest).await, 404);
        }
    }
}

async fn a_blob_in_use_stays(backend: Backend) {
    let client = shared_client(backend);
    let repository = "deletes/blob-in-use";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let second = image_manifest(&image.config, &[]);
    client.push_manifest(repository, "second", &second).await;
    for blob in [&image.config, &image.layer] {
        let answer = client.delete(&format!("/v2/{repository}/blobs/{}", blob.digest)).await;
        let refusal = assert_refused(answer, 405, "DENIED").await;
        assert_eq!(refusal.detail["manifest"], image.manifest.digest.as_str());
        assert!(refusal.message.contains(&image.manifest.digest), "{refusal:?}");
        assert!(client.blob(repository, &blob.digest).await == blob.bytes);
    }
    // Untagged is still in use; deleted is not.
    assert_eq!(delete_manifest(&client, repository, "latest").await, 202);
    assert_eq!(delete_blob(&client, repository, &image.layer.digest).await, 405);
    assert_eq!(delete_manifest(&client, repository, &image.manifest.digest).await, 202);
    assert_eq!(delete_blob(&client, repository, &image.layer.digest).await, 202);
    assert_eq!(delete_blob(&client, repository, &image.config.digest).await, 405, "the second image has it too");
}

async fn a_manifest_in_an_index_stays(backend: Backend) {
    let client = shared_client(backend);
    let repository = "deletes/index";
    let image = SmallImage::pushed_to(&client, repository, "image").await;
    let index = index_of(&[&image.manifest]);
    client.push_manifest(repository, "index", &index).await;
    let answer = client.delete(&format!("/v2/{repository}/manifests/{}", image.manifest.digest)).await;
    let refusal = assert_refused(answer, 405, "DENIED").await;
    assert_eq!(refusal.detail["index"], index.digest.as_str());
    assert_eq!(client.manifest(repository, "image").await, image.manifest.bytes, "its tag is still there");
    assert_eq!(delete_manifest(&client, repository, "image").await, 202, "a tag may go");
    assert_eq!(delete_manifest(&client, repository, &index.digest).await, 202);
    assert_eq!(delete_manifest(&client, repository, &image.manifest.digest).await, 202);
}

async fn what_is_not_here_cannot_be_deleted(backend: Backend) {
    let client = shared_client(backend);
    SmallImage::pushed_to(&client, "deletes/known", "latest").await;
    let absent = Blob::random(10).digest;
    for repository in ["deletes/known", "deletes/never-seen"] {
        for reference in ["no-such-tag", &absent] {
            let answer = client.delete(&format!("/v2/{repository}/manifests/{reference}")).await;
            assert_refused(answer, 404, "MANIFEST_UNKNOWN").await;
        }
        let answer = client.delete(&format!("/v2/{repository}/blobs/{absent}")).await;
        assert_refused(answer, 404, "BLOB_UNKNOWN").await;
    }
}

async fn another_repository_keeps_its_own(backend: Backend) {
    let client = shared_client(backend);
    let image = SmallImage::pushed_to(&client, "deletes/mine", "latest").await;
    let large = Blob::random(INLINE_MAX + 1);
    for repository in ["deletes/mine", "deletes/yours"] {
        for blob in [&image.config, &image.layer, &large] {
            client.push_blob(repository, blob).await;
        }
        client.push_manifest(repository, "latest", &image.manifest).await;
    }
    assert_eq!(delete_manifest(&client, "deletes/mine", &image.manifest.digest).await, 202);
    for blob in [&image.config, &image.layer, &large] {
        assert_eq!(delete_blob(&client, "deletes/mine", &blob.digest).await, 202);
        assert_no_blob(&client, "deletes/mine", &blob.digest).await;
        assert!(client.blob("deletes/yours", &blob.digest).await == blob.bytes);
    }
    assert_eq!(client.manifest("deletes/yours", "latest").await, image.manifest.bytes);
}

async fn an_image_can_be_deleted_from_the_top(backend: Backend) {
    let client = shared_client(backend);
    let repository = "deletes/top-down";
    let image = SmallImage::pushed_to(&client, repository, "image").await;
    let inner = index_of(&[&image.manifest]);
    let outer = index_of(&[&inner]);
    client.push_manifest(repository, "inner", &inner).await;
    client.push_manifest(repository, "outer", &outer).await;
    for manifest in [&outer, &inner, &image.manifest] {
        assert_eq!(delete_manifest(&client, repository, &manifest.digest).await, 202);
    }
    for blob in [&image.layer, &image.config] {
        assert_eq!(delete_blob(&client, repository, &blob.digest).await, 202);
    }
    assert!(client.tags(repository).await.is_empty());
}

async fn what_was_deleted_can_be_pushed_again(backend: Backend) {
    let client = shared_client(backend);
    let repository = "deletes/again";
    let image = SmallImage::new();
    let large = Blob::random(INLINE_MAX + 1);
    for _ in 0..3 {
        for blob in [&image.config, &image.layer, &large] {
            client.push_blob(repository, blob).await;
        }
        client.push_manifest(repository, "latest", &image.manifest).await;
        assert_eq!(client.manifest(repository, "latest").await, image.manifest.bytes);
        assert!(client.blob(repository, &large.digest).await == large.bytes);
        assert_eq!(delete_manifest(&client, repository, &image.manifest.digest).await, 202);
        for blob in [&image.config, &image.layer, &large] {
            assert_eq!(delete_blob(&client, repository, &blob.digest).await, 202);
        }
    }
}
