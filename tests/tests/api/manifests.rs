//! Pushing manifests: what is taken, under which names it is then found, and what it needs.

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, body, expect, send};
use longshore_tests::image::{Blob, DOCKER_LIST, DOCKER_MANIFEST, INDEX, LAYER_GZIP, MANIFEST, sha256, sha512};
use longshore_tests::on_all;
use longshore_tests::server::{Options, Server};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::answers::{assert_refused, header};
use crate::content::{SmallImage, image_document, image_manifest, index_of};
use crate::{MIB, shared_client};

on_all!(
    the_exact_bytes_come_back_by_every_name,
    a_content_type_may_have_parameters_or_say_nothing,
    many_tags_come_with_one_push,
    more_tags_than_the_limit_are_refused,
    a_tag_moves_to_what_is_pushed_last,
    every_kind_of_manifest_is_taken,
    an_index_of_blobs_is_taken,
    layers_that_may_not_be_distributed_need_not_be_here,
    missing_parts_are_named,
    parts_of_another_repository_are_missing,
    missing_parts_are_taken_where_the_policy_allows_them,
    a_subject_is_answered_and_need_not_be_here,
    the_largest_manifest_is_taken,
);

/// PUT of a manifest that must be taken; sees that the answer names it rightly, and that it can be pulled.
async fn assert_taken(client: &Client, repository: &str, reference: &str, manifest: &Blob) {
    let digest = if reference.starts_with("sha512:") { sha512(&manifest.bytes) } else { sha256(&manifest.bytes) };
    let put = client.put_manifest(repository, reference, &manifest.media_type, manifest.bytes.clone()).await;
    let put = expect(put, StatusCode::CREATED, reference).await;
    assert_eq!(header(&put, "docker-content-digest"), digest);
    assert_eq!(header(&put, "location"), format!("/v2/{repository}/manifests/{digest}"));
    for name in [reference, &digest] {
        let answer = expect(client.get_manifest(repository, name).await, StatusCode::OK, name).await;
        assert_eq!(header(&answer, "content-type"), manifest.media_type, "{name}");
        assert_eq!(header(&answer, "docker-content-digest"), digest, "{name}");
        assert_eq!(body(answer).await, manifest.bytes, "{name}");
    }
}

async fn the_exact_bytes_come_back_by_every_name(backend: Backend) {
    let client = shared_client(backend);
    let repository = "manifests/exact";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    let document = image_document(&image.config, &[&image.layer]);
    let pretty = serde_json::to_vec_pretty(&document).expect("a document is JSON");
    let odd = format!("\r\n\t {document}\n\n ").replace("application/vnd", "application\\/vnd");
    for bytes in [image.manifest.bytes.clone(), pretty, odd.into_bytes()] {
        let manifest = Blob::new(MANIFEST, bytes);
        for reference in ["v1", &"t".repeat(128), "_X.-y", &manifest.digest, &sha512(&manifest.bytes)] {
            assert_taken(&client, repository, reference, &manifest).await;
        }
    }
}

async fn a_content_type_may_have_parameters_or_say_nothing(backend: Backend) {
    let client = shared_client(backend);
    let repository = "manifests/content-type";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    let mut untyped = image_document(&image.config, &[&image.layer]);
    untyped.as_object_mut().expect("a manifest is an object").remove("mediaType");
    let untyped = Blob::of_json(MANIFEST, &untyped);
    let put = async |tag: &str, content_type: Option<&str>, manifest: &Blob| {
        let request = client.request(Method::PUT, &format!("/v2/{repository}/manifests/{tag}"));
        let request = match content_type {
            Some(content_type) => request.header("content-type", content_type),
            None => request,
        };
        expect(send(request.body(manifest.bytes.clone())).await, StatusCode::CREATED, &format!("{content_type:?}"))
            .await;
        let answer = client.get_manifest(repository, tag).await;
        assert_eq!(header(&answer, "content-type"), MANIFEST, "{content_type:?}");
    };
    let with_parameters = format!("{MANIFEST}; charset=utf-8");
    let tight = format!("{MANIFEST};x=y");
    for content_type in [None, Some(with_parameters.as_str()), Some(&tight), Some("application/json"), Some("")] {
        put("typed", content_type, &image.manifest).await;
    }
    for content_type in [None, Some(MANIFEST), Some(with_parameters.as_str()), Some("application/octet-stream")] {
        put("untyped", content_type, &untyped).await;
    }
}

/// A push by digest with so many tags, the target's query ready.
fn with_tags(digest: &str, tags: &[String]) -> String {
    format!("{digest}?tag={}", tags.join("&tag="))
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("tag-{number:02}")).collect()
}

async fn many_tags_come_with_one_push(backend: Backend) {
    let client = shared_client(backend);
    let image = SmallImage::new();
    for (count, digest) in
        [(1, image.manifest.digest.clone()), (10, sha512(&image.manifest.bytes)), (64, image.manifest.digest.clone())]
    {
        let repository = format!("manifests/tags-{count}");
        client.push_blob(&repository, &image.config).await;
        client.push_blob(&repository, &image.layer).await;
        let tags = numbered(count);
        let target = with_tags(&digest, &[tags.clone(), tags[..1].to_vec()].concat());
        let put = client.put_manifest(&repository, &target, MANIFEST, image.manifest.bytes.clone()).await;
        let put = expect(put, StatusCode::CREATED, "a push with tags").await;
        let answered: Vec<&str> =
            put.headers().get_all("oci-tag").iter().map(|tag| tag.to_str().expect("a tag is text")).collect();
        assert_eq!(answered, tags, "each tag once, though one came twice");
        assert_eq!(client.tags(&repository).await, tags);
        for tag in &tags {
            let answer = client.head(&format!("/v2/{repository}/manifests/{tag}")).await;
            assert_eq!(header(&answer, "docker-content-digest"), digest, "{tag}");
        }
    }
}

async fn more_tags_than_the_limit_are_refused(backend: Backend) {
    let client = shared_client(backend);
    let repository = "manifests/too-many-tags";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    for count in [65, 1000, 1100] {
        let target = with_tags(&image.manifest.digest, &numbered(count));
        let put = client.put_manifest(repository, &target, MANIFEST, image.manifest.bytes.clone()).await;
        assert_eq!(put.status(), 414, "{count}");
        assert!(!put.headers().contains_key("oci-tag"), "{count}");
    }
    for tag in ["", "..", "a%2Fb", "-a", "a%00", &"t".repeat(129)] {
        let target = format!("{}?tag=fine&tag={tag}", image.manifest.digest);
        let put = client.put_manifest(repository, &target, MANIFEST, image.manifest.bytes.clone()).await;
        assert_refused(put, 400, "MANIFEST_INVALID").await;
    }
    assert!(client.tags(repository).await.is_empty());
    assert_refused(client.get_manifest(repository, &image.manifest.digest).await, 404, "MANIFEST_UNKNOWN").await;
}

async fn a_tag_moves_to_what_is_pushed_last(backend: Backend) {
    let client = shared_client(backend);
    let repository = "manifests/moving";
    let first = SmallImage::pushed_to(&client, repository, "latest").await.manifest;
    let second = SmallImage::pushed_to(&client, repository, "latest").await.manifest;
    assert_eq!(client.manifest(repository, "latest").await, second.bytes);
    assert_eq!(client.manifest(repository, &first.digest).await, first.bytes, "it lost its tag and nothing else");
    client.push_manifest(repository, &format!("{}?tag=latest", first.digest), &first).await;
    assert_eq!(client.manifest(repository, "latest").await, first.bytes);
    assert_eq!(client.tags(repository).await, ["latest"]);
}

async fn every_kind_of_manifest_is_taken(backend: Backend) {
    let client = shared_client(backend);
    let repository = "manifests/kinds";
    let image = SmallImage::pushed_to(&client, repository, "image").await;
    let (config, layer) = (&image.config, &image.layer);
    let empty = Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    client.push_blob(repository, &empty).await;

    let docker = json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config.descriptor(), "layers": [layer.descriptor()],
    });
    let docker = Blob::of_json(DOCKER_MANIFEST, &docker);
    let list = json!({ "schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [docker.descriptor()] });
    let mut described = docker.descriptor();
    described["platform"] = json!({ "os": "linux", "architecture": "arm64", "os.features": ["a"], "variant": "v8" });
    let index =
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [described, image.manifest.descriptor()] });
    let index = Blob::of_json(INDEX, &index);
    let mut with_data = empty.descriptor();
    with_data["data"] = json!("e30=");
    let artifact = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example.sbom.v1",
        "config": with_data, "layers": [layer.descriptor()], "annotations": { "a": "ä\u{0}\n" },
    });
    let mut unknown = image_document(config, &[layer]);
    unknown["x-vendor"] = json!({ "deep": [{ "er": null }], "schemaVersion": 1 });
    unknown["config"]["mediaType"] = json!("application/vnd.helm.config.v1+json");
    let manifests = [
        docker,
        Blob::of_json(DOCKER_LIST, &list),
        index.clone(),
        index_of(&[&index]),
        index_of(&[]),
        image_manifest(&empty, &[]),
        image_manifest(&empty, &[&empty]),
        image_manifest(config, &[layer, layer]),
        Blob::of_json(MANIFEST, &artifact),
        Blob::of_json(MANIFEST, &unknown),
    ];
    for manifest in manifests {
        assert_taken(&client, repository, "kind", &manifest).await;
        assert_taken(&client, repository, &manifest.digest, &manifest).await;
        assert_taken(&client, repository, &sha512(&manifest.bytes), &manifest).await;
    }
    let mut by_sha512 = index_of(&[&image.manifest]);
    by_sha512.bytes = String::from_utf8(by_sha512.bytes)
        .expect("JSON is text")
        .replace(&image.manifest.digest, &sha512(&image.manifest.bytes))
        .into_bytes();
    client.push_manifest(repository, &sha512(&image.manifest.bytes), &image.manifest).await;
    assert_taken(&client, repository, "by-sha512", &by_sha512).await;
}

async fn an_index_of_blobs_is_taken(backend: Backend) {
    let client = shared_client(backend);
    let repository = "manifests/cache";
    // What BuildKit exports as a cache: layers, and a config of a type of its own.
    let layers = [Blob::random(10), Blob::random(20_000)];
    let config = Blob::of_json("application/vnd.buildkit.cacheconfig.v0", &json!({ "layers": [] }));
    let cache = index_of(&[&layers[0], &layers[1], &config]);
    for blob in layers.iter().chain([&config]) {
        client.push_blob(repository, blob).await;
    }
    assert_taken(&client, repository, "cache", &cache).await;
    let delete = client.delete(&format!("/v2/{repository}/blobs/{}", layers[0].digest)).await;
    assert_refused(delete, 405, "DENIED").await;
}

async fn layers_that_may_not_be_distributed_need_not_be_here(backend: Backend) {
    let client = shared_client(backend);
    let repository = "manifests/foreign";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    for media_type in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        let foreign = Blob { media_type: media_type.to_owned(), ..Blob::random(10) };
        let mut document = image_document(&image.config, &[&image.layer, &foreign]);
        let without_urls = Blob::of_json(MANIFEST, &document);
        let put = client.put_manifest(repository, "foreign", MANIFEST, without_urls.bytes).await;
        assert_refused(put, 404, "MANIFEST_BLOB_UNKNOWN").await;
        document["layers"][1]["urls"] = json!(["https://example.com/layer"]);
        assert_taken(&client, repository, "foreign", &Blob::of_json(MANIFEST, &document)).await;
    }
    // An ordinary layer does not become another one by a list of places.
    let ordinary = Blob { media_type: LAYER_GZIP.to_owned(), ..Blob::random(10) };
    let mut document = image_document(&image.config, &[&ordinary]);
    document["layers"][0]["urls"] = json!(["https://example.com/layer"]);
    let put = client.put_manifest(repository, "ordinary", MANIFEST, document.to_string()).await;
    assert_refused(put, 404, "MANIFEST_BLOB_UNKNOWN").await;
}

async fn missing_parts_are_named(backend: Backend) {
    let client = shared_client(backend);
    let repository = "manifests/missing";
    let image = SmallImage::pushed_to(&client, repository, "complete").await;
    let absent: Vec<Blob> = (0..7).map(|_| Blob::random(10)).collect();
    let refused = async |manifest: &Blob| {
        let put = client.put_manifest(repository, "incomplete", &manifest.media_type, manifest.bytes.clone()).await;
        let refusal = assert_refused(put, 404, "MANIFEST_BLOB_UNKNOWN").await;
        assert_refused(client.get_manifest(repository, "incomplete").await, 404, "MANIFEST_UNKNOWN").await;
        assert_refused(client.get_manifest(repository, &manifest.digest).await, 404, "MANIFEST_UNKNOWN").await;
        refusal
    };
    let digests = |blobs: &[Blob]| json!(blobs.iter().map(|blob| blob.digest.clone()).collect::<Vec<_>>());

    let one_layer = refused(&image_manifest(&image.config, &[&image.layer, &absent[0]])).await;
    assert_eq!(one_layer.detail["digests"], digests(&absent[..1]));
    assert!(one_layer.message.contains(&absent[0].digest), "{one_layer:?}");
    assert!(!one_layer.message.contains(&image.layer.digest), "{one_layer:?}");

    let config_and_layers = refused(&image_manifest(&absent[0], &[&absent[1], &image.layer, &absent[2]])).await;
    assert_eq!(config_and_layers.detail["digests"], digests(&absent[..3]));
    assert!(absent[..3].iter().all(|blob| config_and_layers.message.contains(&blob.digest)), "{config_and_layers:?}");

    let entries: Vec<&Blob> = absent.iter().chain([&image.manifest]).collect();
    let many = refused(&index_of(&entries)).await;
    assert_eq!(many.detail["digests"], digests(&absent), "the detail has all of them");
    assert!(many.message.contains("and 2 more"), "the message is cut: {many:?}");
}

async fn parts_of_another_repository_are_missing(backend: Backend) {
    let client = shared_client(backend);
    let image = SmallImage::pushed_to(&client, "manifests/rich", "latest").await;
    client.push_blob("manifests/poor", &Blob::random(1)).await;
    for manifest in [&image.manifest, &index_of(&[&image.manifest])] {
        let put = client.put_manifest("manifests/poor", "latest", &manifest.media_type, manifest.bytes.clone()).await;
        assert_refused(put, 404, "MANIFEST_BLOB_UNKNOWN").await;
    }
}

async fn missing_parts_are_taken_where_the_policy_allows_them(backend: Backend) {
    let server = Server::start(Options::on(backend).set("manifests.sparse_indexes", "allow"));
    let client = Client::new(server.url());
    let repository = "manifests/sparse";
    let image = SmallImage::new();
    let index = index_of(&[&image.manifest, &Blob { media_type: MANIFEST.to_owned(), ..Blob::random(10) }]);
    assert_taken(&client, repository, "index", &index).await;
    assert_taken(&client, repository, "image", &image.manifest).await;
    // What comes later belongs to it, and cannot be deleted under it.
    client.push_blob(repository, &image.layer).await;
    let delete = client.delete(&format!("/v2/{repository}/blobs/{}", image.layer.digest)).await;
    let refusal = assert_refused(delete, 405, "DENIED").await;
    assert_eq!(refusal.detail["manifest"], image.manifest.digest.as_str());
    let delete = client.delete(&format!("/v2/{repository}/manifests/{}", image.manifest.digest)).await;
    let refusal = assert_refused(delete, 405, "DENIED").await;
    assert_eq!(refusal.detail["index"], index.digest.as_str());
}

async fn a_subject_is_answered_and_need_not_be_here(backend: Backend) {
    let client = shared_client(backend);
    let repository = "manifests/subject";
    let image = SmallImage::pushed_to(&client, repository, "latest").await;
    let absent = Blob { media_type: MANIFEST.to_owned(), ..Blob::random(10) };
    let long = Blob { digest: sha512(&absent.bytes), ..absent.clone() };
    for subject in [&image.manifest, &absent, &long] {
        let mut document = image_document(&image.config, &[&image.layer]);
        document["subject"] = subject.descriptor();
        let referrer = Blob::of_json(MANIFEST, &document);
        let mut index: Value = serde_json::from_slice(&index_of(&[&image.manifest]).bytes).expect("an index is JSON");
        index["subject"] = subject.descriptor();
        for manifest in [referrer, Blob::of_json(INDEX, &index)] {
            let by_tags = format!("{}?tag=a&tag=b", manifest.digest);
            for reference in ["signed", &manifest.digest, &by_tags] {
                let put =
                    client.put_manifest(repository, reference, &manifest.media_type, manifest.bytes.clone()).await;
                let put = expect(put, StatusCode::CREATED, reference).await;
                assert_eq!(header(&put, "oci-subject"), subject.digest);
            }
        }
    }
    let without = client.put_manifest(repository, "latest", MANIFEST, image.manifest.bytes.clone()).await;
    assert!(!without.headers().contains_key("oci-subject"));
}

async fn the_largest_manifest_is_taken(backend: Backend) {
    let client = shared_client(backend);
    let repository = "manifests/largest";
    let image = SmallImage::with_blobs_in(&client, repository).await;
    let mut document = image_document(&image.config, &[&image.layer]);
    document["annotations"] = json!({ "padding": "" });
    let padding = 4 * MIB - document.to_string().len();
    document["annotations"]["padding"] = json!("x".repeat(padding));
    let manifest = Blob::of_json(MANIFEST, &document);
    assert_eq!(manifest.bytes.len(), 4 * MIB);
    assert_taken(&client, repository, "largest", &manifest).await;
    assert_taken(&client, repository, &sha512(&manifest.bytes), &manifest).await;

    document["annotations"]["padding"] = json!("x".repeat(padding + 1));
    let put = client.put_manifest(repository, "larger", MANIFEST, document.to_string()).await;
    let refusal = assert_refused(put, 413, "MANIFEST_INVALID").await;
    assert!(refusal.message.contains(&(4 * MIB).to_string()), "{refusal:?}");
}
