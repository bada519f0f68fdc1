//! skopeo: copies in, out, and between repositories, and recompresses on the way.

use std::fs;

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::{Image, sha256};
use longshore_tests::on_both;
use longshore_tests::programs::run;
use longshore_tests::server::{Options, Server};
use serde_json::Value;

use crate::MIB;
use crate::home::Home;

on_both!(copies_in_across_and_out, recompresses_on_the_way_in);

async fn copies_in_across_and_out(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let (home, client, image) = (Home::new("skopeo"), Client::new(server.url()), Image::random(8 * MIB));
    image.write_layout(&home.directory("layout"), "1");
    let (here, there) =
        (format!("docker://{}/skopeo/a:1", server.address()), format!("docker://{}/skopeo/b/c:2", server.address()));

    copy(&home, &["--preserve-digests"], "oci:layout:1", &here);
    client.assert_serves("skopeo/a", "1", &image).await;

    copy(&home, &["--preserve-digests"], &here, &there);
    client.assert_serves("skopeo/b/c", "2", &image).await;

    copy(&home, &["--preserve-digests"], &there, "oci:back:1");
    image.assert_in_layout(&home.join("back"));

    let inspected = run(home.command("skopeo").args(["inspect", "--tls-verify=false", &there]));
    let inspected: Value = serde_json::from_str(&inspected).expect("skopeo prints JSON");
    assert_eq!(inspected["Digest"], image.manifest.digest);
    assert_eq!(inspected["RepoTags"], serde_json::json!(["2"]));
    assert_eq!(inspected["Labels"]["made-by"], "longshore-tests");

    run(home.command("skopeo").args(["delete", "--tls-verify=false", &there]));
    assert_eq!(client.get_manifest("skopeo/b/c", "2").await.status(), 404);
    client.assert_serves("skopeo/a", "1", &image).await;
}

async fn recompresses_on_the_way_in(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let (home, client, image) = (Home::new("skopeo"), Client::new(server.url()), Image::random(MIB));
    image.write_layout(&home.directory("layout"), "1");
    for format in ["gzip", "zstd", "zstd:chunked"] {
        let tag = format.replace(':', "-");
        let remote = format!("docker://{}/skopeo/compressed:{tag}", server.address());
        copy(&home, &["--dest-compress-format", format, "--dest-compress"], "oci:layout:1", &remote);
        let served = client.manifest("skopeo/compressed", &tag).await;

        // `dir:` keeps the manifest and the layers exactly as they were served.
        copy(&home, &[], &remote, &format!("dir:{tag}"));
        let directory = home.join(&tag);
        assert!(fs::read(directory.join("manifest.json")).expect("skopeo has written it") == served);
        let manifest: Value = serde_json::from_slice(&served).expect("a manifest is JSON");
        for layer in manifest["layers"].as_array().expect("an image manifest has layers") {
            let digest = layer["digest"].as_str().expect("a descriptor has a digest");
            let pulled = fs::read(directory.join(digest.trim_start_matches("sha256:"))).expect("skopeo has written it");
            assert_eq!(sha256(&pulled), digest);
            assert!(pulled == client.blob("skopeo/compressed", digest).await);
        }
    }
}

fn copy(home: &Home, flags: &[&str], from: &str, to: &str) {
    let mut command = home.command("skopeo");
    command.args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    run(command.args(flags).args([from, to]));
}
