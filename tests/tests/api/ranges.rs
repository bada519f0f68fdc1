//! Range requests of RFC 9110, as containerd, podman's partial pulls and resumed downloads make them.

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, body, send};
use longshore_tests::image::Blob;
use longshore_tests::on_all;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};
use reqwest::{Method, Response};

use crate::answers::{assert_refused, eventually, header};
use crate::content::SmallImage;
use crate::{INLINE_MAX, MIB, shared_client};

on_all!(
    one_range_is_one_part,
    a_range_outside_is_refused,
    what_is_not_understood_is_ignored,
    two_ranges_are_two_parts_in_the_order_asked_for,
    a_thousand_and_twenty_four_ranges_are_as_many_parts,
    more_ranges_are_to_be_halved,
    ranges_that_come_to_more_than_the_content_get_all_of_it_once,
    a_range_holds_only_for_the_content_it_was_meant_for,
    manifests_have_ranges_too,
);

/// A blob in the database and one in a file, and their paths.
async fn two_blobs(client: &Client, repository: &str) -> [(String, Blob); 2] {
    let [small, large] = [2048, INLINE_MAX + 2048].map(Blob::random);
    client.push_blob(repository, &small).await;
    client.push_blob(repository, &large).await;
    [small, large].map(|blob| (format!("/v2/{repository}/blobs/{}", blob.digest), blob))
}

async fn ask(client: &Client, path: &str, range: &str) -> Response {
    send(client.request(Method::GET, path).header("range", range)).await
}

async fn one_range_is_one_part(backend: Backend) {
    let client = shared_client(backend);
    for (path, blob) in two_blobs(&client, "ranges/one").await {
        let size = blob.bytes.len();
        let cases = [
            ("bytes=0-0".to_owned(), 0..1),
            ("bytes=500-1499".to_owned(), 500..1500),
            ("bytes=500-".to_owned(), 500..size),
            ("bytes=0-".to_owned(), 0..size),
            ("bytes=-500".to_owned(), size - 500..size),
            (format!("bytes=-{}", size + 1), 0..size),
            (format!("bytes={}-{}", size - 48, size + 9999), size - 48..size),
            ("bytes=1-99999999999999999999999999".to_owned(), 1..size),
            ("BYTES=3-4".to_owned(), 3..5),
            ("bytes=3-4,".to_owned(), 3..5),
            (format!("bytes=3-4,{size}-"), 3..5),
        ];
        for (range, expected) in cases {
            let answer = ask(&client, &path, &range).await;
            assert_eq!(answer.status(), 206, "{range}");
            let content_range = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
            assert_eq!(header(&answer, "content-range"), content_range, "{range}");
            assert_eq!(header(&answer, "content-length"), expected.len().to_string(), "{range}");
            assert_eq!(header(&answer, "content-type"), "application/octet-stream", "{range}");
            assert_eq!(header(&answer, "docker-content-digest"), blob.digest, "{range}");
            assert!(!answer.headers().contains_key("transfer-encoding"), "{range}");
            assert!(body(answer).await == blob.bytes[expected], "{range}");
        }
    }
}

async fn a_range_outside_is_refused(backend: Backend) {
    let client = shared_client(backend);
    for (path, blob) in two_blobs(&client, "ranges/outside").await {
        let size = blob.bytes.len();
        let beyond = format!("bytes={size}-");
        for range in [&beyond, "bytes=99999-100000", "bytes=500-0", "bytes=-0", "bytes=99999-,100000-"] {
            let answer = ask(&client, &path, range).await;
            assert_eq!(header(&answer, "content-range"), format!("bytes */{size}"), "{range}");
            assert_refused(answer, 416, "SIZE_INVALID").await;
        }
    }
    let empty = Blob::random(0);
    client.push_blob("ranges/outside", &empty).await;
    let answer = ask(&client, &format!("/v2/ranges/outside/blobs/{}", empty.digest), "bytes=0-").await;
    assert_eq!(header(&answer, "content-range"), "bytes */0");
    assert_refused(answer, 416, "SIZE_INVALID").await;
}

async fn what_is_not_understood_is_ignored(backend: Backend) {
    let client = shared_client(backend);
    for (path, blob) in two_blobs(&client, "ranges/malformed").await {
        for range in ["", "bytes", "bytes=", "bytes=a-b", "bytes=1", "bytes=-", "bytes=0-1,x", "bytes=--5", "lines=0-1"]
        {
            let answer = ask(&client, &path, range).await;
            assert_eq!(answer.status(), 200, "{range}");
            assert!(!answer.headers().contains_key("content-range"), "{range}");
            assert!(body(answer).await == blob.bytes, "{range}");
        }
        let answer = send(client.request(Method::HEAD, &path).header("range", "bytes=0-1")).await;
        assert_eq!(answer.status(), 200, "a HEAD has no range");
        assert_eq!(header(&answer, "content-length"), blob.bytes.len().to_string());
    }
}

async fn two_ranges_are_two_parts_in_the_order_asked_for(backend: Backend) {
    let client = shared_client(backend);
    for (path, blob) in two_blobs(&client, "ranges/two").await {
        let size = blob.bytes.len();
        let cases = [
            ("bytes=0-9,100-199".to_owned(), vec![0..10, 100..200]),
            ("bytes=100-199, 0-9".to_owned(), vec![100..200, 0..10]),
            ("bytes=0-9,10-19".to_owned(), vec![0..10, 10..20]),
            ("bytes=0-9,5-14".to_owned(), vec![0..10, 5..15]),
            ("bytes=7-7,7-7".to_owned(), vec![7..8, 7..8]),
            ("bytes=-1,0-0".to_owned(), vec![size - 1..size, 0..1]),
            (format!("bytes=3-4,{size}-,{}-", size - 2), vec![3..5, size - 2..size]),
        ];
        for (ranges, expected) in cases {
            let parts = expected.iter().map(|range| (range.clone(), &blob.bytes[range.clone()])).collect::<Vec<_>>();
            assert_parts(ask(&client, &path, &ranges).await, "application/octet-stream", size, &parts).await;
        }
    }
}

async fn a_thousand_and_twenty_four_ranges_are_as_many_parts(backend: Backend) {
    let client = shared_client(backend);
    let blob = Blob::random(2 * MIB + 7);
    client.push_blob("ranges/many", &blob).await;
    assert_many_parts(&client, &blob).await;
}

/// Of a blob of 2 MiB at least, in the repository `ranges/many`.
async fn assert_many_parts(client: &Client, blob: &Blob) {
    let path = format!("/v2/ranges/many/blobs/{}", blob.digest);
    // From the end to the beginning, some of them touching: they must be neither sorted nor joined.
    let ranges: Vec<_> =
        (0..1024_usize).rev().map(|number| number * 2000..number * 2000 + 1000 + number % 1001).collect();
    let list: Vec<String> = ranges.iter().map(|range| format!("{}-{}", range.start, range.end - 1)).collect();
    let parts: Vec<_> = ranges.iter().map(|range| (range.clone(), &blob.bytes[range.clone()])).collect();
    let answer = ask(client, &path, &format!("bytes={}", list.join(","))).await;
    assert_parts(answer, "application/octet-stream", blob.bytes.len(), &parts).await;
}

/// From a file, the store, the cache in memory and the one on disk; and over HTTP/2, where all bytes pass through memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ranges_are_as_many_parts_from_wherever_they_come() {
    let scratch = Scratch::new("rungs");
    let folder = scratch.directory("cache").display().to_string();
    let uncached = Options::on(Backend::S3).set("storage.cache_size", "0");
    let disk = uncached.clone().set("storage.disk_cache.path", &folder).set("storage.disk_cache.size", "100MiB");
    let blob = Blob::random(2 * MIB + 7);
    for (options, has_disk) in
        [(uncached, false), (disk, true), (Options::on(Backend::S3), false), (Options::on(Backend::Sqlite), false)]
    {
        let server = Server::start(options);
        let client = Client::new(server.url());
        client.push_blob("ranges/many", &blob).await;
        assert!(client.blob("ranges/many", &blob.digest).await == blob.bytes);
        if has_disk {
            // What found no room in the queue of writes is kept when it is pulled again.
            let kept = || async {
                assert!(client.blob("ranges/many", &blob.digest).await == blob.bytes);
                (client.metric("longshore_disk_cache_bytes").await > 2 * MIB as u64).then_some(())
            };
            eventually("all of it is on the disk", kept).await;
        }
        assert_many_parts(&client, &blob).await;
        assert_many_parts(&Client::new(server.url()).over_http2(), &blob).await;
        if has_disk {
            assert!(client.metric("longshore_disk_cache_hits_total").await >= 3, "a hit for each segment");
        }
    }
}

async fn more_ranges_are_to_be_halved(backend: Backend) {
    let client = shared_client(backend);
    for (path, _) in two_blobs(&client, "ranges/too-many").await {
        let list: Vec<String> = (0..1025).map(|byte| format!("{byte}-{byte}")).collect();
        let answer = ask(&client, &path, &format!("bytes={}", list.join(","))).await;
        // Only a 400 makes podman ask for half as many: a 416 would be the end of its pull.
        let refusal = assert_refused(answer, 400, "UNSUPPORTED").await;
        assert!(refusal.message.contains("1024"), "{refusal:?}");
    }
}

async fn ranges_that_come_to_more_than_the_content_get_all_of_it_once(backend: Backend) {
    let client = shared_client(backend);
    for (path, blob) in two_blobs(&client, "ranges/overlapping").await {
        for range in ["bytes=0-,0-", "bytes=0-,-1", "bytes=1-,0-1"] {
            let answer = ask(&client, &path, range).await;
            assert_eq!(answer.status(), 200, "{range}");
            assert_eq!(header(&answer, "content-length"), blob.bytes.len().to_string(), "{range}");
            assert!(body(answer).await == blob.bytes, "{range}");
        }
    }
}

async fn a_range_holds_only_for_the_content_it_was_meant_for(backend: Backend) {
    let client = shared_client(backend);
    for (path, blob) in two_blobs(&client, "ranges/if-range").await {
        let etag = format!("\"{}\"", blob.digest);
        let other = format!("\"{}\"", Blob::random(1).digest);
        // A weak tag and a date never match here: RFC 9110, section 13.1.5.
        let weak = format!("W/{etag}");
        for (condition, status) in
            [(&etag, 206), (&other, 200), (&weak, 200), (&"Wed, 21 Oct 2015 07:28:00 GMT".to_owned(), 200)]
        {
            let request = client.request(Method::GET, &path).header("range", "bytes=1-9").header("if-range", condition);
            let answer = send(request).await;
            assert_eq!(answer.status(), status, "{condition}");
            let expected = if status == 206 { &blob.bytes[1..10] } else { &blob.bytes[..] };
            assert!(body(answer).await == expected, "{condition}");
        }
        let known = client.request(Method::GET, &path).header("range", "bytes=1-9").header("if-none-match", &etag);
        assert_eq!(send(known).await.status(), 304);
    }
}

async fn manifests_have_ranges_too(backend: Backend) {
    let client = shared_client(backend);
    let image = SmallImage::pushed_to(&client, "ranges/manifests", "latest").await;
    let (bytes, size) = (&image.manifest.bytes, image.manifest.bytes.len());
    for reference in ["latest", &image.manifest.digest] {
        let path = format!("/v2/ranges/manifests/manifests/{reference}");
        // Bottlerocket's containerd asks so.
        let answer = ask(&client, &path, "bytes=0-").await;
        assert_eq!(answer.status(), 206);
        assert_eq!(header(&answer, "content-type"), image.manifest.media_type);
        assert_eq!(header(&answer, "content-range"), format!("bytes 0-{}/{size}", size - 1));
        assert!(body(answer).await == *bytes);

        let parts = [(20..30, &bytes[20..30]), (0..5, &bytes[0..5])];
        assert_parts(ask(&client, &path, "bytes=20-29,0-4").await, &image.manifest.media_type, size, &parts).await;

        let answer = ask(&client, &path, &format!("bytes={size}-")).await;
        assert_eq!(header(&answer, "content-range"), format!("bytes */{size}"));
        assert_refused(answer, 416, "SIZE_INVALID").await;
    }
}

/// Reads a `multipart/byteranges` answer to its last byte and holds it against what was asked for.
async fn assert_parts(answer: Response, media_type: &str, size: usize, expected: &[(std::ops::Range<usize>, &[u8])]) {
    assert_eq!(answer.status(), 206);
    assert!(!answer.headers().contains_key("transfer-encoding"), "{answer:?}");
    assert!(!answer.headers().contains_key("content-range"), "that is for a single part: {answer:?}");
    let content_type = header(&answer, "content-type");
    let boundary =
        content_type.strip_prefix("multipart/byteranges; boundary=").expect("the content type of many parts");
    // Some clients cannot read a boundary with characters that need quotes.
    assert!(
        (1..=70).contains(&boundary.len()) && boundary.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    );
    let delimiter = format!("\r\n--{boundary}");
    let declared: usize = header(&answer, "content-length").parse().expect("a number");
    let whole = body(answer).await;
    assert_eq!(whole.len(), declared);

    let mut rest = whole.as_slice();
    for (range, bytes) in expected {
        let head = format!(
            "{delimiter}\r\nContent-Type: {media_type}\r\nContent-Range: bytes {}-{}/{size}\r\n\r\n",
            range.start,
            range.end - 1
        );
        let after_head = rest.strip_prefix(head.as_bytes());
        let after_head = after_head
            .unwrap_or_else(|| panic!("not {head:?}: {:?}", String::from_utf8_lossy(&rest[..rest.len().min(300)])));
        rest = after_head.strip_prefix(*bytes).unwrap_or_else(|| panic!("the bytes of {range:?} differ"));
    }
    assert_eq!(rest, format!("{delimiter}--\r\n").as_bytes());
}
