//! Tags that may not move, over HTTP: every verb, each kind of reference.

use futures_util::future::join_all;
use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::Blob;
use longshore_tests::on_all;
use longshore_tests::server::{Options, Server};
use reqwest::Response;

use crate::answers::assert_refused;
use crate::content::{SmallImage, index_of};

on_all!(
    a_release_does_not_move,
    a_release_is_not_deleted_nor_what_it_names,
    several_tags_of_one_push_move_together_or_not,
    of_first_pushes_at_the_same_moment_one_wins,
);

const RULES: &str = "[{ name: releases, repositories: [prod/**], tags: 'v[0-9].*', except_tags: '.*-rc.*' }]";

fn start(backend: Backend) -> (Server, Client) {
    let server = Server::start(Options::on(backend).set("immutable_tags", RULES));
    let client = Client::new(server.url());
    (server, client)
}

async fn put(client: &Client, repository: &str, reference: &str, manifest: &Blob) -> Response {
    client.put_manifest(repository, reference, &manifest.media_type, manifest.bytes.clone()).await
}

async fn delete(client: &Client, repository: &str, reference: &str) -> Response {
    client.delete(&format!("/v2/{repository}/manifests/{reference}")).await
}

async fn a_release_does_not_move(backend: Backend) {
    let (_server, client) = start(backend);
    let repository = "prod/app";
    let first = SmallImage::pushed_to(&client, repository, "v1").await;
    let second = SmallImage::with_blobs_in(&client, repository).await;
    let refusal = assert_refused(put(&client, repository, "v1", &second.manifest).await, 403, "DENIED").await;
    assert_eq!(
        refusal.message,
        format!(
            "tag v1 names {} and is immutable by the rule \"releases\" of this registry: push under another tag",
            first.manifest.digest
        )
    );
    assert_eq!(refusal.detail["tag"], "v1");
    assert_eq!(refusal.detail["rule"], "releases");
    assert_eq!(refusal.detail["digest"], first.manifest.digest.as_str());
    assert_eq!(client.manifest(repository, "v1").await, first.manifest.bytes);
    let by_digest = client.get_manifest(repository, &second.manifest.digest).await;
    assert_eq!(by_digest.status(), 404, "nothing of the push was kept");
    // The same again is fine; and so is what the rule is not for.
    client.push_manifest(repository, "v1", &first.manifest).await;
    for tag in ["v2", "latest", "v3-rc1"] {
        client.push_manifest(repository, tag, &second.manifest).await;
    }
    client.push_manifest(repository, "latest", &first.manifest).await;
    client.push_manifest(repository, "v3-rc1", &first.manifest).await;
    for image in [SmallImage::new(), SmallImage::new()] {
        client.push_blob("dev/app", &image.config).await;
        client.push_blob("dev/app", &image.layer).await;
        client.push_manifest("dev/app", "v1", &image.manifest).await;
    }
}

async fn a_release_is_not_deleted_nor_what_it_names(backend: Backend) {
    let (_server, client) = start(backend);
    let repository = "prod/deletes";
    let image = SmallImage::pushed_to(&client, repository, "v1").await;
    client.push_manifest(repository, "latest", &image.manifest).await;
    let index = index_of(&[&image.manifest]);
    client.push_manifest(repository, "v2", &index).await;
    for reference in ["v1", &image.manifest.digest, &index.digest] {
        let answer = delete(&client, repository, reference).await;
        let refusal = assert_refused(answer, 405, "DENIED").await;
        assert!(refusal.message.contains("delete") || refusal.message.contains("immutable"), "{refusal:?}");
    }
    assert_eq!(delete(&client, repository, "v7").await.status(), 404, "it is not here");
    let refusal = assert_refused(delete(&client, repository, &index.digest).await, 405, "DENIED").await;
    assert_eq!((&refusal.detail["tag"], &refusal.detail["rule"]), (&"v2".into(), &"releases".into()));
    for blob in [&image.config, &image.layer] {
        let answer = client.delete(&format!("/v2/{repository}/blobs/{}", blob.digest)).await;
        assert_refused(answer, 405, "DENIED").await;
    }
    assert_eq!(delete(&client, repository, "latest").await.status(), 202, "another tag may go");
    assert_eq!(client.tags(repository).await, ["v1", "v2"]);
    assert_eq!(client.manifest(repository, "v1").await, image.manifest.bytes);
    let other = SmallImage::pushed_to(&client, repository, "v3-rc1").await;
    assert_eq!(delete(&client, repository, &other.manifest.digest).await.status(), 202);
}

async fn several_tags_of_one_push_move_together_or_not(backend: Backend) {
    let (_server, client) = start(backend);
    let repository = "prod/several";
    let first = SmallImage::pushed_to(&client, repository, "v1").await;
    let second = SmallImage::with_blobs_in(&client, repository).await;
    let target = format!("{}?tag=latest&tag=v1&tag=v2", second.manifest.digest);
    assert_refused(put(&client, repository, &target, &second.manifest).await, 403, "DENIED").await;
    assert_eq!(client.tags(repository).await, ["v1"]);
    assert_eq!(client.get_manifest(repository, &second.manifest.digest).await.status(), 404);
    let target = format!("{}?tag=latest&tag=v1&tag=v2", first.manifest.digest);
    assert_eq!(put(&client, repository, &target, &first.manifest).await.status(), 201);
    assert_eq!(client.tags(repository).await, ["latest", "v1", "v2"]);
}

async fn of_first_pushes_at_the_same_moment_one_wins(backend: Backend) {
    let (server, client) = start(backend);
    let repository = "prod/race";
    let other = (backend == Backend::S3).then(|| server.replica());
    let clients = [client.clone(), other.as_ref().map_or(client.clone(), |other| Client::new(other.url()))];
    for round in 0..5 {
        let tag = format!("v{round}");
        let mut images = Vec::new();
        for _ in 0..8 {
            images.push(SmallImage::with_blobs_in(&client, repository).await);
        }
        let pushes = images
            .iter()
            .enumerate()
            .map(|(number, image)| put(&clients[number % 2], repository, &tag, &image.manifest));
        let statuses: Vec<u16> = join_all(pushes).await.iter().map(|answer| answer.status().as_u16()).collect();
        let winner = statuses.iter().position(|status| *status == 201).expect("one of them came first");
        assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 7, "{statuses:?}");
        for client in &clients {
            assert_eq!(client.manifest(repository, &tag).await, images[winner].manifest.bytes);
        }
    }
}
