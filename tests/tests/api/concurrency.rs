//! Many clients at once: nobody is told of a fault of the server, and nothing half is ever served.

use futures_util::future::join_all;
use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, body, expect};
use longshore_tests::image::{Blob, INDEX, MANIFEST};
use longshore_tests::on_all;
use longshore_tests::server::{Options, Server};
use reqwest::{Response, StatusCode};

use crate::content::{SmallImage, index_of};
use crate::exchange::OpenRequest;
use crate::{INLINE_MAX, MIB, shared_client};

on_all!(
    the_same_image_is_pushed_by_many,
    a_tag_names_one_of_those_that_were_pushed,
    an_image_is_whole_or_not_there_while_its_blobs_are_deleted,
    an_index_is_whole_or_not_there_while_its_manifests_are_deleted,
    a_session_takes_one_of_two_chunks,
    readers_see_the_old_or_the_new,
);

const CLIENTS: usize = 8;
const ROUNDS: usize = 12;

/// Sees that an answer has one of these statuses. Returns the status.
async fn one_of(answer: Response, statuses: &[u16]) -> u16 {
    let status = answer.status().as_u16();
    assert!(statuses.contains(&status), "{} answered {status}: {:?}", answer.url().clone(), answer.text().await);
    status
}

async fn the_same_image_is_pushed_by_many(backend: Backend) {
    let client = shared_client(backend);
    for round in 0..ROUNDS {
        let repository = format!("concurrency/same-{round}");
        let image = SmallImage::new();
        let large = Blob::random(INLINE_MAX + 1);
        join_all((0..CLIENTS).map(|_| async {
            for blob in [&large, &image.config, &image.layer] {
                client.push_blob(&repository, blob).await;
            }
            client.push_manifest(&repository, "latest", &image.manifest).await;
            client.push_manifest(&repository, &image.manifest.digest, &image.manifest).await;
        }))
        .await;
        assert_eq!(client.manifest(&repository, "latest").await, image.manifest.bytes);
        assert!(client.blob(&repository, &large.digest).await == large.bytes);
    }
}

async fn a_tag_names_one_of_those_that_were_pushed(backend: Backend) {
    let client = shared_client(backend);
    let repository = "concurrency/tag";
    let mut images = Vec::new();
    for _ in 0..CLIENTS {
        images.push(SmallImage::with_blobs_in(&client, repository).await);
    }
    for _ in 0..ROUNDS {
        join_all(images.iter().map(|image| async {
            // Two tags in either order: writers that wait for each other must not wait for ever.
            let tags = if image.manifest.digest < images[0].manifest.digest { "tag=a&tag=b" } else { "tag=b&tag=a" };
            let target = format!("{}?{tags}", image.manifest.digest);
            client.push_manifest(repository, &target, &image.manifest).await;
            one_of(client.delete(&format!("/v2/{repository}/manifests/a")).await, &[202, 404]).await;
        }))
        .await;
        let named = client.manifest(repository, "b").await;
        assert!(images.iter().any(|image| image.manifest.bytes == named));
    }
}

async fn an_image_is_whole_or_not_there_while_its_blobs_are_deleted(backend: Backend) {
    let client = shared_client(backend);
    let repository = "concurrency/blobs";
    for _ in 0..ROUNDS {
        let image = SmallImage::with_blobs_in(&client, repository).await;
        let push = async {
            let put = client.put_manifest(repository, "raced", MANIFEST, image.manifest.bytes.clone()).await;
            one_of(put, &[201, 404]).await
        };
        let delete = async |blob: &Blob| {
            let target = format!("/v2/{repository}/blobs/{}", blob.digest);
            one_of(client.delete(&target).await, &[202, 405]).await
        };
        let (pushed, config, layer) = tokio::join!(push, delete(&image.config), delete(&image.layer));
        match pushed {
            201 => assert_eq!((config, layer), (405, 405), "it lost a blob"),
            _ => assert!(config == 202 || layer == 202, "nothing was missing"),
        }
        for (blob, status) in [(&image.config, config), (&image.layer, layer)] {
            let served = client.get_blob(repository, &blob.digest).await.status();
            assert_eq!(served, if status == 202 { 404 } else { 200 });
        }
    }
}

async fn an_index_is_whole_or_not_there_while_its_manifests_are_deleted(backend: Backend) {
    let client = shared_client(backend);
    let repository = "concurrency/index";
    for round in 0..ROUNDS {
        let image = SmallImage::pushed_to(&client, repository, "image").await;
        let index = index_of(&[&image.manifest]);
        let push = async {
            let put = client.put_manifest(repository, &format!("index-{round}"), INDEX, index.bytes.clone()).await;
            one_of(put, &[201, 404]).await
        };
        let delete = async {
            let target = format!("/v2/{repository}/manifests/{}", image.manifest.digest);
            one_of(client.delete(&target).await, &[202, 405]).await
        };
        let (pushed, deleted) = tokio::join!(push, delete);
        assert!(matches!((pushed, deleted), (201, 405) | (404, 202)), "{pushed} {deleted}");
        let served = client.get_manifest(repository, &image.manifest.digest).await.status();
        assert_eq!(served, if deleted == 202 { 404 } else { 200 });
    }
}

async fn a_session_takes_one_of_two_chunks(backend: Backend) {
    let client = shared_client(backend);
    let repository = "concurrency/session";
    for size in [100, INLINE_MAX + 1, 3 * INLINE_MAX] {
        for _ in 0..ROUNDS {
            let upload = client.start_upload(repository).await;
            let blobs: Vec<Blob> = (0..CLIENTS).map(|_| Blob::random(size)).collect();
            let send = |blob: &Blob| {
                let sent = client.send_chunk(&upload, Some(0), blob.bytes.clone());
                async { one_of(sent.await, &[202, 409, 416]).await }
            };
            let statuses = join_all(blobs.iter().map(send)).await;
            let taken: Vec<usize> = (0..CLIENTS).filter(|number| statuses[*number] == 202).collect();
            assert_eq!(taken.len(), 1, "{statuses:?}");
            let blob = &blobs[taken[0]];
            let finished = client.finish_upload(&upload, &blob.digest, "").await;
            expect(finished, StatusCode::CREATED, "the end of the upload").await;
            assert!(client.blob(repository, &blob.digest).await == blob.bytes);
        }
    }
}

async fn readers_see_the_old_or_the_new(backend: Backend) {
    let client = shared_client(backend);
    let repository = "concurrency/readers";
    let old = SmallImage::pushed_to(&client, repository, "latest").await.manifest;
    let new = SmallImage::pushed_to(&client, repository, "latest").await.manifest;
    let write = async {
        for _ in 0..ROUNDS {
            for manifest in [&old, &new] {
                client.push_manifest(repository, "latest", manifest).await;
            }
        }
    };
    let read = async {
        for _ in 0..10 * ROUNDS {
            let answer = client.get_manifest(repository, "latest").await;
            let digest = answer.headers()["docker-content-digest"].clone();
            let bytes = body(answer).await;
            let expected = if digest == old.digest.as_str() { &old } else { &new };
            assert_eq!(digest, expected.digest.as_str());
            assert_eq!(bytes, expected.bytes, "the bytes of one under the name of the other");
        }
    };
    let pulls = |client: Client| async move {
        for _ in 0..ROUNDS {
            assert_eq!(client.tags(repository).await, ["latest"]);
        }
    };
    tokio::join!(write, read, pulls(client.clone()));
}

/// Clients that send some and then nothing have taken all of the memory for uploads, half of which is for those that go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_uploads_comes_through_little_memory_on_s3() {
    let server = Server::start(Options::on(Backend::S3).set("storage.upload_memory", "16MiB"));
    let (client, repository) = (Client::new(server.url()), "concurrency/crowd");
    let mut silent = Vec::new();
    for _ in 0..4 {
        let upload = client.start_upload(repository).await;
        let mut open = OpenRequest::begin(server.address(), "PATCH", &upload, "content-length: 20000000\r\n");
        open.send(&vec![7; 3 * MIB]);
        silent.push(open);
    }
    let blobs: Vec<_> = (0..30).map(|_| Blob::random(12 * MIB)).collect();
    join_all(blobs.iter().map(|blob| client.push_blob(repository, blob))).await;
    drop(silent);
    for blob in &blobs {
        assert!(client.blob(repository, &blob.digest).await == blob.bytes);
    }
}
