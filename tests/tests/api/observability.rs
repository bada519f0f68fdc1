//! What the server says about itself: probes, metrics, request ids, the access log.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, body, send};
use longshore_tests::image::Blob;
use longshore_tests::on_both;
use longshore_tests::server::{Options, Server};
use reqwest::Method;
use serde_json::Value;

use crate::answers::{eventually, header};
use crate::content::SmallImage;
use crate::exchange::read_head;
use crate::{INLINE_MAX, MIB, shared_client, shared_server};

on_both!(
    probes_answer,
    a_server_whose_disk_is_gone_is_not_ready,
    metrics_count_what_happened,
    metrics_have_a_listener_of_their_own,
    metrics_can_be_turned_off,
    every_answer_has_a_request_id,
    each_request_is_one_line_of_the_log,
    a_download_that_is_broken_off_is_logged_as_such,
    the_access_log_can_be_turned_off,
);

async fn text(client: &Client, path: &str) -> String {
    let answer = client.get(path).await;
    assert_eq!(answer.status(), 200, "{path}");
    String::from_utf8(body(answer).await).expect("text")
}

async fn probes_answer(backend: Backend) {
    let client = shared_client(backend);
    assert_eq!(text(&client, "/healthz").await, "ok\n");
    assert_eq!(text(&client, "/readyz").await, "ready\n");
    assert_eq!(client.head("/healthz").await.status(), 200);
}

async fn a_server_whose_disk_is_gone_is_not_ready(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    let data = server.storage_directory();
    let elsewhere = data.with_extension("away");
    fs::rename(&data, &elsewhere).expect("the directory is this test's own");
    let answer = client.get("/readyz").await;
    assert_eq!(answer.status(), 503);
    let said = String::from_utf8(body(answer).await).expect("text");
    assert!(!said.contains(&data.display().to_string()), "a probe tells no paths: {said}");
    assert_eq!(client.get("/healthz").await.status(), 200, "a restart would not help");
    fs::rename(&elsewhere, &data).expect("the directory is this test's own");
    assert_eq!(client.get("/readyz").await.status(), 200);
}

async fn metrics_count_what_happened(backend: Backend) {
    let begun = SystemTime::now();
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    let blob = Blob::random(INLINE_MAX + 1);
    client.push_blob("observability/metrics", &blob).await;
    for _ in 0..3 {
        client.blob("observability/metrics", &blob.digest).await;
    }
    client.get("/v2/observability/never/manifests/seen").await;
    let answer = client.get("/metrics").await;
    assert_eq!(header(&answer, "content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let metrics = String::from_utf8(body(answer).await).expect("text");
    let size = blob.bytes.len();
    for line in [
        "# TYPE http_server_request_duration_seconds histogram".to_owned(),
        "# UNIT http_server_request_duration_seconds seconds".to_owned(),
        "http_server_request_duration_seconds_count{method=\"GET\",route=\"blob\",status=\"200\"} 3".to_owned(),
        "http_server_request_duration_seconds_count{method=\"POST\",route=\"upload\",status=\"202\"} 1".to_owned(),
        "http_server_request_duration_seconds_count{method=\"PUT\",route=\"upload\",status=\"201\"} 1".to_owned(),
        "http_server_request_duration_seconds_count{method=\"GET\",route=\"manifest\",status=\"404\"} 1".to_owned(),
        format!("longshore_received_blob_bytes_total {size}"),
        "longshore_build_info{version=".to_owned(),
        "longshore_gc_failures_total 0".to_owned(),
        "longshore_cache_hits_total ".to_owned(),
        "longshore_cache_misses_total ".to_owned(),
        "longshore_cache_bytes ".to_owned(),
        "longshore_cache_open ".to_owned(),
        "# TYPE process_cpu_seconds counter".to_owned(),
        "process_cpu_seconds_total ".to_owned(),
        "process_virtual_memory_bytes ".to_owned(),
        "process_max_fds ".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found.starts_with(&line)), "no {line} in {metrics}");
    }
    let number = |name: &str| -> f64 {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {metrics}"))
    };
    assert!(number("process_resident_memory_bytes") > MIB as f64);
    assert!(number("process_open_fds") > 5.0, "its standard streams, its listener, this connection, its database");
    let started = UNIX_EPOCH + Duration::from_secs_f64(number("process_start_time_seconds"));
    assert!(begun <= started && started <= SystemTime::now(), "{started:?}");
    let sent = metrics.lines().find_map(|line| line.strip_prefix("longshore_sent_bytes_total ")?.parse().ok());
    assert!(sent.is_some_and(|sent: usize| sent >= 3 * size), "{sent:?}");
    assert!(metrics.ends_with("# EOF\n"));
    assert!(!metrics.contains("observability"), "repositories are no labels: {metrics}");
}

async fn metrics_have_a_listener_of_their_own(backend: Backend) {
    // Every address in 127.0.0.0/8 is this machine's: one that nobody else listens on.
    let [high, low] = ((std::process::id() % 65_536) as u16).to_be_bytes();
    let host = match backend {
        Backend::Sqlite => 101,
        Backend::Postgres | Backend::S3 => 102,
    };
    let address = format!("127.{host}.{high}.{low}:9090");
    let server = Server::start(Options::on(backend).set("metrics.address", &address));
    let (main, probes) = (Client::new(server.url()), Client::new(&format!("http://{address}")));
    assert_eq!(main.get("/metrics").await.status(), 404);
    assert_eq!(main.get("/readyz").await.status(), 200);
    assert!(text(&probes, "/metrics").await.contains("longshore_build_info"));
    assert_eq!(text(&probes, "/healthz").await, "ok\n");
    assert_eq!(text(&probes, "/readyz").await, "ready\n");
    assert_eq!(probes.get("/v2/").await.status(), 404, "the registry is not served there");
}

async fn metrics_can_be_turned_off(backend: Backend) {
    let server = Server::start(Options::on(backend).set("metrics.enabled", "false"));
    assert_eq!(Client::new(server.url()).get("/metrics").await.status(), 404);
}

async fn every_answer_has_a_request_id(backend: Backend) {
    let client = shared_client(backend);
    let (first, second) = (client.get("/v2/").await, client.get("/v2/nowhere/tags/list").await);
    let made = [&first, &second].map(|answer| header(answer, "x-request-id").to_owned());
    assert!(made.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())), "{made:?}");
    assert_ne!(made[0], made[1]);
    let longest = "x".repeat(128);
    for given in ["my-id", "{\"forged\":1}", &longest] {
        let answer = send(client.request(Method::GET, "/v2/").header("x-request-id", given)).await;
        assert_eq!(header(&answer, "x-request-id"), given);
    }
    for unfit in ["", "two words", "ä", &format!("{longest}x")] {
        let answer = send(client.request(Method::GET, "/v2/").header("x-request-id", unfit)).await;
        assert_eq!(header(&answer, "x-request-id").len(), 32, "{unfit} is replaced");
    }
}

/// The line of the access log on the request with this id: written when the last byte is out, which may be a moment
/// after the client has it.
pub(crate) async fn access_line(server: &Server, id: &str) -> Value {
    let line = eventually("logged", || async {
        let log = server.log();
        let whole_lines = &log[..log.rfind('\n').unwrap_or(0)];
        let lines = whole_lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
        let mut of_request =
            lines.filter(|line| line["request_id"] == id && line["target"] == "longshore::access").collect::<Vec<_>>();
        assert!(of_request.len() <= 1, "{of_request:?}");
        of_request.pop()
    });
    line.await
}

async fn each_request_is_one_line_of_the_log(backend: Backend) {
    let (server, client) = (shared_server(backend), shared_client(backend));
    let image = SmallImage::pushed_to(&client, "observability/log", "latest").await;
    let get = client
        .request(Method::GET, "/v2/observability/log/manifests/latest?secret=canary")
        .header("x-request-id", "access-get")
        .header("user-agent", "tester/1 \"x\"\\");
    assert_eq!(body(send(get).await).await, image.manifest.bytes);
    let line = access_line(server, "access-get").await;
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["http.request.method"], "GET");
    assert_eq!(line["url.path"], "/v2/observability/log/manifests/latest", "without the query");
    assert_eq!(line["http.response.status_code"], 200);
    assert_eq!(line["http.response.body.size"], image.manifest.bytes.len());
    assert_eq!(line["complete"], true);
    assert_eq!(line["user_agent.original"], "tester/1 \"x\"\\");
    assert!(line["client.address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{line}");
    assert!(line["duration_us"].as_u64().is_some_and(|duration| duration > 0), "{line}");
    assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    assert!(!line.to_string().contains("canary"), "{line}");

    let head =
        client.request(Method::HEAD, "/v2/observability/log/manifests/latest").header("x-request-id", "access-head");
    send(head).await;
    let line = access_line(server, "access-head").await;
    assert_eq!((&line["http.response.body.size"], &line["complete"]), (&0.into(), &true.into()), "{line}");

    let refused =
        client.request(Method::DELETE, "/v2/observability/log/tags/list").header("x-request-id", "access-405");
    send(refused).await;
    assert_eq!(access_line(server, "access-405").await["http.response.status_code"], 405);
}

async fn a_download_that_is_broken_off_is_logged_as_such(backend: Backend) {
    let (server, client) = (shared_server(backend), shared_client(backend));
    let blob = Blob::random(32 * MIB);
    client.push_blob("observability/broken-off", &blob).await;
    let mut stream = longshore_tests::raw::connect(server.address());
    let request = format!(
        "GET /v2/observability/broken-off/blobs/{} HTTP/1.1\r\nhost: x\r\nx-request-id: broken-off\r\n\r\n",
        blob.digest
    );
    std::io::Write::write_all(&mut stream, request.as_bytes()).expect("the server takes the request");
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200"));
    drop(stream);
    let line = access_line(server, "broken-off").await;
    assert_eq!(line["complete"], false, "{line}");
    assert!(line["http.response.body.size"].as_u64().is_some_and(|sent| sent < 32 * MIB as u64), "{line}");
    assert_ne!(line["level"], "ERROR", "a client may hang up");
    assert!(client.blob("observability/broken-off", &blob.digest).await == blob.bytes);
}

async fn the_access_log_can_be_turned_off(backend: Backend) {
    let server = Server::start(Options::on(backend).set("log.access", "false"));
    let client = Client::new(server.url());
    for _ in 0..2 {
        client.get("/v2/").await;
    }
    assert!(!server.log().contains("longshore::access"));
}
