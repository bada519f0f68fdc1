//! crane, and with it what is built on go-containerregistry: ko, kaniko, Flux.

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::Image;
use longshore_tests::on_both;
use longshore_tests::programs::{run, run_refused};
use longshore_tests::server::{Options, Server};

use crate::MIB;
use crate::home::Home;

on_both!(pushes_copies_lists_pulls_and_deletes);

async fn pushes_copies_lists_pulls_and_deletes(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let (home, client, image) = (Home::new("crane"), Client::new(server.url()), Image::random(8 * MIB));
    image.write_layout(&home.directory("layout"), "1");
    let (a, b) = (format!("{}/crane/a", server.address()), format!("{}/crane/b", server.address()));
    let crane = |arguments: &[&str]| run(home.command("crane").args(arguments));

    crane(&["push", "layout", &format!("{a}:1")]);
    client.assert_serves("crane/a", "1", &image).await;
    assert_eq!(crane(&["digest", &format!("{a}:1")]).trim(), image.manifest.digest);
    crane(&["validate", "--remote", &format!("{a}:1")]);

    crane(&["copy", &format!("{a}:1"), &format!("{b}:latest")]);
    client.assert_serves("crane/b", "latest", &image).await;
    crane(&["tag", &format!("{b}:latest"), "stable"]);
    assert_eq!(crane(&["ls", &b]), "latest\nstable\n");
    assert_eq!(crane(&["catalog", server.address()]), "crane/a\ncrane/b\n");
    assert_eq!(crane(&["manifest", &format!("{b}:stable")]).trim().as_bytes(), image.manifest.bytes);

    crane(&["pull", "--format", "oci", &format!("{b}@{}", image.manifest.digest), "pulled"]);
    image.assert_in_layout(&home.join("pulled"));

    crane(&["delete", &format!("{b}@{}", image.manifest.digest)]);
    run_refused(home.command("crane").args(["manifest", &format!("{b}:stable")]));
    client.assert_serves("crane/a", "1", &image).await;
}
