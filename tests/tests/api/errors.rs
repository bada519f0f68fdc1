//! Requests that are wrong in themselves: what the client is told, and what it is not.

use std::fs;

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, send};
use longshore_tests::image::Blob;
use longshore_tests::on_both;
use longshore_tests::server::{Options, Server};
use reqwest::Method;

use crate::answers::{assert_refused, header, read_refusal};
use crate::content::SmallImage;
use crate::exchange::Answer;
use crate::{INLINE_MAX, shared_client, shared_server};

on_both!(
    no_path_leads_out_of_the_registry,
    what_http_itself_refuses_is_answered,
    names_that_are_none_are_refused,
    paths_that_lead_nowhere_are_not_found,
    a_method_that_makes_no_sense_is_told_which_do,
    headers_may_be_long_but_not_endless,
    too_many_parameters_are_refused,
    a_fault_of_the_server_shows_nothing_of_its_inside,
);

async fn no_path_leads_out_of_the_registry(backend: Backend) {
    let client = shared_client(backend);
    let image = SmallImage::pushed_to(&client, "errors/inside", "latest").await;
    let address = shared_server(backend).address();
    let digest = &image.layer.digest;
    for target in [
        "/v2/../etc/passwd",
        "/v2/errors/../errors/inside/tags/list",
        "/v2/errors/inside/../inside/tags/list",
        "/v2/errors/%2e%2e/errors/inside/tags/list",
        "/v2/%2e%2e%2f%2e%2e%2fetc/tags/list",
        "/v2/errors%2Finside/tags/list",
        "/v2/errors%2finside/manifests/latest",
        "/v2/errors%5Cinside/tags/list",
        "/v2/errors\\inside/tags/list",
        "/v2/errors/inside;x=y/tags/list",
        "/v2/errors/inside..;/tags/list",
        "/v2//errors/inside/tags/list",
        "/v2///errors/inside/manifests/latest",
        "/v2/errors//inside/tags/list",
        "/v2/errors/inside//tags/list",
        "/v2/errors/inside/tags//list",
        "/v2/errors/inside/tags/list/",
        "/v2/errors/inside/tags/./list",
        "/v2/errors/inside%00/tags/list",
        "/v2/errors/inside/manifests/latest%00",
        "/v2/errors/inside/manifests/%2e%2e",
        "/v2/errors/inside/manifests/..%2flatest",
        "/v2/errors/%C0%AE%C0%AE/inside/tags/list",
        "/v2/errors/%c3%a4/tags/list",
        "/v2/errors/inside%/tags/list",
        "/v2/errors/inside%zz/tags/list",
        "/v2/errors/inside%20/tags/list",
        "/v2/errors/insid%C1%A5/tags/list",
        "/V2/errors/inside/tags/list",
        "//v2/errors/inside/tags/list",
        "/v2/./errors/inside/tags/list",
        &format!("/v2/errors/inside/blobs/../blobs/{digest}"),
        &format!("/v2/errors/inside/blobs/{}", digest.replace("sha256:", "sha256/")),
        &format!("/v2/errors/inside/blobs/{digest}%00"),
        &format!("/v2/errors/inside/blobs/{digest}/"),
        &format!("/v2/errors/inside/blobs/uploads/../{digest}"),
        &format!("/v2/{}tags/list", "a/".repeat(10_000)),
    ] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let request =
                format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let answer = Answer::to(address, request);
            assert!((400..=405).contains(&answer.status), "{method} {target}: {answer:?}");
            if method != "HEAD" {
                let body = answer.json();
                let code = body["errors"][0]["code"].as_str().unwrap_or_default().to_owned();
                read_refusal(&body, &code);
            }
        }
    }
    assert_eq!(client.manifest("errors/inside", "latest").await, image.manifest.bytes);
    assert!(client.blob("errors/inside", digest).await == image.layer.bytes);
}

async fn what_http_itself_refuses_is_answered(backend: Backend) {
    let address = shared_server(backend).address();
    let long = "a/".repeat(50_000);
    for (request, status) in [
        ("GET /v2/a\0b/tags/list HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("GET /v2/a b/tags/list HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("GET /v2/\u{7f}/tags/list HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /v2/ HTTP/1.1\r\nhost: x\r\nbad header: x\r\n\r\n".to_owned(), 400),
        ("GET /v2/ HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n".to_owned(), 400),
        ("PUT /v2/a/manifests/b HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_owned(), 400),
        ("PUT /v2/a/manifests/b HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(), 400),
        (format!("GET /v2/{long}tags/list HTTP/1.1\r\nhost: x\r\n\r\n"), 414),
    ] {
        let answer = Answer::to(address, &request);
        assert_eq!(answer.status, status, "{}: {answer:?}", request.chars().take(100).collect::<String>());
    }
    // Two lengths in one request are the way to smuggle a second one past a proxy.
    let both = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                GET /v2/smuggled/tags/list HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = Answer::to(address, both);
    assert!(!String::from_utf8_lossy(&answer.body).contains("smuggled"), "{answer:?}");
}

async fn names_that_are_none_are_refused(backend: Backend) {
    let client = shared_client(backend);
    let long = "a".repeat(256);
    let digest = Blob::random(1).digest;
    for name in ["Upper", "a..b", "a.", "-a", "a___b", "_catalog", "a/_b", "a%20b", "%E2%82%AC", &long] {
        for (method, target) in [
            (Method::GET, "tags/list".to_owned()),
            (Method::GET, "manifests/latest".to_owned()),
            (Method::PUT, "manifests/latest".to_owned()),
            (Method::DELETE, "manifests/latest".to_owned()),
            (Method::GET, format!("blobs/{digest}")),
            (Method::DELETE, format!("blobs/{digest}")),
            (Method::GET, format!("referrers/{digest}")),
            (Method::POST, "blobs/uploads/".to_owned()),
        ] {
            let answer = send(client.request(method, &format!("/v2/{name}/{target}"))).await;
            let refusal = assert_refused(answer, 400, "NAME_INVALID").await;
            assert!(refusal.message.contains("name"), "{refusal:?}");
        }
    }
}

async fn paths_that_lead_nowhere_are_not_found(backend: Backend) {
    let client = shared_client(backend);
    for path in
        ["/v2/errors", "/v2/errors/tags", "/v2/errors/list", "/v2/errors/manifests", "/v2/_catalog/", "/v2/x/y/z"]
    {
        assert_refused(client.get(path).await, 404, "NAME_UNKNOWN").await;
    }
    for path in ["/", "/v1/", "/v1/_ping", "/v3/", "/v2x", "/index.html", "/favicon.ico", "/metrics/", "/healthz/x"] {
        assert_refused(client.get(path).await, 404, "UNSUPPORTED").await;
    }
}

async fn a_method_that_makes_no_sense_is_told_which_do(backend: Backend) {
    let client = shared_client(backend);
    let digest = Blob::random(1).digest;
    let upload = client.start_upload("errors/methods").await;
    for (path, allowed) in [
        ("/v2/", "GET, HEAD"),
        ("/v2/_catalog", "GET, HEAD"),
        ("/v2/errors/methods/tags/list", "GET, HEAD"),
        (&format!("/v2/errors/methods/referrers/{digest}"), "GET, HEAD"),
        ("/v2/errors/methods/manifests/latest", "GET, HEAD, PUT, DELETE"),
        (&format!("/v2/errors/methods/blobs/{digest}"), "GET, HEAD, DELETE"),
        ("/v2/errors/methods/blobs/uploads/", "POST"),
        (&upload, "GET, HEAD, PATCH, PUT, DELETE"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            if allowed.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let request = client.request(method.parse().expect("a method"), path);
            let answer = send(request).await;
            assert_eq!(header(&answer, "allow"), allowed, "{method} {path}");
            if method == "HEAD" {
                assert_eq!(answer.status(), 405, "{path}");
            } else {
                assert_refused(answer, 405, "UNSUPPORTED").await;
            }
        }
    }
    assert_eq!(client.get(&upload).await.status(), 204, "nothing happened to it");
}

async fn headers_may_be_long_but_not_endless(backend: Backend) {
    let address = shared_server(backend).address();
    let get = |headers: String| {
        Answer::to(address, format!("GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n"))
    };
    assert_eq!(get(format!("x-long: {}\r\n", "x".repeat(90 * 1024))).status, 200);
    let many: String = (0..90).map(|number| format!("x-{number}: {}\r\n", "x".repeat(1000))).collect();
    assert_eq!(get(many).status, 200);
    let endless = get(format!("authorization: Basic {}\r\n", "x".repeat(1_000_000)));
    assert_eq!(endless.status, 431);
    let flood: String = (0..5000).map(|number| format!("x-{number}: x\r\n")).collect();
    assert_eq!(get(flood).status, 431);
}

async fn too_many_parameters_are_refused(backend: Backend) {
    let client = shared_client(backend);
    let flood = "a&".repeat(2000);
    assert_refused(client.get(&format!("/v2/_catalog?{flood}")).await, 414, "UNSUPPORTED").await;
}

async fn a_fault_of_the_server_shows_nothing_of_its_inside(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    let blob = Blob::random(INLINE_MAX + 1);
    client.push_blob("errors/lost", &blob).await;
    assert_eq!(remove_files_below(&server.storage_directory().join("objects")), 1, "one blob is one file");

    let path = format!("/v2/errors/lost/blobs/{}", blob.digest);
    let answer = send(client.request(Method::GET, &path).header("x-request-id", "look-for-me")).await;
    assert_eq!(header(&answer, "x-request-id"), "look-for-me");
    let refusal = assert_refused(answer, 500, "UNKNOWN").await;
    for inside in ["objects", "/data", ".sqlite", "postgres", "No such file", "longshore_"] {
        assert!(!refusal.message.contains(inside), "{refusal:?}");
    }
    assert!(refusal.detail.is_null(), "{refusal:?}");
    let log = server.log();
    let told = log.lines().any(|line| line.contains("look-for-me") && line.contains("ERROR"));
    assert!(told, "the log does not say what happened: {log}");
}

/// Removes every file below a directory and counts them.
fn remove_files_below(directory: &std::path::Path) -> usize {
    let mut removed = 0;
    for entry in fs::read_dir(directory).expect("the directory is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            removed += remove_files_below(&path);
        } else {
            fs::remove_file(&path).expect("the file is this test's own");
            removed += 1;
        }
    }
    removed
}
