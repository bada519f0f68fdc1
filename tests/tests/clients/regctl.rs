//! regctl: copies, uploads in chunks with `Content-Range`, lists tags and artifacts.

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::{Image, random_bytes, sha256};
use longshore_tests::on_both;
use longshore_tests::programs::run;
use longshore_tests::proxy::Proxy;
use longshore_tests::server::{Options, Server};
use serde_json::Value;

use crate::MIB;
use crate::home::Home;

on_both!(copies_in_chunks_and_lists, lists_artifacts);

async fn copies_in_chunks_and_lists(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let proxy = Proxy::in_front_of(server.address());
    let (home, client, image) = (Home::new("regctl"), Client::new(server.url()), Image::random(8 * MIB));
    image.write_layout(&home.directory("layout"), "1");
    let chunk = MIB.to_string();
    let regctl = |arguments: &[&str]| run(home.command("regctl").args(arguments));
    regctl(&[
        "registry",
        "set",
        "--skip-check",
        "--tls",
        "disabled",
        "--blob-chunk",
        &chunk,
        "--blob-max",
        &chunk,
        proxy.address(),
    ]);
    let (a, b) = (format!("{}/regctl/a", proxy.address()), format!("{}/regctl/b", proxy.address()));

    regctl(&["image", "copy", "ocidir://layout:1", &format!("{a}:1")]);
    client.assert_serves("regctl/a", "1", &image).await;
    let requests = proxy.requests();
    let in_chunks = requests.iter().filter(|request| request.to_ascii_lowercase().contains("content-range:")).count();
    assert!(in_chunks >= 8, "{in_chunks} requests with Content-Range of the 8 MiB in {requests:#?}");

    regctl(&["image", "copy", &format!("{a}:1"), &format!("{b}:1")]);
    regctl(&["image", "copy", &format!("{a}:1"), &format!("{b}:2")]);
    client.assert_serves("regctl/b", "2", &image).await;
    assert_eq!(regctl(&["tag", "ls", &b]), "1\n2\n");
    assert_eq!(regctl(&["image", "digest", &format!("{b}:2")]).trim(), image.manifest.digest);

    regctl(&["tag", "delete", &format!("{b}:1")]);
    assert_eq!(regctl(&["tag", "ls", &b]), "2\n");

    regctl(&["image", "copy", &format!("{b}:2"), "ocidir://back:1"]);
    image.assert_in_layout(&home.join("back"));
}

async fn lists_artifacts(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let (home, client, image) = (Home::new("regctl"), Client::new(server.url()), Image::random(MIB));
    client.push_image("regctl/subject", "1", &image).await;
    let name = format!("{}/regctl/subject:1", server.address());
    let regctl = |arguments: &[&str]| run(home.command("regctl").args(arguments));
    regctl(&["registry", "set", "--skip-check", "--tls", "disabled", server.address()]);
    let content = random_bytes(1000);
    home.write("evidence", &content);

    regctl(&[
        "artifact",
        "put",
        "--artifact-type",
        "application/vnd.example.evidence",
        "--subject",
        &name,
        "--file",
        "evidence",
    ]);
    let listed = regctl(&["artifact", "list", "--format", "{{json .}}", &name]);
    let listed: Value = serde_json::from_str(&listed).expect("regctl prints JSON");
    let descriptors = listed["descriptors"].as_array().unwrap_or_else(|| panic!("no descriptors in {listed:#}"));
    assert_eq!(descriptors.len(), 1, "{listed:#}");
    assert_eq!(descriptors[0]["artifactType"], "application/vnd.example.evidence");

    let mut get = home.command("regctl");
    get.args(["artifact", "get", "--subject", &name, "--filter-artifact-type", "application/vnd.example.evidence"]);
    let got = get.output().expect("regctl starts");
    assert_eq!(sha256(&got.stdout), sha256(&content), "{}", String::from_utf8_lossy(&got.stderr));
}
