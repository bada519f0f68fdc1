//! `deploy/nginx.conf` in front of two replicas: requests are shared out, bytes go through as they come, and a replica
//! that is gone is not missed.

use std::io::Write;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_tests::client::{Client, body, expect, location, send};
use longshore_tests::image::{Blob, Image};
use longshore_tests::raw;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::stack::{PASSWORD, Stack, USER, eventually, is_healthy};
use crate::{KIB, MIB};

const REPOSITORY: &str = "deploy/app";

/// Pulls an image and compares every byte.
async fn assert_pulls(client: &Client, tag: &str, image: &Image) {
    assert!(client.manifest(REPOSITORY, tag).await == image.manifest.bytes);
    for blob in image.layers.iter().chain([&image.config]) {
        assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "{}", blob.digest);
    }
}

/// How many requests a replica has answered.
async fn answered(stack: &Stack, which: usize) -> u64 {
    let metrics = stack.metrics(which).await;
    let counts = metrics.lines().filter(|line| line.starts_with("http_server_request_duration_seconds_count"));
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_pushed_and_pulled_through_it_and_both_replicas_take_part() {
    let stack = Stack::start();
    let (client, image) = (stack.client(), Image::random(24 * MIB));
    let before = [answered(&stack, 0).await, answered(&stack, 1).await];
    client.push_image(REPOSITORY, "v1", &image).await;
    assert_pulls(&client, "v1", &image).await;
    for _ in 0..20 {
        client.manifest(REPOSITORY, "v1").await;
    }
    for (which, before) in before.into_iter().enumerate() {
        let its = answered(&stack, which).await - before;
        assert!(its >= 10, "replica {which} has answered {its} requests");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chunks_of_an_upload_go_to_both_replicas() {
    let client = Stack::shared().client();
    let blob = Blob::random(19 * MIB + 5);
    let upload = client.start_upload(REPOSITORY).await;
    let mut sent = 0;
    for size in [MIB, 7 * MIB, 20 * KIB, 11 * MIB] {
        let chunk = blob.bytes[sent..(sent + size).min(blob.bytes.len())].to_vec();
        let length = chunk.len();
        let answer =
            expect(client.send_chunk(&upload, Some(sent as u64), chunk).await, StatusCode::ACCEPTED, "chunk").await;
        assert_eq!(location(answer.headers()), upload, "relative, and so right behind any proxy");
        sent += length;
    }
    assert_eq!(sent, blob.bytes.len());
    expect(client.finish_upload(&upload, &blob.digest, "").await, StatusCode::CREATED, "the end").await;
    assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes);
}

/// Were the body kept by nginx until it is whole, the replica would have seen nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_has_sent_before_it_hangs_up_is_there() {
    let stack = Stack::shared();
    let client = stack.client();
    let upload = client.start_upload(REPOSITORY).await;
    let mut stream = raw::connect(&stack.address());
    let login = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let head = format!(
        "PATCH {upload} HTTP/1.1\r\nhost: x\r\nauthorization: Basic {login}\r\ncontent-length: {}\r\n\r\n",
        64 * MIB
    );
    stream.write_all(head.as_bytes()).expect("nginx takes the head");
    stream.write_all(&vec![7; 32 * MIB]).expect("nginx takes half of the body");
    drop(stream);
    let received = eventually("what came is saved", async || {
        let status = client.get(&upload).await;
        let range = status.headers().get("range")?.to_str().ok()?.strip_prefix("0-")?.parse::<usize>().ok()?;
        (status.status() == StatusCode::NO_CONTENT && range > 0).then_some(range + 1)
    });
    let received = received.await;
    assert!(received <= 32 * MIB, "{received}");
    // And there it goes on.
    let rest = client.send_chunk(&upload, Some(received as u64), vec![7; 32 * MIB - received + 1]).await;
    expect(rest, StatusCode::ACCEPTED, "the rest").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_ranges_pass() {
    let client = Stack::shared().client();
    let blob = Blob::random(3 * MIB);
    client.push_blob(REPOSITORY, &blob).await;
    let ranges: Vec<String> = (0..1024).map(|at| format!("{}-{}", at * 3000, at * 3000 + 9)).collect();
    let request = client.request(Method::GET, &format!("/v2/{REPOSITORY}/blobs/{}", blob.digest));
    let answer = send(request.header("range", format!("bytes={}", ranges.join(",")))).await;
    let parts = body(expect(answer, StatusCode::PARTIAL_CONTENT, "ranges").await).await;
    assert!(parts.windows(10).any(|window| window == &blob.bytes[1023 * 3000..1023 * 3000 + 10]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_login_everybody_is_told_so_even_in_the_middle_of_a_body() {
    let stranger = Stack::shared().stranger();
    for _ in 0..10 {
        let request = stranger.request(Method::POST, &format!("/v2/{REPOSITORY}/blobs/uploads/?digest=sha256:00"));
        // A connection for each: nginx ends one whose request it has not read, after it has told that it stays open.
        let refused = send(request.header("connection", "close").body(vec![7; 8 * MIB])).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert!(refused.headers().contains_key("www-authenticate"));
    }
    assert_eq!(stranger.get("/metrics").await.status(), StatusCode::NOT_FOUND, "not for whoever comes by");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_one_id_in_both_logs() {
    let stack = Stack::shared();
    let request = stack.client().request(Method::GET, "/v2/").header("x-request-id", "a-request-of-anna");
    assert_eq!(send(request).await.headers()["x-request-id"], "a-request-of-anna");
    let own = send(stack.client().request(Method::GET, "/v2/")).await;
    let own = own.headers()["x-request-id"].to_str().expect("an id is text").to_owned();
    for id in ["a-request-of-anna", &own] {
        eventually("the request is in both logs", async || {
            let of_nginx = std::fs::read_to_string(stack.scratch.join("access")).ok()?;
            let is_in = |log: &str| log.lines().any(|line| line.contains(id));
            (is_in(&of_nginx) && stack.replicas.iter().any(|replica| is_in(&replica.service.log()))).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_know_whose_request_it_is_whatever_the_client_says() {
    let stack = Stack::shared();
    let from = IpAddr::from([127, 0, 0, 9]);
    let client = reqwest::Client::builder().no_proxy().local_address(from).build().expect("a client");
    let request = client.get(format!("http://{}/v2/", stack.address())).basic_auth(USER, Some(PASSWORD));
    let request = request.header("x-forwarded-for", "10.9.9.9").header("forwarded", "for=10.9.9.9");
    assert_eq!(send(request.header("x-request-id", "from-another-host")).await.status(), StatusCode::OK);
    let line = eventually("the request is logged", async || {
        let logs = stack.replicas.iter().map(|replica| replica.service.log()).collect::<String>();
        let line = logs.lines().find(|line| line.contains("from-another-host"))?;
        serde_json::from_str::<Value>(line).ok()
    });
    let line = line.await;
    assert_eq!(line["client.address"], "127.0.0.9", "{line}");
    assert_eq!(line["network.peer.address"], "127.0.0.1", "nginx: {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_gone_is_not_missed() {
    let mut stack = Stack::start();
    let (client, image) = (stack.client(), Image::random(9 * MIB));
    client.push_image(REPOSITORY, "before", &image).await;
    assert!(is_healthy(&stack, 0) && is_healthy(&stack, 1));
    stack.replicas[0].kill9();
    assert!(!is_healthy(&stack, 0) && is_healthy(&stack, 1));
    for _ in 0..20 {
        assert_pulls(&client, "before", &image).await;
    }
    let image = Image::random(9 * MIB);
    client.push_image(REPOSITORY, "after", &image).await;
    assert_pulls(&client, "after", &image).await;
}
