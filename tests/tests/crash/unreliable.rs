//! An object store of which every twentieth request fails, before it did what it was asked or after: clients notice nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use longshore_tests::client::{Client, location};
use longshore_tests::image::Blob;
use longshore_tests::middleman::{Fault, Head, Middleman};
use longshore_tests::minio::Minio;
use longshore_tests::postgres::Postgres;
use longshore_tests::random::Random;
use longshore_tests::server::{Options, Server};
use reqwest::header::{HeaderMap, RANGE};
use reqwest::{Method, RequestBuilder, StatusCode};

use crate::{KIB, MIB, SEED};

const REPOSITORY: &str = "unreliable/app";
const CLIENTS: usize = 24;
const ROUNDS: usize = 64;
/// One failure in so many operations is promised; with fewer of them the share would say nothing.
const OPERATIONS: usize = 10_000;
/// Blobs up to this size are in their rows, and never meet the store.
const IN_ROWS: usize = 16 * KIB;

const SLOW_DOWN: &str = "503 Slow Down\r\nretry-after: 1\r\ncontent-type: application/xml\r\n\r\n\
                         <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
const FAILED: &str = "500 Internal Server Error\r\ncontent-type: application/xml\r\n\r\n\
                      <Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>";
/// What only the end of an upload in parts is answered.
const FAILED_LATE: &str = "200 OK\r\ncontent-type: application/xml\r\n\r\n\
                           <Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>";

/// What becomes of so many requests in a thousand.
const FATES: [(usize, &str, Fault); 4] = [
    (10, "told to come again in a second", Fault::Refused(SLOW_DOWN)),
    (10, "cut off unheard", Fault::Unheard),
    (15, "done, and cut off", Fault::Unanswered),
    (15, "done, and told that they failed", Fault::Replaced(FAILED)),
];

/// What has become of the requests to the store.
struct Trouble {
    random: Mutex<Random>,
    requests: AtomicUsize,
    failed: [AtomicUsize; FATES.len()],
}

impl Trouble {
    fn new(random: Random) -> Arc<Self> {
        Arc::new(Self { random: Mutex::new(random), requests: AtomicUsize::new(0), failed: Default::default() })
    }

    fn fate(&self, request: &Head) -> Option<Fault> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut drawn = self.random.lock().expect("nobody panics here").between(0, 1000);
        for ((share, _, fault), failed) in FATES.iter().zip(&self.failed) {
            if drawn < *share {
                failed.fetch_add(1, Ordering::Relaxed);
                let line = request.first_line();
                let is_end = line.starts_with("POST ") && line.contains("uploadId=");
                let fails_late = is_end && matches!(fault, Fault::Replaced(_)) && drawn.is_multiple_of(2);
                return Some(if fails_late { Fault::Replaced(FAILED_LATE) } else { *fault });
            }
            drawn -= share;
        }
        None
    }

    fn told(&self) -> String {
        let failed = FATES.iter().zip(&self.failed);
        let failed = failed.map(|((_, what, _), count)| format!("{} were {what}", count.load(Ordering::Relaxed)));
        let failed: Vec<_> = failed.collect();
        format!("{} requests to the store, of which {}", self.requests.load(Ordering::Relaxed), failed.join(", "))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_store_that_fails_now_and_then_clients_notice_nothing() {
    let mut random = Random::announced("an unreliable store", SEED);
    let trouble = Trouble::new(random.fork());
    let behind = trouble.clone();
    let store = Middleman::in_front_of(Minio::shared().address(), move |request| behind.fate(request));
    let options = Options::over(Postgres::shared(), Minio::shared());
    // Nothing is kept in memory: each pull asks the store.
    let options = options.set("storage.s3.endpoint", &store.url()).set("storage.cache_size", "0");
    let server = Server::start(options);
    let callers = (0..CLIENTS).map(|number| Caller::new(server.url(), number, random.fork()));
    let ended = join_all(callers.map(|caller| tokio::spawn(caller.push_and_pull()))).await;
    let (mut operations, mut failed) = (0, Vec::new());
    for caller in ended {
        let caller = caller.expect("no bytes are lost or others");
        operations += caller.operations;
        failed.extend(caller.failed);
    }
    println!("{operations} operations of clients, of which {} failed; {}", failed.len(), trouble.told());
    assert!(operations >= OPERATIONS, "{operations} operations say nothing of one in {OPERATIONS}");
    assert!(failed.len() * OPERATIONS <= operations, "{} of {operations} failed: {failed:#?}", failed.len());
    for ((_, what, _), count) in FATES.iter().zip(&trouble.failed) {
        assert!(count.load(Ordering::Relaxed) > 0, "no requests were {what}");
    }
}

/// A client, and what became of its requests.
struct Caller {
    client: Client,
    number: usize,
    random: Random,
    pushed: Vec<Blob>,
    operations: usize,
    /// How requests went that failed.
    failed: Vec<String>,
}

impl Caller {
    fn new(url: &str, number: usize, random: Random) -> Self {
        Self { client: Client::new(url), number, random, pushed: Vec::new(), operations: 0, failed: Vec::new() }
    }

    async fn push_and_pull(mut self) -> Self {
        for round in 0..ROUNDS {
            // Twice a blob in parts and tails, and not all clients at the same time.
            let is_large = round % (ROUNDS / 2) == self.number;
            let least = if is_large { 12 * MIB } else { IN_ROWS + 1 };
            let blob = Blob::random(least + self.random.between(0, 20 * KIB));
            let is_in_chunks = is_large || self.random.once_in(4);
            let pushed = if is_in_chunks { self.push_in_chunks(&blob).await } else { self.push(&blob).await };
            if pushed.is_some() {
                self.look(&blob).await;
                self.pull(&blob).await;
                self.pushed.push(blob);
            }
            for _ in 0..4 {
                self.pull_range().await;
            }
        }
        self
    }

    /// Makes a request. None where it did not go as it should.
    async fn ask(&mut self, request: RequestBuilder, expected: StatusCode) -> Option<(HeaderMap, Vec<u8>)> {
        self.operations += 1;
        let asked = async {
            let answer = request.send().await.map_err(|error| format!("no answer: {error:?}"))?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let body = answer.bytes().await.map_err(|error| format!("{status}, and then {error:?}"))?;
            if status == expected { Ok((headers, body.to_vec())) } else { Err(format!("{status}: {body:?}")) }
        };
        asked.await.map_err(|why| self.failed.push(why)).ok()
    }

    async fn begin(&mut self) -> Option<String> {
        let request = self.client.request(Method::POST, &format!("/v2/{REPOSITORY}/blobs/uploads/"));
        let (headers, _) = self.ask(request, StatusCode::ACCEPTED).await?;
        Some(location(&headers))
    }

    async fn end(&mut self, upload: &str, blob: &Blob, last: &[u8]) -> Option<()> {
        let joint = if upload.contains('?') { '&' } else { '?' };
        let request = self.client.request(Method::PUT, &format!("{upload}{joint}digest={}", blob.digest));
        self.ask(request.body(last.to_vec()), StatusCode::CREATED).await?;
        Some(())
    }

    async fn push(&mut self, blob: &Blob) -> Option<()> {
        let upload = self.begin().await?;
        self.end(&upload, blob, &blob.bytes).await
    }

    /// In three pieces, so that there are tails and parts that are gone on with.
    async fn push_in_chunks(&mut self, blob: &Blob) -> Option<()> {
        let mut upload = self.begin().await?;
        let half = blob.bytes.len() / 2;
        let last = blob.bytes.len() - KIB;
        for range in [0..half, half..last] {
            let request = self.client.request(Method::PATCH, &upload);
            let request = request.header("content-range", format!("{}-{}", range.start, range.end - 1));
            let (headers, _) = self.ask(request.body(blob.bytes[range].to_vec()), StatusCode::ACCEPTED).await?;
            upload = location(&headers);
        }
        self.end(&upload, blob, &blob.bytes[last..]).await
    }

    fn blob(&self, method: Method, blob: &Blob) -> RequestBuilder {
        self.client.request(method, &format!("/v2/{REPOSITORY}/blobs/{}", blob.digest))
    }

    async fn look(&mut self, blob: &Blob) {
        self.ask(self.blob(Method::HEAD, blob), StatusCode::OK).await;
    }

    async fn pull(&mut self, blob: &Blob) {
        if let Some((_, bytes)) = self.ask(self.blob(Method::GET, blob), StatusCode::OK).await {
            assert!(bytes == blob.bytes, "other bytes are served than were pushed");
        }
    }

    /// A range of any blob that was pushed.
    async fn pull_range(&mut self) {
        let Some(last) = self.pushed.len().checked_sub(1) else { return };
        let blob = self.pushed[self.random.between(0, last + 1)].clone();
        let begin = self.random.between(0, blob.bytes.len());
        let end = begin + 1 + self.random.between(0, (blob.bytes.len() - begin).min(MIB));
        let request = self.blob(Method::GET, &blob).header(RANGE, format!("bytes={begin}-{}", end - 1));
        if let Some((_, bytes)) = self.ask(request, StatusCode::PARTIAL_CONTENT).await {
            assert!(bytes == blob.bytes[begin..end], "other bytes are served than were pushed");
        }
    }
}
