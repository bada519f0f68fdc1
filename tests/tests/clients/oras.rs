//! oras: artifacts that are no images, attached to one another.

use longshore_tests::backends::Backend;
use longshore_tests::image::random_bytes;
use longshore_tests::on_both;
use longshore_tests::programs::run;
use longshore_tests::server::{Options, Server};
use serde_json::Value;

use crate::MIB;
use crate::home::Home;

on_both!(pushes_attaches_discovers_copies_and_pulls);

async fn pushes_attaches_discovers_copies_and_pulls(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let home = Home::new("oras");
    let (model, bill) = (random_bytes(3 * MIB), br#"{"components":[]}"#);
    home.write("model.bin", &model);
    home.write("sbom.json", bill);
    let (source, copy) = (format!("{}/oras/model:1", server.address()), format!("{}/oras/copy:1", server.address()));
    let oras = |arguments: &[&str]| run(home.command("oras").args(arguments));

    oras(&[
        "push",
        "--plain-http",
        "--artifact-type",
        "application/vnd.example.model",
        &source,
        "model.bin:application/octet-stream",
    ]);
    oras(&[
        "attach",
        "--plain-http",
        "--artifact-type",
        "application/vnd.example.sbom",
        &source,
        "sbom.json:application/json",
    ]);
    oras(&[
        "attach",
        "--plain-http",
        "--artifact-type",
        "application/vnd.example.note",
        &source,
        "--annotation",
        "note=checked",
    ]);

    let all = discover(&home, &source, &[]);
    assert_eq!(all.len(), 2, "{all:#?}");
    let bills = discover(&home, &source, &["--artifact-type", "application/vnd.example.sbom"]);
    assert_eq!(bills.len(), 1, "{bills:#?}");
    assert_eq!(bills[0]["artifactType"], "application/vnd.example.sbom");

    // A recursive copy takes the referrers along: what is found at the copy is what was attached to the source.
    oras(&["copy", "--recursive", "--from-plain-http", "--to-plain-http", &source, &copy]);
    let digests = |found: &[Value]| {
        let mut digests: Vec<String> = found.iter().map(|each| each["digest"].to_string()).collect();
        digests.sort();
        digests
    };
    let copied = discover(&home, &copy, &[]);
    assert_eq!(digests(&copied), digests(&all));

    oras(&["pull", "--plain-http", "--output", "model", &copy]);
    assert!(home.read("model/model.bin") == model, "the model differs");
    let bill_of_copy = bills[0]["digest"].as_str().expect("a descriptor has a digest");
    let bill_of_copy = format!("{}/oras/copy@{bill_of_copy}", server.address());
    oras(&["pull", "--plain-http", "--output", "sbom", &bill_of_copy]);
    assert_eq!(home.read("sbom/sbom.json"), bill);
}

fn discover(home: &Home, name: &str, filter: &[&str]) -> Vec<Value> {
    let mut oras = home.command("oras");
    let found = run(oras.args(["discover", "--plain-http", "--format", "json"]).args(filter).arg(name));
    let found: Value = serde_json::from_str(&found).expect("oras prints JSON");
    let list = found["referrers"].as_array().unwrap_or_else(|| panic!("no referrers in {found:#}"));
    list.clone()
}
