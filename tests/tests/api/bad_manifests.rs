//! Manifests that are refused: what could be read in two ways, what is not what it says, what is too much.

use std::fs;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::{Blob, INDEX, MANIFEST, random_bytes, sha256, sha512};
use longshore_tests::server::{Options, Server};
use longshore_tests::{on_both, raw};
use serde_json::{Value, json};

use crate::answers::{assert_refused, read_refusal};
use crate::content::{SmallImage, image_document};
use crate::{KIB, MIB, shared_client};

on_both!(
    what_can_be_read_in_two_ways_is_refused,
    what_is_no_manifest_is_refused,
    schema_1_is_refused_with_advice,
    a_type_that_differs_from_the_header_is_refused,
    a_digest_that_differs_from_the_bytes_is_refused,
    a_reference_that_is_none_is_refused,
    odd_text_is_no_fault_of_the_server,
    a_manifest_without_end_costs_no_memory,
);

/// Pushes a body by tag and by digest, and sees that it is refused and nothing of it is there. Returns the message.
async fn assert_invalid(client: &Client, repository: &str, content_type: &str, body: &[u8]) -> String {
    let mut message = String::new();
    for reference in ["bad", &sha256(body), &sha512(body)] {
        let put = client.put_manifest(repository, reference, content_type, body.to_vec()).await;
        message = assert_refused(put, 400, "MANIFEST_INVALID").await.message;
        assert_eq!(client.get_manifest(repository, reference).await.status(), 404, "{message}");
    }
    message
}

async fn what_can_be_read_in_two_ways_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let repository = "bad-manifests/two-ways";
    let image = SmallImage::pushed_to(&client, repository, "good").await;
    let good = image_document(&image.config, &[&image.layer]);
    let text = good.to_string();
    let with = |field: &str, value: Value| {
        let mut document = good.clone();
        document[field] = value;
        document.to_string()
    };
    let cases = [
        (with("manifests", json!([image.manifest.descriptor()])), "manifests"),
        (with("manifests", Value::Null), "manifests"),
        (with("fsLayers", json!([])), "fsLayers"),
        (with("blobs", json!([])), "blobs"),
        (with("Layers", json!([])), "Layers"),
        (with("MEDIATYPE", json!(INDEX)), "MEDIATYPE"),
        (text.replacen('{', r#"{"layers":[],"#, 1), "layers"),
        (text.replacen('{', r#"{"mediaType":"a/b","#, 1), "mediaType"),
        (text.replacen(r#""digest""#, r#""digest":"x","digest""#, 1), "digest"),
        (format!("{text}{{}}"), "bytes follow"),
        (format!("\u{feff}{text}"), "byte order mark"),
    ];
    for (body, named) in cases {
        let message = assert_invalid(&client, repository, MANIFEST, body.as_bytes()).await;
        assert!(message.contains(named), "{message}");
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "layers": [] });
    let message = assert_invalid(&client, repository, INDEX, index.to_string().as_bytes()).await;
    assert!(message.contains("layers"), "{message}");
}

async fn what_is_no_manifest_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let repository = "bad-manifests/none";
    let image = SmallImage::pushed_to(&client, repository, "good").await;
    let good = image_document(&image.config, &[&image.layer]);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        document.to_string().into_bytes()
    };
    let deep = |open: &str, close: &str| {
        format!("{{\"x\":{}1{},{}", open.repeat(100_000), close.repeat(100_000), &good.to_string()[1..]).into_bytes()
    };
    let bodies = [
        vec![],
        b"not json".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"{}".to_vec(),
        good.to_string().into_bytes()[..100].to_vec(),
        b"\xff\xfe{}".to_vec(),
        random_bytes(1000),
        deep("[", "]"),
        deep("{\"a\":", "}"),
        b"[".repeat(4 * MIB),
        with(&|manifest| manifest["schemaVersion"] = json!(3)),
        with(&|manifest| manifest["schemaVersion"] = json!("2")),
        with(&|manifest| manifest["config"] = Value::Null),
        with(&|manifest| manifest["layers"] = json!({})),
        with(&|manifest| manifest["layers"] = json!([null])),
        with(&|manifest| manifest["layers"][0]["digest"] = json!("sha256:../../etc/passwd")),
        with(&|manifest| manifest["layers"][0]["digest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e")),
        with(&|manifest| manifest["layers"][0]["size"] = json!(-1)),
        with(&|manifest| manifest["layers"][0]["size"] = json!(9_223_372_036_854_775_808_u64)),
        with(&|manifest| manifest["layers"][0]["size"] = json!(1e300)),
        with(&|manifest| manifest["layers"][0]["mediaType"] = json!("<script>")),
        with(&|manifest| manifest["annotations"] = json!({ "a": 1 })),
        with(&|manifest| manifest["subject"] = json!("sha256:abc")),
        with(&|manifest| manifest["layers"] = Value::Array(vec![image.layer.descriptor(); 5000])),
    ];
    for body in bodies {
        assert_invalid(&client, repository, MANIFEST, &body).await;
    }
}

async fn schema_1_is_refused_with_advice(backend: Backend) {
    let client = shared_client(backend);
    let body = json!({
        "schemaVersion": 1, "name": "library/old", "tag": "latest", "architecture": "amd64",
        "fsLayers": [{ "blobSum": Blob::random(1).digest }], "history": [{ "v1Compatibility": "{}" }],
    })
    .to_string();
    for content_type in [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/json",
    ] {
        let message = assert_invalid(&client, "bad-manifests/schema-1", content_type, body.as_bytes()).await;
        assert!(message.contains("schema 1") && message.contains("push the image with a current client"), "{message}");
    }
}

async fn a_type_that_differs_from_the_header_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let repository = "bad-manifests/type";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    for content_type in [INDEX, "text/plain", "application/vnd.oci.image.manifest.v2+json", "nonsense"] {
        let message = assert_invalid(&client, repository, content_type, &image.manifest.bytes[..]).await;
        assert!(message.contains("Content-Type"), "{message}");
    }
    for media_type in
        ["text/html", "application/vnd.oci.image.config.v1+json", "application/VND.oci.image.manifest.v1+json"]
    {
        let mut document = image_document(&image.config, &[&image.layer]);
        document["mediaType"] = json!(media_type);
        for content_type in [media_type, "application/json"] {
            let message = assert_invalid(&client, repository, content_type, document.to_string().as_bytes()).await;
            assert!(message.contains(MANIFEST), "it says what would be taken: {message}");
        }
    }
}

async fn a_digest_that_differs_from_the_bytes_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let repository = "bad-manifests/digest";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    let other = Blob::random(10);
    for wrong in [other.digest.clone(), sha512(&other.bytes)] {
        for reference in [wrong.clone(), format!("{wrong}?tag=a&tag=b")] {
            let put = client.put_manifest(repository, &reference, MANIFEST, image.manifest.bytes.clone()).await;
            let refusal = assert_refused(put, 400, "DIGEST_INVALID").await;
            assert_eq!(refusal.detail["declared"], wrong.as_str());
        }
        assert_refused(client.get_manifest(repository, &wrong).await, 404, "MANIFEST_UNKNOWN").await;
    }
    assert!(client.tags(repository).await.is_empty());
}

async fn a_reference_that_is_none_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let repository = "bad-manifests/reference";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    for (reference, code) in [
        ("sha256:baddigeststring", "DIGEST_INVALID"),
        ("sha256:totallywrong", "DIGEST_INVALID"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID"),
        ("sha256:", "DIGEST_INVALID"),
        (":latest", "DIGEST_INVALID"),
        ("-dash", "MANIFEST_INVALID"),
        (".dot", "MANIFEST_INVALID"),
        ("a%20b", "MANIFEST_INVALID"),
        ("a+b", "MANIFEST_INVALID"),
        ("%C3%A4", "MANIFEST_INVALID"),
        (&"t".repeat(129), "MANIFEST_INVALID"),
    ] {
        let put = client.put_manifest(repository, reference, MANIFEST, image.manifest.bytes.clone()).await;
        assert_refused(put, 400, code).await;
        assert_refused(client.get_manifest(repository, reference).await, 400, code).await;
        let delete = client.delete(&format!("/v2/{repository}/manifests/{reference}")).await;
        assert_refused(delete, 400, code).await;
    }
}

async fn odd_text_is_no_fault_of_the_server(backend: Backend) {
    let client = shared_client(backend);
    let repository = "bad-manifests/odd-text";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    // Text that JSON can hold and Postgres cannot.
    let mut document = image_document(&image.config, &[&image.layer]);
    document["annotations"] = json!({ "nul\u{0}": "\u{0}", "": "\u{ffff}" });
    document["x"] = json!("\u{0}");
    let put = client.put_manifest(repository, "annotations", MANIFEST, document.to_string()).await;
    assert_eq!(put.status(), 201);
    document["artifactType"] = json!("application/x\u{0}y");
    let put = client.put_manifest(repository, "artifact", MANIFEST, document.to_string()).await;
    assert_refused(put, 400, "MANIFEST_INVALID").await;
}

async fn a_manifest_without_end_costs_no_memory(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    let image = SmallImage::pushed_to(&client, "bad-manifests/endless", "good").await;
    let before = peak_memory(&server);
    for framing in [format!("content-length: {ENDLESS}\r\n"), "transfer-encoding: chunked\r\n".to_owned()] {
        let (answer, taken) = push_until_answered(&server, &framing);
        assert_eq!(raw::status_of(&answer), 413, "{answer}");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).expect("the answer has a body");
        read_refusal(&serde_json::from_str(body).expect("the body is JSON"), "MANIFEST_INVALID");
        assert!(taken < ENDLESS, "the server took all of it");
    }
    let grown = peak_memory(&server) - before;
    assert!(grown < 32 * KIB, "the server's memory has grown by {grown} KiB");
    assert_eq!(client.manifest("bad-manifests/endless", "good").await, image.manifest.bytes);
}

const ENDLESS: usize = 1024 * MIB;

/// Sends a manifest until the server answers or takes no more. Returns the answer, and how many bytes were taken.
fn push_until_answered(server: &Server, framing: &str) -> (String, usize) {
    let mut stream = raw::connect(server.address());
    let head = format!(
        "PUT /v2/bad-manifests/endless/manifests/x HTTP/1.1\r\nhost: x\r\ncontent-type: {MANIFEST}\r\n{framing}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the server takes the head");
    let answered = Arc::new(AtomicBool::new(false));
    let mut receiving = stream.try_clone().expect("a socket can be had twice");
    let reader = thread::spawn({
        let answered = answered.clone();
        move || {
            let mut first = [0];
            receiving.read_exact(&mut first).expect("the server answers");
            answered.store(true, Ordering::Relaxed);
            [first.to_vec(), raw::read_to_close(&mut receiving)].concat()
        }
    });
    let chunk = vec![b' '; MIB];
    let mut taken = 0;
    while taken < ENDLESS && !answered.load(Ordering::Relaxed) {
        let sent = if framing.contains("chunked") {
            stream.write_all(&[format!("{MIB:x}\r\n").as_bytes(), &chunk, b"\r\n"].concat())
        } else {
            stream.write_all(&chunk)
        };
        if sent.is_err() {
            break;
        }
        taken += MIB;
    }
    let answer = reader.join().expect("the reader ends");
    (String::from_utf8_lossy(&answer).into_owned(), taken)
}

/// The most memory that the server has ever held, in KiB.
fn peak_memory(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the server runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    peak.unwrap_or_else(|| panic!("no VmHWM in {status}"))
}
