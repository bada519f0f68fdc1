//! Garbage of every kind, beside what must stay: a bit of everything that clients leave behind.

use longshore_tests::client::{Client, expect, location, send};
use longshore_tests::image::{Blob, INDEX, Image, MANIFEST};
use longshore_tests::random::Random;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{KIB, MIB, made_up};

/// Where all of it is.
pub(crate) const REPOSITORY: &str = "garbage/app";
/// And where some of it was mounted from there.
const OTHER: &str = "garbage/other";

/// Pushes an image under a tag, which must stay while the tag names it, and leaves garbage that shares a layer with it.
pub(crate) async fn make(client: &Client, random: &mut Random, tag: &str) -> Image {
    let shared = made_up::layer(random, 20 * KIB);
    let kept = image_with(random, &shared);
    client.push_image(REPOSITORY, tag, &kept).await;
    leave_manifests(client, random, &shared).await;
    leave_blobs(client, random).await;
    leave_uploads(client, random).await;
    kept
}

/// With a layer in a row and one in an object, beside the shared one.
fn image_with(random: &mut Random, shared: &Blob) -> Image {
    let (small, large) = (random.between(2, 16 * KIB), random.between(17 * KIB, 100 * KIB));
    let layers = vec![shared.clone(), made_up::layer(random, small), made_up::layer(random, large)];
    made_up::image_of(random, layers)
}

/// An image whose tag is deleted, one that is deleted itself with its referrer left, and an index with its image.
async fn leave_manifests(client: &Client, random: &mut Random, shared: &Blob) {
    let [untagged, deleted, child] = [(); 3].map(|()| image_with(random, shared));
    for (tag, image) in [("untagged", &untagged), ("deleted", &deleted), ("child", &child)] {
        client.push_image(REPOSITORY, tag, image).await;
    }
    let mut referrer: serde_json::Value = serde_json::from_slice(&untagged.manifest.bytes).expect("a manifest is JSON");
    referrer["subject"] = deleted.manifest.descriptor();
    let referrer = Blob::of_json(MANIFEST, &referrer);
    client.push_manifest(REPOSITORY, &referrer.digest, &referrer).await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [child.manifest.descriptor()] });
    client.push_manifest(REPOSITORY, "index", &Blob::of_json(INDEX, &index)).await;
    for reference in ["untagged", "child", "index", deleted.manifest.digest.as_str()] {
        let answer = client.delete(&format!("/v2/{REPOSITORY}/manifests/{reference}")).await;
        expect(answer, StatusCode::ACCEPTED, reference).await;
    }
}

/// Blobs that no manifest names, in a row and in an object, also in another repository.
async fn leave_blobs(client: &Client, random: &mut Random) {
    for length in [KIB, 30 * KIB] {
        let blob = made_up::layer(random, length);
        client.push_blob(REPOSITORY, &blob).await;
        let path = format!("/v2/{OTHER}/blobs/uploads/?mount={}&from={REPOSITORY}", blob.digest);
        let mounted = send(client.request(Method::POST, &path).header(CONTENT_LENGTH, 0)).await;
        expect(mounted, StatusCode::CREATED, "a mount").await;
    }
}

/// A session that nobody goes on with, and one that is given up. Now and then they are so long that an object store has
/// them in parts.
async fn leave_uploads(client: &Client, random: &mut Random) {
    let length = if random.once_in(10) { 9 * MIB } else { 50 * KIB };
    for is_given_up in [false, true] {
        let upload = client.start_upload(REPOSITORY).await;
        let sent = client.send_chunk(&upload, Some(0), random.bytes(length)).await;
        let sent = expect(sent, StatusCode::ACCEPTED, "a chunk").await;
        if is_given_up {
            let answer = client.delete(&location(sent.headers())).await;
            expect(answer, StatusCode::NO_CONTENT, "giving up an upload").await;
        }
    }
}
