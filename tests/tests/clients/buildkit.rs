//! BuildKit's registry cache: an index whose children are blobs and not manifests.

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, expect};
use longshore_tests::image::{Blob, INDEX, LAYER_GZIP, random_bytes};
use longshore_tests::on_both;
use longshore_tests::server::{Options, Server};
use reqwest::StatusCode;
use serde_json::json;

use crate::MIB;

on_both!(a_cache_export_is_kept_and_imported);

const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// The requests of `--cache-to type=registry,image-manifest=false` and of the `--cache-from` after it.
async fn a_cache_export_is_kept_and_imported(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    let layers = [MIB, 10, 2 * MIB].map(|length| Blob::new(LAYER_GZIP, random_bytes(length)));
    let records = json!({ "layers": layers.iter().map(|layer| json!({ "blob": layer.digest })).collect::<Vec<_>>(), "records": [] });
    let config = Blob::of_json(CACHE_CONFIG, &records);
    let children: Vec<_> = layers.iter().chain([&config]).map(Blob::descriptor).collect();
    let index = Blob::of_json(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children }));

    for blob in layers.iter().chain([&config]) {
        client.push_blob("cache/app", blob).await;
    }
    client.push_manifest("cache/app", "buildcache", &index).await;

    let served = client.get_manifest("cache/app", "buildcache").await;
    let served = expect(served, StatusCode::OK, "the cache index").await;
    assert_eq!(served.headers()["content-type"], INDEX);
    assert_eq!(served.headers()["docker-content-digest"], index.digest.as_str());
    assert_eq!(client.manifest("cache/app", &index.digest).await, index.bytes);
    for blob in layers.iter().chain([&config]) {
        assert!(client.blob("cache/app", &blob.digest).await == blob.bytes, "{} differs", blob.digest);
    }
}
