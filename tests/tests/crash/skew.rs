//! Replicas whose clocks disagree: what expires, and when, is a matter of the database's clock alone.
//!
//! By less than a quarter of an hour, for S3 itself takes no request that is older or newer than that.

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, expect};
use longshore_tests::image::{Blob, Image};
use longshore_tests::server::{Options, Server};
use reqwest::StatusCode;

use crate::MIB;
use crate::eventually::eventually;
use crate::replicas::{path, received};

const REPOSITORY: &str = "skew/app";
/// Shorter than the clocks are apart: by the wrong clock all of it would be over at once, or never.
const LIFETIME: &str = "5m";

/// A replica that is right, and one whose clock is off.
fn replicas(skew: &str) -> [Server; 2] {
    let options = Options::on(Backend::S3).set("gc.interval", "50ms").set("gc.object_delay", "1s");
    let right = Server::start(options.set("gc.promise", LIFETIME).set("gc.upload_expiry", LIFETIME));
    let wrong = right.replica_with(|options| options.skewed(skew));
    [right, wrong]
}

/// When the replica's collector last came to its end, by the replica's own clock, in seconds.
async fn last_collection(client: &Client) -> u64 {
    client.metric("longshore_gc_last_success_timestamp_seconds").await
}

/// Waits until the replica's collector has begun and ended a pass.
async fn wait_for_a_pass(client: &Client) {
    let before = last_collection(client).await;
    // One pass may have been under way, so two seconds that differ.
    eventually("the collector passes", || async { (last_collection(client).await > before + 1).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_ahead_takes_nothing_away() {
    assert_agree("+14m", |right, wrong| wrong > right + 13 * 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_behind_takes_nothing_away() {
    assert_agree("-14m", |right, wrong| right > wrong + 13 * 60).await;
}

#[test]
fn a_clock_that_is_too_far_off_for_s3_is_named_at_the_start() {
    for skew in ["+1h", "-1h"] {
        let said = Server::start_refused(Options::on(Backend::S3).skewed(skew));
        assert!(said.contains("RequestTimeTooSkewed") && said.contains("clock right"), "{said}");
    }
}

async fn assert_agree(skew: &str, is_off: impl Fn(u64, u64) -> bool) {
    let replicas = replicas(skew);
    let [right, wrong] = [0, 1].map(|replica| Client::new(replicas[replica].url()));
    for client in [&right, &wrong] {
        eventually("the collector has passed", || async { (last_collection(client).await > 0).then_some(()) }).await;
    }
    let clocks = (last_collection(&right).await, last_collection(&wrong).await);
    assert!(is_off(clocks.0, clocks.1), "the clocks are not apart by {skew}: {clocks:?}");

    let both_ways = [(&right, &wrong), (&wrong, &right)];
    let mut begun = Vec::new();
    for (here, there) in both_ways {
        begun.push((there, begin(here).await));
    }
    for client in [&right, &wrong] {
        wait_for_a_pass(client).await;
    }
    for (there, begun) in begun {
        go_on(there, begun, [&right, &wrong]).await;
    }
    assert_collected(&right, &wrong).await;
}

/// What is begun at one replica.
struct Begun {
    upload: String,
    layer: Blob,
    /// Its layers are there, and its manifest is not.
    image: Image,
}

async fn begin(here: &Client) -> Begun {
    let (layer, image) = (Blob::random(20 * MIB), Image::random(MIB));
    let upload = path(&here.start_upload(REPOSITORY).await);
    let sent = here.send_chunk(&upload, Some(0), layer.bytes[..7 * MIB].to_vec()).await;
    expect(sent, StatusCode::ACCEPTED, "the first chunk").await;
    for blob in image.layers.iter().chain([&image.config]) {
        here.push_blob(REPOSITORY, blob).await;
    }
    Begun { upload, layer, image }
}

/// Goes on with it at the other replica.
async fn go_on(there: &Client, begun: Begun, everywhere: [&Client; 2]) {
    let Begun { upload, layer, image } = begun;
    assert_eq!(received(there, &upload).await, 7 * MIB, "what the other replica has taken");
    let sent = there.send_chunk(&upload, Some(7 * MIB as u64), layer.bytes[7 * MIB..].to_vec()).await;
    expect(sent, StatusCode::ACCEPTED, "the second chunk").await;
    expect(there.finish_upload(&upload, &layer.digest, "").await, StatusCode::CREATED, "the end of the upload").await;
    there.push_manifest(REPOSITORY, "1", &image.manifest).await;
    for client in everywhere {
        assert!(client.blob(REPOSITORY, &layer.digest).await == layer.bytes, "other bytes are served");
        client.assert_serves(REPOSITORY, &image.manifest.digest, &image).await;
    }
}

/// The collectors do work: what is given up is gone soon.
async fn assert_collected(right: &Client, wrong: &Client) {
    const DELETED: &str = "longshore_gc_objects_deleted_total";
    let before = right.metric(DELETED).await + wrong.metric(DELETED).await;
    let upload = path(&right.start_upload(REPOSITORY).await);
    let sent = right.send_chunk(&upload, Some(0), Blob::random(MIB).bytes).await;
    expect(sent, StatusCode::ACCEPTED, "a chunk").await;
    expect(right.delete(&upload).await, StatusCode::NO_CONTENT, "giving an upload up").await;
    eventually("the object of an upload that was given up is deleted", || async {
        (right.metric(DELETED).await + wrong.metric(DELETED).await > before).then_some(())
    })
    .await;
}
