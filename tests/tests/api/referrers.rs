//! What refers to a manifest: listed, filtered, in pages, together with what older clients wrote down under a tag.

use std::collections::BTreeSet;

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, body, expect};
use longshore_tests::image::{Blob, INDEX, MANIFEST, sha512};
use longshore_tests::on_both;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::answers::{assert_refused, header, next_page};
use crate::content::{SmallImage, image_document, index_of};
use crate::{MIB, shared_client};

on_both!(
    nothing_refers_to_what_is_not_here,
    a_referrer_is_described_as_it_describes_itself,
    a_filter_is_applied_and_said_to_be,
    a_long_list_comes_in_pages,
    long_types_do_not_make_a_page_long,
    what_a_fallback_tag_names_is_listed_too,
    a_long_fallback_tag_does_not_make_a_page_long,
    a_deleted_referrer_is_not_listed,
    referrers_outlive_their_subject,
    referrers_of_another_repository_are_not_listed,
    what_is_no_digest_is_refused,
);

const SIGNATURE: &str = "application/vnd.example.signature.v1";
const SBOM: &str = "application/vnd.example.sbom.v1";

/// A manifest with this subject, changed as the test likes.
async fn push_referrer(client: &Client, repository: &str, subject: &Blob, change: impl FnOnce(&mut Value)) -> Blob {
    let image = SmallImage::with_blobs_in(client, repository).await;
    let mut document = image_document(&image.config, &[]);
    document["subject"] = subject.descriptor();
    change(&mut document);
    let media_type = document["mediaType"].as_str().expect("a test keeps the type").to_owned();
    let referrer = Blob::of_json(&media_type, &document);
    client.push_manifest(repository, &referrer.digest, &referrer).await;
    referrer
}

async fn push_typed(client: &Client, repository: &str, subject: &Blob, artifact_type: &str) -> Blob {
    push_referrer(client, repository, subject, |document| document["artifactType"] = json!(artifact_type)).await
}

/// A page: its answer, its body's size, and its descriptors.
async fn ask(client: &Client, target: &str) -> (Response, usize, Vec<Value>) {
    let answer = expect(client.get(target).await, StatusCode::OK, target).await;
    assert_eq!(header(&answer, "content-type"), INDEX);
    let again = expect(client.get(target).await, StatusCode::OK, target).await;
    let bytes = body(again).await;
    let index: Value = serde_json::from_slice(&bytes).expect("an index is JSON");
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(INDEX)));
    let manifests = index["manifests"].as_array().unwrap_or_else(|| panic!("no list in {index}"));
    (answer, bytes.len(), manifests.clone())
}

fn target(repository: &str, subject: &Blob) -> String {
    format!("/v2/{repository}/referrers/{}", subject.digest)
}

/// The digests of all pages. No page may be larger than a manifest.
async fn all_pages(client: &Client, first: &str) -> (usize, Vec<String>) {
    let (mut pages, mut digests) = (0, Vec::new());
    let mut next = Some(first.to_owned());
    while let Some(target) = next {
        let (answer, size, manifests) = ask(client, &target).await;
        assert!(size <= 4 * MIB, "page {pages} has {size} bytes");
        digests.extend(manifests.iter().map(|entry| entry["digest"].as_str().expect("a digest is text").to_owned()));
        next = next_page(&answer);
        pages += 1;
    }
    (pages, digests)
}

fn sorted_digests(manifests: &[Blob]) -> Vec<String> {
    let digests: BTreeSet<String> = manifests.iter().map(|manifest| manifest.digest.clone()).collect();
    digests.into_iter().collect()
}

async fn nothing_refers_to_what_is_not_here(backend: Backend) {
    let client = shared_client(backend);
    let image = SmallImage::pushed_to(&client, "referrers/none", "latest").await;
    let absent = Blob::random(10);
    let long = Blob { digest: sha512(&absent.bytes), ..absent.clone() };
    for repository in ["referrers/none", "referrers/never-seen"] {
        for subject in [&image.manifest, &absent, &long] {
            let (answer, _, manifests) = ask(&client, &target(repository, subject)).await;
            assert!(manifests.is_empty());
            assert_eq!(next_page(&answer), None);
            assert_eq!(client.head(&target(repository, subject)).await.status(), 200);
        }
    }
}

async fn a_referrer_is_described_as_it_describes_itself(backend: Backend) {
    let client = shared_client(backend);
    let repository = "referrers/described";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let long = Blob { digest: sha512(&image.manifest.bytes), ..image.manifest.clone() };
    for subject in [&image.manifest, &long] {
        let annotations = json!({ "org.example.created": "today", "ä\"\n": "<&>\u{0}" });
        let typed = push_referrer(&client, repository, subject, |document| {
            document["artifactType"] = json!(SIGNATURE);
            document["annotations"] = annotations.clone();
        })
        .await;
        let by_config = push_referrer(&client, repository, subject, |document| {
            document["config"]["mediaType"] = json!("application/vnd.example.config");
        })
        .await;
        let mut index: Value = serde_json::from_slice(&index_of(&[]).bytes).expect("an index is JSON");
        index["subject"] = subject.descriptor();
        let index = Blob::of_json(INDEX, &index);
        client.push_manifest(repository, "index", &index).await;

        let mut expected = [typed.descriptor(), by_config.descriptor(), index.descriptor()];
        expected[0]["artifactType"] = json!(SIGNATURE);
        expected[0]["annotations"] = annotations;
        expected[1]["artifactType"] = json!("application/vnd.example.config");
        expected.sort_by_key(|entry| entry["digest"].as_str().map(str::to_owned));
        let (answer, _, manifests) = ask(&client, &target(repository, subject)).await;
        assert_eq!(manifests, expected);
        assert!(!answer.headers().contains_key("oci-filters-applied"));
    }
}

async fn a_filter_is_applied_and_said_to_be(backend: Backend) {
    let client = shared_client(backend);
    let repository = "referrers/filter";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let signature = push_typed(&client, repository, &image.manifest, SIGNATURE).await;
    let sbom = push_typed(&client, repository, &image.manifest, SBOM).await;
    let by_config = push_referrer(&client, repository, &image.manifest, |document| {
        document["config"]["mediaType"] = json!(SBOM);
    })
    .await;
    for (filter, expected) in [
        (SIGNATURE, vec![signature.clone()]),
        (SBOM, vec![sbom.clone(), by_config.clone()]),
        ("application/vnd.example.other", vec![]),
        ("application%2Fvnd.example.signature.v1", vec![signature.clone()]),
        ("%25", vec![]),
    ] {
        let filtered = format!("{}?artifactType={filter}", target(repository, &image.manifest));
        let (answer, ..) = ask(&client, &filtered).await;
        assert_eq!(header(&answer, "oci-filters-applied"), "artifactType", "{filter}");
        assert_eq!(all_pages(&client, &filtered).await.1, sorted_digests(&expected), "{filter}");
    }
    let unfiltered = format!("{}?artifactType=", target(repository, &image.manifest));
    assert_eq!(all_pages(&client, &unfiltered).await.1, sorted_digests(&[signature, sbom, by_config]));
    // Nothing that a client can write there is a fault of the server.
    for filter in ["%00", "a%00b", "%ff", &"x".repeat(50_000)] {
        let answer = client.get(&format!("{}?artifactType={filter}", target(repository, &image.manifest))).await;
        assert!(answer.status().as_u16() < 500, "{}", answer.text().await.unwrap_or_default());
    }
}

async fn a_long_list_comes_in_pages(backend: Backend) {
    let client = shared_client(backend);
    let repository = "referrers/pages";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let mut referrers = Vec::new();
    let sizes = [900_000, 900_000, 900_000, 900_000, 900_000, 10, 10, 3_900_000];
    for (number, size) in sizes.into_iter().enumerate() {
        let referrer = push_referrer(&client, repository, &image.manifest, |document| {
            document["artifactType"] = json!(if number % 2 == 0 { SIGNATURE } else { SBOM });
            document["annotations"] = json!({ "padding": "x".repeat(size) });
        });
        referrers.push(referrer.await);
    }
    let first = target(repository, &image.manifest);
    let (pages, digests) = all_pages(&client, &first).await;
    assert!(pages >= 3, "8.4 MB cannot stand on {pages} pages");
    assert_eq!(digests, sorted_digests(&referrers), "each once, none left out");

    let (_, filtered) = all_pages(&client, &format!("{first}?artifactType={SIGNATURE}")).await;
    let signatures: Vec<Blob> = referrers.into_iter().step_by(2).collect();
    assert_eq!(filtered, sorted_digests(&signatures), "a link keeps the filter");
}

async fn long_types_do_not_make_a_page_long(backend: Backend) {
    let client = shared_client(backend);
    let repository = "referrers/long-types";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let mut accepted = Vec::new();
    for number in 0..4 {
        let config = SmallImage::with_blobs_in(&client, repository).await.config;
        let mut document = image_document(&config, &[]);
        document["subject"] = image.manifest.descriptor();
        document["artifactType"] = json!(format!("application/{number}{}", "x".repeat(2 * MIB)));
        let referrer = Blob::of_json(MANIFEST, &document);
        let put = client.put_manifest(repository, &referrer.digest, MANIFEST, referrer.bytes.clone()).await;
        // To refuse a type that is none is as right as to list it.
        if put.status() == 201 {
            accepted.push(referrer);
        } else {
            assert_refused(put, 400, "MANIFEST_INVALID").await;
        }
    }
    let (_, digests) = all_pages(&client, &target(repository, &image.manifest)).await;
    assert_eq!(digests, sorted_digests(&accepted));
}

/// Pushes an index under the tag at which clients of older registries keep the referrers of a subject.
async fn push_fallback(client: &Client, repository: &str, subject: &Blob, entries: &[Value]) {
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let tag = subject.digest.replace(':', "-");
    client.push_manifest(repository, &tag, &Blob::of_json(INDEX, &index)).await;
}

async fn what_a_fallback_tag_names_is_listed_too(backend: Backend) {
    let client = shared_client(backend);
    let repository = "referrers/fallback";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let native = push_typed(&client, repository, &image.manifest, SBOM).await;
    // What cosign pushed before there were subjects.
    let old = SmallImage::pushed_to(&client, repository, "old").await.manifest;
    let gone = SmallImage::pushed_to(&client, repository, "gone").await.manifest;
    let mut described = old.descriptor();
    described["artifactType"] = json!(SIGNATURE);
    described["annotations"] = json!({ "by": "an older client" });
    let entries = [described.clone(), native.descriptor(), described.clone(), gone.descriptor()];
    push_fallback(&client, repository, &image.manifest, &entries).await;

    let (_, _, manifests) = ask(&client, &target(repository, &image.manifest)).await;
    assert!(manifests.contains(&described), "{manifests:?}");
    let (_, digests) = all_pages(&client, &target(repository, &image.manifest)).await;
    let of_all: Vec<String> = [&native, &old, &gone].map(|manifest| manifest.digest.clone()).to_vec();
    assert_eq!(digests.len(), 3, "each once");
    assert_eq!(digests.iter().collect::<BTreeSet<_>>(), of_all.iter().collect::<BTreeSet<_>>());
    let filtered = format!("{}?artifactType={SIGNATURE}", target(repository, &image.manifest));
    assert_eq!(all_pages(&client, &filtered).await.1, [old.digest]);
    assert!(client.tags(repository).await.contains(&image.manifest.digest.replace(':', "-")), "the tag stays a tag");
}

async fn a_long_fallback_tag_does_not_make_a_page_long(backend: Backend) {
    let client = shared_client(backend);
    let repository = "referrers/long-fallback";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let mut expected = Vec::new();
    for _ in 0..2 {
        let referrer = push_referrer(&client, repository, &image.manifest, |document| {
            document["annotations"] = json!({ "padding": "x".repeat(1_400_000) });
        });
        expected.push(referrer.await);
    }
    let old = SmallImage::pushed_to(&client, repository, "old").await.manifest;
    let mut described = old.descriptor();
    described["annotations"] = json!({ "padding": "x".repeat(3_900_000) });
    push_fallback(&client, repository, &image.manifest, &[described]).await;
    expected.push(old);
    let (_, digests) = all_pages(&client, &target(repository, &image.manifest)).await;
    let digests: BTreeSet<String> = digests.into_iter().collect();
    assert_eq!(digests.into_iter().collect::<Vec<_>>(), sorted_digests(&expected));
}

async fn a_deleted_referrer_is_not_listed(backend: Backend) {
    let client = shared_client(backend);
    let repository = "referrers/deleted";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let stays = push_typed(&client, repository, &image.manifest, SBOM).await;
    let goes = push_typed(&client, repository, &image.manifest, SIGNATURE).await;
    assert_eq!(all_pages(&client, &target(repository, &image.manifest)).await.1.len(), 2);
    assert_eq!(client.delete(&format!("/v2/{repository}/manifests/{}", goes.digest)).await.status(), 202);
    assert_eq!(all_pages(&client, &target(repository, &image.manifest)).await.1, [stays.digest]);
}

async fn referrers_outlive_their_subject(backend: Backend) {
    let client = shared_client(backend);
    let repository = "referrers/orphans";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let referrer = push_typed(&client, repository, &image.manifest, SBOM).await;
    assert_eq!(client.delete(&format!("/v2/{repository}/manifests/{}", image.manifest.digest)).await.status(), 202);
    assert_eq!(
        all_pages(&client, &target(repository, &image.manifest)).await.1,
        std::slice::from_ref(&referrer.digest)
    );
    assert_eq!(client.manifest(repository, &referrer.digest).await, referrer.bytes);
}

async fn referrers_of_another_repository_are_not_listed(backend: Backend) {
    let client = shared_client(backend);
    let image = SmallImage::pushed_to(&client, "referrers/here", "latest").await;
    for blob in [&image.config, &image.layer] {
        client.push_blob("referrers/there", blob).await;
    }
    client.push_manifest("referrers/there", "latest", &image.manifest).await;
    push_typed(&client, "referrers/there", &image.manifest, SBOM).await;
    assert!(all_pages(&client, &target("referrers/here", &image.manifest)).await.1.is_empty());
}

async fn what_is_no_digest_is_refused(backend: Backend) {
    let client = shared_client(backend);
    let hex = "0".repeat(64);
    for digest in
        ["latest", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "%00", ":", &format!("sha256:{hex}0")]
    {
        assert_refused(client.get(&format!("/v2/referrers/bad/referrers/{digest}")).await, 400, "DIGEST_INVALID").await;
    }
    let last = format!("/v2/referrers/bad/referrers/sha256:{hex}?last=nothing");
    assert_refused(client.get(&last).await, 400, "DIGEST_INVALID").await;
}
