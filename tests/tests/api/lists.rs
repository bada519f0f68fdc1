//! Lists of tags, and the catalog: their order, their pages, their ends.

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, expect, json};
use longshore_tests::image::{Blob, MANIFEST};
use longshore_tests::on_both;
use longshore_tests::server::{Options, Server};
use reqwest::StatusCode;
use serde_json::json;

use crate::answers::{assert_refused, header, next_page};
use crate::content::SmallImage;
use crate::{MIB, shared_client};

on_both!(
    tags_are_listed_by_bytes,
    pages_of_tags_lead_to_the_end,
    page_sizes_that_are_none_are_refused,
    a_list_goes_on_after_anything,
    a_repository_without_tags_has_an_empty_list,
    a_repository_that_is_not_there_is_unknown,
    three_thousand_tags_are_listed,
    a_page_is_never_longer_than_the_limit,
    the_catalog_has_what_holds_a_manifest,
);

/// In the order of their bytes, which is that of no dictionary.
const TAGS: [&str; 9] = ["0", "1.10", "1.9", "B", "_x", "a", "a-b", "a.b", "aB"];

async fn tagged_repository(client: &Client, repository: &str, tags: &[&str]) {
    let image = SmallImage::with_blobs_in(client, repository).await;
    for batch in tags.chunks(64) {
        let target = format!("{}?tag={}", image.manifest.digest, batch.join("&tag="));
        let put = client.put_manifest(repository, &target, MANIFEST, image.manifest.bytes.clone()).await;
        expect(put, StatusCode::CREATED, repository).await;
    }
}

/// The items of a page, and where the next one is.
async fn page(client: &Client, target: &str, list: &str) -> (Vec<String>, Option<String>) {
    let answer = expect(client.get(target).await, StatusCode::OK, target).await;
    assert_eq!(header(&answer, "content-type"), "application/json");
    assert!(!answer.headers().contains_key("transfer-encoding"));
    let next = next_page(&answer);
    let body = json(answer).await;
    let items = body[list].as_array().unwrap_or_else(|| panic!("no list {list} in {body}"));
    (items.iter().map(|item| item.as_str().expect("an item is text").to_owned()).collect(), next)
}

/// All pages from `target` on, as a client that follows the links sees them.
async fn pages(client: &Client, target: &str, list: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut target = Some(target.to_owned());
    while let Some(this) = target {
        let (items, next) = page(client, &this, list).await;
        pages.push(items);
        target = next;
    }
    pages
}

async fn tags_are_listed_by_bytes(backend: Backend) {
    let client = shared_client(backend);
    let mut pushed = TAGS;
    pushed.reverse();
    tagged_repository(&client, "lists/order", &pushed).await;
    let answer = client.get("/v2/lists/order/tags/list").await;
    assert_eq!(json(answer).await, json!({ "name": "lists/order", "tags": TAGS }));
    let head = client.head("/v2/lists/order/tags/list").await;
    assert_eq!(head.status(), 200);
}

async fn pages_of_tags_lead_to_the_end(backend: Backend) {
    let client = shared_client(backend);
    tagged_repository(&client, "lists/pages", &TAGS).await;
    let list = "/v2/lists/pages/tags/list";
    for size in [1, 2, 3, 4, 8, 9, 10, 1000] {
        let expected: Vec<_> = TAGS.chunks(size).map(<[&str]>::to_vec).collect();
        assert_eq!(pages(&client, &format!("{list}?n={size}"), "tags").await, expected, "{size}");
    }
    let (_, next) = page(&client, &format!("{list}?n=4"), "tags").await;
    assert_eq!(next.as_deref(), Some("/v2/lists/pages/tags/list?n=4&last=B"));
    let (none, next) = page(&client, &format!("{list}?n=0"), "tags").await;
    assert_eq!((none.len(), next), (0, None), "n=0 is an empty list and the end");
    // More than any number is all that there is.
    for size in ["9223372036854775808", "18446744073709551616", "99999999999999999999999999999999", "1000000000"] {
        let (all, next) = page(&client, &format!("{list}?n={size}"), "tags").await;
        assert_eq!((all.len(), next), (TAGS.len(), None), "{size}");
    }
}

async fn page_sizes_that_are_none_are_refused(backend: Backend) {
    let client = shared_client(backend);
    tagged_repository(&client, "lists/sizes", &["a"]).await;
    for list in ["/v2/lists/sizes/tags/list", "/v2/_catalog"] {
        for size in ["-1", "abc", "", "1.5", "%20", "+1", "0x10", "1%00", "-9223372036854775809"] {
            let refusal = assert_refused(client.get(&format!("{list}?n={size}")).await, 400, "UNSUPPORTED").await;
            assert!(refusal.message.contains("whole number"), "{refusal:?}");
        }
    }
}

async fn a_list_goes_on_after_anything(backend: Backend) {
    let client = shared_client(backend);
    tagged_repository(&client, "lists/last", &TAGS).await;
    let after = async |last: &str| page(&client, &format!("/v2/lists/last/tags/list?{last}"), "tags").await;
    for (last, rest) in [
        ("last=", 0),
        ("last=!", 0),
        ("last=0", 1),
        ("last=1.5", 2),
        ("last=C", 4),
        ("last=a", 6),
        ("last=aB", 9),
        ("last=zzz", 9),
        ("last=%E2%82%AC", 9),
    ] {
        assert_eq!(after(last).await, (TAGS[rest..].iter().map(ToString::to_string).collect(), None), "{last}");
    }
    let (two, next) = after("n=2&last=1.5").await;
    assert_eq!(two, TAGS[2..4]);
    assert_eq!(next.as_deref(), Some("/v2/lists/last/tags/list?n=2&last=B"));
    // Nothing that a client can write there is a fault of the server.
    for last in ["last=%00", "last=a%00b", "last=%ff", "last=%", "last='%20OR%201=1"] {
        for list in ["/v2/lists/last/tags/list", "/v2/_catalog"] {
            let answer = client.get(&format!("{list}?{last}")).await;
            assert!(answer.status().as_u16() < 500, "{list}?{last}: {}", answer.text().await.unwrap_or_default());
        }
    }
}

async fn a_repository_without_tags_has_an_empty_list(backend: Backend) {
    let client = shared_client(backend);
    let empty = async |repository: &str| {
        let answer = client.get(&format!("/v2/{repository}/tags/list")).await;
        assert_eq!(json(answer).await, json!({ "name": repository, "tags": [] }));
    };
    client.push_blob("lists/only-a-blob", &Blob::random(1)).await;
    empty("lists/only-a-blob").await;
    let image = SmallImage::with_blobs_in(&client, "lists/untagged").await;
    client.push_manifest("lists/untagged", &image.manifest.digest, &image.manifest).await;
    empty("lists/untagged").await;
    tagged_repository(&client, "lists/emptied", &["a"]).await;
    assert_eq!(client.delete("/v2/lists/emptied/manifests/a").await.status(), 202);
    empty("lists/emptied").await;
}

async fn a_repository_that_is_not_there_is_unknown(backend: Backend) {
    let client = shared_client(backend);
    for query in ["", "?n=0", "?n=5&last=a"] {
        let answer = client.get(&format!("/v2/lists/nowhere/tags/list{query}")).await;
        let refusal = assert_refused(answer, 404, "NAME_UNKNOWN").await;
        assert_eq!(refusal.detail["name"], "lists/nowhere");
    }
}

async fn three_thousand_tags_are_listed(backend: Backend) {
    let client = shared_client(backend);
    let tags: Vec<String> = (0..3000).map(|number| format!("v{number}")).collect();
    tagged_repository(&client, "lists/many", &tags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut sorted = tags;
    sorted.sort_unstable();
    assert_eq!(client.tags("lists/many").await, sorted, "without n all of them come at once");
    let paged = pages(&client, "/v2/lists/many/tags/list?n=999", "tags").await;
    assert_eq!(paged.iter().map(Vec::len).collect::<Vec<_>>(), [999, 999, 999, 3]);
    assert_eq!(paged.concat(), sorted);
}

async fn a_page_is_never_longer_than_the_limit(backend: Backend) {
    let server = Server::start(Options::on(backend).set("limits.page_size", "4"));
    let client = Client::new(server.url());
    tagged_repository(&client, "lists/limit", &TAGS).await;
    for query in ["", "?n=5", "?n=9223372036854775808"] {
        let paged = pages(&client, &format!("/v2/lists/limit/tags/list{query}"), "tags").await;
        assert_eq!(paged, TAGS.chunks(4).map(<[&str]>::to_vec).collect::<Vec<_>>(), "{query}");
    }
}

async fn the_catalog_has_what_holds_a_manifest(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    assert_eq!(json(client.get("/v2/_catalog").await).await, json!({ "repositories": [] }));
    let names = ["a", "a-b", "a.b", "a/b", "a/b/c", "a0", "b"];
    for name in names.iter().rev() {
        SmallImage::pushed_to(&client, name, "latest").await;
    }
    client.push_blob("only-a-blob", &Blob::random(MIB)).await;
    client.start_upload("only-an-upload").await;
    let emptied = SmallImage::pushed_to(&client, "emptied", "latest").await;
    assert_eq!(client.delete(&format!("/v2/emptied/manifests/{}", emptied.manifest.digest)).await.status(), 202);

    assert_eq!(pages(&client, "/v2/_catalog", "repositories").await, [names.to_vec()]);
    for size in [1, 2, 3, 6, 7, 8] {
        let expected: Vec<_> = names.chunks(size).map(<[&str]>::to_vec).collect();
        assert_eq!(pages(&client, &format!("/v2/_catalog?n={size}"), "repositories").await, expected, "{size}");
    }
    assert_eq!(page(&client, "/v2/_catalog?n=0", "repositories").await, (vec![], None));
    let (_, next) = page(&client, "/v2/_catalog?n=4", "repositories").await;
    assert_eq!(next.as_deref(), Some("/v2/_catalog?n=4&last=a%2Fb"));
    let (after, _) = page(&client, "/v2/_catalog?last=a%2Faaa", "repositories").await;
    assert_eq!(after, names[3..]);
}
