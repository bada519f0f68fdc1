//! HTTP/2 and TLS: the same registry over other connections.

use std::fs;
use std::process::Command;

use longshore_tests::backends::Backend;
use longshore_tests::client::send;
use longshore_tests::image::{Blob, sha256};
use longshore_tests::programs::{program, run, run_refused};
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};
use longshore_tests::{on_both, raw};
use reqwest::{Method, StatusCode, Version};

use crate::answers::{assert_refused, eventually};
use crate::content::SmallImage;
use crate::{MIB, shared_client};

on_both!(
    an_image_goes_both_ways_over_http_2,
    headers_over_http_2_may_be_long_but_not_endless,
    tls_serves_http_2_and_1,
    a_new_certificate_is_taken_up,
    a_bad_certificate_changes_nothing,
);

async fn an_image_goes_both_ways_over_http_2(backend: Backend) {
    let client = shared_client(backend).over_http2();
    let image = SmallImage::pushed_to(&client, "protocols/http2", "latest").await;
    let large = Blob::random(20 * MIB);
    client.push_blob("protocols/http2", &large).await;
    let answer = client.get_manifest("protocols/http2", "latest").await;
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(client.manifest("protocols/http2", "latest").await, image.manifest.bytes);
    assert!(client.blob("protocols/http2", &large.digest).await == large.bytes);
    let path = format!("/v2/protocols/http2/blobs/{}", large.digest);
    let head = client.head(&path).await;
    assert_eq!(head.headers()["content-length"], large.bytes.len().to_string());
    let range = send(client.request(Method::GET, &path).header("range", "bytes=1-2,5-9")).await;
    assert_eq!(range.status(), StatusCode::PARTIAL_CONTENT);
    assert_refused(client.get_blob("protocols/http2", &Blob::random(1).digest).await, 404, "BLOB_UNKNOWN").await;
    // An answer before the end of the body ends one stream and not the connection.
    let upload = client.start_upload("protocols/http2").await;
    assert_refused(client.send_chunk(&upload, Some(5), vec![0; 16 * MIB]).await, 416, "BLOB_UPLOAD_INVALID").await;
}

async fn headers_over_http_2_may_be_long_but_not_endless(backend: Backend) {
    let client = shared_client(backend).over_http2();
    let with = |length: usize| client.request(Method::GET, "/v2/").header("x-long", "x".repeat(length));
    assert_eq!(send(with(90 * 1024)).await.status(), 200);
    // A polite client does not even send it; one that does is told 431 or has its stream ended.
    if let Ok(answer) = with(1_000_000).send().await {
        assert_eq!(answer.status(), 431);
    }
    assert_eq!(client.get("/v2/").await.status(), 200);
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
pub(crate) fn make_certificate(directory: &Scratch, name: &str) {
    let mut openssl = program("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.arg("-keyout").arg(directory.join(&format!("{name}.key")));
    run(openssl.arg("-out").arg(directory.join(&format!("{name}.crt"))));
}

/// Lets the server's files be those of the certificate with this name.
pub(crate) fn install_certificate(directory: &Scratch, name: &str) {
    for kind in ["key", "crt"] {
        let from = directory.join(&format!("{name}.{kind}"));
        fs::copy(from, directory.join(&format!("server.{kind}"))).expect("the certificate was made");
    }
}

pub(crate) fn start_with_tls(backend: Backend, directory: &Scratch) -> Server {
    let path = |name: &str| directory.join(name).display().to_string();
    let options = Options::on(backend).set("http.tls.certificate", &path("server.crt"));
    Server::start(options.set("http.tls.key", &path("server.key")))
}

/// curl that trusts this certificate and no other.
fn curl(directory: &Scratch, trusted: &str) -> Command {
    let mut curl = program("curl");
    curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*", "--cacert"]);
    curl.arg(directory.join(&format!("{trusted}.crt")));
    curl
}

async fn tls_serves_http_2_and_1(backend: Backend) {
    let directory = Scratch::new("tls");
    make_certificate(&directory, "first");
    install_certificate(&directory, "first");
    let server = start_with_tls(backend, &directory);
    assert!(server.url().starts_with("https://"), "{}", server.url());
    let base = format!("{}/v2/", server.url());
    for (option, version) in [("--http2", "2"), ("--http1.1", "1.1"), ("--tlsv1.2", "2"), ("--tlsv1.3", "2")] {
        let said = run(curl(&directory, "first").args([option, "--write-out", " %{http_version} %{http_code}", &base]));
        assert_eq!(said, format!("{{}} {version} 200"), "{option}");
    }

    // A blob there and back.
    let blob = Blob::random(3 * MIB);
    let file = directory.join("blob");
    fs::write(&file, &blob.bytes).expect("the directory is this test's own");
    let target = format!("{}/v2/protocols/tls/blobs/uploads/?digest={}", server.url(), blob.digest);
    let mut push = curl(&directory, "first");
    push.args(["--request", "POST", "--header", "content-type: application/octet-stream", "--data-binary"]);
    run(push.arg(format!("@{}", file.display())).args(["--fail", &target]));
    let back = directory.join("back");
    let mut pull = curl(&directory, "first");
    pull.arg("--output").arg(&back).arg("--fail");
    run(pull.arg(format!("{}/v2/protocols/tls/blobs/{}", server.url(), blob.digest)));
    assert_eq!(sha256(&fs::read(&back).expect("curl has written it")), blob.digest);

    make_certificate(&directory, "stranger");
    run_refused(curl(&directory, "stranger").arg(&base));
    run_refused(curl(&directory, "first").args(["--tls-max", "1.1", &base]));
    // Who speaks HTTP without TLS gets no registry.
    let plain = raw::exchange(server.address(), "GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(!plain.starts_with("HTTP/1.1 2"), "{plain}");
}

async fn a_new_certificate_is_taken_up(backend: Backend) {
    let directory = Scratch::new("tls-reload");
    make_certificate(&directory, "first");
    make_certificate(&directory, "second");
    install_certificate(&directory, "first");
    let server = start_with_tls(backend, &directory);
    let base = format!("{}/v2/", server.url());
    run(curl(&directory, "first").args(["--fail", &base]));
    install_certificate(&directory, "second");
    run(curl(&directory, "first").args(["--fail", &base]));
    server.signal("HUP");
    eventually("served with the second certificate", || async {
        let status = curl(&directory, "second").args(["--fail", &base]).output().expect("curl starts").status;
        status.success().then_some(())
    })
    .await;
    run_refused(curl(&directory, "first").arg(&base));
}

async fn a_bad_certificate_changes_nothing(backend: Backend) {
    let directory = Scratch::new("tls-bad");
    make_certificate(&directory, "first");
    make_certificate(&directory, "second");
    install_certificate(&directory, "first");
    let server = start_with_tls(backend, &directory);
    // The certificate of one and the key of the other.
    fs::copy(directory.join("second.key"), directory.join("server.key")).expect("the key was made");
    server.signal("HUP");
    eventually("refused", || async { server.log().contains("not reloaded").then_some(()) }).await;
    assert!(server.log().contains("does not go with"), "{}", server.log());
    run(curl(&directory, "first").args(["--fail", &format!("{}/v2/", server.url())]));
}
