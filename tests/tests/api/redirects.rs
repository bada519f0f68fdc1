//! Downloads that are sent on to the object store, as `storage.redirects` says: who is, for what, and who is not.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, body, send};
use longshore_tests::image::Blob;
use longshore_tests::minio::Minio;
use longshore_tests::on_both;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};
use reqwest::{Method, Response};

use crate::answers::{assert_refused, header};
use crate::observability::access_line;
use crate::{INLINE_MAX, KIB};

on_both!(
    a_client_is_sent_to_the_store_with_all_it_needs,
    a_range_is_fetched_there_and_several_are_not,
    what_the_store_would_judge_otherwise_is_answered_here,
    only_clients_in_the_networks_are_sent_there,
    only_the_repositories_that_are_named_are_meant,
    small_blobs_are_served_here,
    who_may_not_pull_is_sent_nowhere,
    redirects_are_logged_and_counted_and_signatures_are_not_shown,
    a_registry_without_redirects_sends_nobody_anywhere,
);

const REPOSITORY: &str = "ml/bert";
const SIZE: usize = 100 * KIB;
/// In the network of those who are sent on, behind a proxy.
const INSIDE: &str = "10.1.2.3";

/// A server behind a proxy at 127.0.0.1, with objects in the store that tests share.
fn options(backend: Backend) -> Options {
    let store = Minio::shared().new_store();
    let options = store.iter().fold(Options::on(backend), |options, (key, value)| options.set(key, value));
    let options = options.set("http.proxies", "127.0.0.1").set("storage.redirects.networks", "10.0.0.0/8, fd00::/8");
    options.set("storage.redirects.repositories", "ml/**, web").set("storage.redirects.from_size", "64KiB")
}

fn server(backend: Backend) -> &'static Server {
    static SQLITE: LazyLock<Server> = LazyLock::new(|| Server::start(options(Backend::Sqlite)));
    static POSTGRES: LazyLock<Server> = LazyLock::new(|| Server::start(options(Backend::Postgres)));
    if backend == Backend::Sqlite { &SQLITE } else { &POSTGRES }
}

fn client(backend: Backend) -> Client {
    Client::new(server(backend).url())
}

/// A blob that is large enough, in a repository.
async fn pushed(client: &Client, repository: &str) -> (Blob, String) {
    let blob = Blob::random(SIZE);
    client.push_blob(repository, &blob).await;
    let path = format!("/v2/{repository}/blobs/{}", blob.digest);
    (blob, path)
}

/// Asks as the proxy does for a client at `from`, with some headers more.
async fn ask(client: &Client, method: Method, path: &str, from: &str, headers: &[(&str, &str)]) -> Response {
    let request = client.request(method, path).header("x-forwarded-for", from);
    send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

async fn get(client: &Client, path: &str, from: &str) -> Response {
    ask(client, Method::GET, path, from, &[]).await
}

/// Where the client is sent.
fn location(answer: &Response) -> String {
    assert_eq!(answer.status(), 307, "{answer:?}");
    header(answer, "location").to_owned()
}

async fn fetch(location: &str, headers: &[(&str, &str)]) -> Response {
    let request = Client::new(location).request(Method::GET, location);
    send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

async fn a_client_is_sent_to_the_store_with_all_it_needs(backend: Backend) {
    let client = client(backend);
    let (blob, path) = pushed(&client, REPOSITORY).await;
    for client in [client.clone(), client.clone().over_http2()] {
        let answer = get(&client, &path, INSIDE).await;
        let location = location(&answer);
        assert!(location.starts_with(&format!("{}/", Minio::shared().url())), "{location}");
        assert!(location.contains("X-Amz-Expires=1200&"), "20 minutes: {location}");
        assert_eq!(header(&answer, "docker-content-digest"), blob.digest);
        assert_eq!(header(&answer, "cache-control"), "no-store");
        assert_eq!(header(&answer, "content-length"), "0");
        assert!(!answer.headers().contains_key("content-type"), "{answer:?}");
        assert_eq!(body(answer).await, b"");

        let fetched = fetch(&location, &[]).await;
        assert_eq!(fetched.status(), 200);
        assert_eq!(header(&fetched, "content-disposition"), "attachment");
        assert!(body(fetched).await == blob.bytes);
    }

    let head = ask(&client, Method::HEAD, &path, INSIDE, &[]).await;
    assert_eq!(head.status(), 200, "it is answered by what the database knows");
    assert_eq!(header(&head, "content-length"), SIZE.to_string());
    let image = crate::content::SmallImage::pushed_to(&client, REPOSITORY, "v1").await;
    let manifest = get(&client, &format!("/v2/{REPOSITORY}/manifests/v1"), INSIDE).await;
    assert_eq!(manifest.status(), 200);
    assert!(body(manifest).await == image.manifest.bytes);
}

async fn a_range_is_fetched_there_and_several_are_not(backend: Backend) {
    let client = client(backend);
    let (blob, path) = pushed(&client, REPOSITORY).await;
    for (range, expected) in [("bytes=10-19", 10..20), ("bytes=-5", SIZE - 5..SIZE), ("bytes=99-", 99..SIZE)] {
        let answer = ask(&client, Method::GET, &path, INSIDE, &[("range", range)]).await;
        // A client sends the same again where it is sent to.
        let part = fetch(&location(&answer), &[("range", range)]).await;
        assert_eq!(part.status(), 206, "{range}");
        assert_eq!(header(&part, "content-range"), format!("bytes {}-{}/{SIZE}", expected.start, expected.end - 1));
        assert!(body(part).await == blob.bytes[expected], "{range}");
    }

    let several = ask(&client, Method::GET, &path, INSIDE, &[("range", "bytes=10-19,30-39")]).await;
    assert_eq!(several.status(), 206);
    assert!(header(&several, "content-type").starts_with("multipart/byteranges; boundary="));
    let parts = body(several).await;
    for range in [10..20, 30..40] {
        assert!(parts.windows(10).any(|window| window == &blob.bytes[range.clone()]), "{range:?}");
    }
    // One of the two is left, and all of it since they overlap: whatever comes of them, there were two.
    for (range, status) in [("bytes=10-19,999999-", 206), ("bytes=0-,0-", 200)] {
        let answer = ask(&client, Method::GET, &path, INSIDE, &[("range", range)]).await;
        assert_eq!(answer.status(), status, "{range}");
    }
    let outside = ask(&client, Method::GET, &path, INSIDE, &[("range", "bytes=999999-")]).await;
    assert_refused(outside, 416, "SIZE_INVALID").await;
}

async fn what_the_store_would_judge_otherwise_is_answered_here(backend: Backend) {
    let client = client(backend);
    let (blob, path) = pushed(&client, REPOSITORY).await;
    let etag = format!("\"{}\"", blob.digest);
    for (name, value, status) in [
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", "\"other\"", 200),
        ("if-match", &etag, 200),
        ("if-match", "\"other\"", 412),
        ("if-modified-since", "Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ("if-unmodified-since", "Wed, 21 Oct 2015 07:28:00 GMT", 200),
    ] {
        let answer = ask(&client, Method::GET, &path, INSIDE, &[(name, value)]).await;
        assert_eq!(answer.status(), status, "{name}: {value}");
    }
    let resumed = [("range", "bytes=10-19"), ("if-range", etag.as_str())];
    let answer = ask(&client, Method::GET, &path, INSIDE, &resumed).await;
    assert_eq!(answer.status(), 206);
    assert!(body(answer).await == blob.bytes[10..20]);
}

async fn only_clients_in_the_networks_are_sent_there(backend: Backend) {
    let client = client(backend);
    let (blob, path) = pushed(&client, REPOSITORY).await;
    // 127.0.0.1 is the proxy, and is believed.
    for (from, is_sent) in [
        (INSIDE, true),
        ("fd00::7", true),
        ("[fd00::7]:4711", true),
        ("::ffff:10.1.2.3", true),
        ("10.1.2.3, 127.0.0.1", true),
        ("192.0.2.1, 10.1.2.3", true),
        ("192.0.2.1", false),
        ("10.1.2.3, 192.0.2.1", false),
        ("10.1.2.3, unknown", false),
        ("127.0.0.1", false),
        ("2001:db8::1", false),
    ] {
        let answer = get(&client, &path, from).await;
        assert_eq!(answer.status(), if is_sent { 307 } else { 200 }, "{from}");
        assert!(is_sent || body(answer).await == blob.bytes, "{from}");
    }
    assert_eq!(client.get(&path).await.status(), 200, "the proxy itself");
    let other_header = send(client.request(Method::GET, &path).header("forwarded", "for=10.1.2.3")).await;
    assert_eq!(other_header.status(), 200, "that one is not believed");

    // Who comes from elsewhere is no proxy, whatever it says.
    let stranger = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let stranger = stranger.local_address(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))).build().expect("a client");
    for from in [INSIDE, "10.1.2.3, 127.0.0.1", "127.0.0.1"] {
        let request = stranger.get(format!("{}{path}", server(backend).url()));
        let answer = send(request.header("x-forwarded-for", from)).await;
        assert_eq!(answer.status(), 200, "{from}");
    }
}

async fn only_the_repositories_that_are_named_are_meant(backend: Backend) {
    let client = client(backend);
    for (repository, is_sent) in
        [("ml/bert", true), ("ml/nlp/bert", true), ("web", true), ("ml", false), ("web/ml", false), ("mlops/ml", false)]
    {
        let (_, path) = pushed(&client, repository).await;
        assert_eq!(get(&client, &path, INSIDE).await.status(), if is_sent { 307 } else { 200 }, "{repository}");
    }
}

async fn small_blobs_are_served_here(backend: Backend) {
    let (sent, here) = (64 * KIB, 64 * KIB - 1);
    for (size, status) in [(sent, 307), (here, 200)] {
        let (client, blob) = (client(backend), Blob::random(size));
        client.push_blob(REPOSITORY, &blob).await;
        let answer = get(&client, &format!("/v2/{REPOSITORY}/blobs/{}", blob.digest), INSIDE).await;
        assert_eq!(answer.status(), status, "{size} bytes");
    }
    // What is in the database is in no store, whatever the settings say.
    let server = Server::start(options(backend).set("storage.redirects.from_size", "0"));
    let client = Client::new(server.url());
    for (size, status) in [(INLINE_MAX + 1, 307), (INLINE_MAX, 200), (0, 200)] {
        let blob = Blob::random(size);
        client.push_blob(REPOSITORY, &blob).await;
        let answer = get(&client, &format!("/v2/{REPOSITORY}/blobs/{}", blob.digest), INSIDE).await;
        assert_eq!(answer.status(), status, "{size} bytes");
    }
}

async fn who_may_not_pull_is_sent_nowhere(backend: Backend) {
    let users = Scratch::new("redirects");
    let hash = bcrypt::hash("password", 4).expect("the password is short");
    fs::write(users.join("htpasswd"), format!("anna:{hash}\n")).expect("the directory is this test's own");
    let server = Server::start(options(backend).set("auth.htpasswd", &users.join("htpasswd").display().to_string()));
    let anonymous = Client::new(server.url());
    let anna = anonymous.clone().with_basic("anna", "password");
    let (blob, path) = pushed(&anna, REPOSITORY).await;
    let refused = get(&anonymous, &path, INSIDE).await;
    assert!(!refused.headers().contains_key("location"));
    assert_refused(refused, 401, "UNAUTHORIZED").await;
    // The URL needs no login: it is one.
    let location = location(&get(&anna, &path, INSIDE).await);
    assert!(body(fetch(&location, &[]).await).await == blob.bytes);
    // That the bytes are in the store says nothing of other repositories.
    let elsewhere = format!("/v2/ml/other/blobs/{}", blob.digest);
    assert_refused(get(&anna, &elsewhere, INSIDE).await, 404, "BLOB_UNKNOWN").await;
}

async fn redirects_are_logged_and_counted_and_signatures_are_not_shown(backend: Backend) {
    let server = Server::start(options(backend).set("log.level", "trace"));
    let client = Client::new(server.url());
    let (_, path) = pushed(&client, REPOSITORY).await;
    let mut signatures = Vec::new();
    for (client, id) in [(client.clone(), "redirected-1"), (client.clone().over_http2(), "redirected-2")] {
        let answer = ask(&client, Method::GET, &path, INSIDE, &[("x-request-id", id)]).await;
        let location = location(&answer);
        let (_, signature) = location.split_once("X-Amz-Signature=").expect("it is signed");
        signatures.push(signature.split('&').next().unwrap_or_default().to_owned());
        let line = access_line(&server, id).await;
        assert_eq!(line["http.response.status_code"], 307, "{line}");
        assert_eq!(line["http.response.body.size"], 0, "{line}");
        assert_eq!(line["client.address"], INSIDE, "{line}");
        assert_eq!(line["network.peer.address"], "127.0.0.1", "{line}");
    }
    let log = server.log();
    for signature in signatures {
        assert_eq!(signature.len(), 64);
        assert!(!log.contains(&signature), "the log has a signature");
    }
    let metrics = String::from_utf8(body(client.get("/metrics").await).await).expect("text");
    let counted = "longshore_blob_redirects_total{outcome=\"sent\"} 2";
    assert!(metrics.lines().any(|line| line == counted), "no {counted} in {metrics}");
}

async fn a_registry_without_redirects_sends_nobody_anywhere(backend: Backend) {
    let client = crate::shared_client(if backend == Backend::Sqlite { backend } else { Backend::S3 });
    let (blob, path) = pushed(&client, REPOSITORY).await;
    let answer = get(&client, &path, "127.0.0.1").await;
    assert_eq!(answer.status(), 200);
    assert!(body(answer).await == blob.bytes);
}
