//! Docker: `docker build`, `push`, `pull`, `run` with an engine of its own.

use std::process::{Child, Stdio};

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::{Image, sha256};
use longshore_tests::on_both;
use longshore_tests::server::{Options, Server};

use crate::MIB;
use crate::engine::Engine;

on_both!(builds_pushes_pulls_and_runs, pulls_twenty_images_at_a_time);

async fn builds_pushes_pulls_and_runs(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let (engine, client) = (Engine::start(), Client::new(server.url()));
    let name = format!("{}/docker/built:1", server.address());
    let prints = engine.build(&name, 8 * MIB);

    engine.docker(["push", &name]);
    let pushed = engine.digest_of(&name);
    assert_eq!(sha256(&client.manifest("docker/built", "1").await), pushed);

    engine.wipe();
    engine.docker(["pull", &name]);
    assert_eq!(engine.digest_of(&name), pushed);
    assert_eq!(engine.output_of(&name), prints);

    // Again by digest, and to a second repository, whose layers docker mounts from the first.
    engine.wipe();
    engine.docker(["pull", &format!("{}/docker/built@{pushed}", server.address())]);
    let copy = format!("{}/docker/copy:1", server.address());
    engine.docker(["tag", &format!("{}/docker/built@{pushed}", server.address()), &copy]);
    engine.docker(["push", &copy]);
    assert_eq!(sha256(&client.manifest("docker/copy", "1").await), pushed);
    engine.wipe();
    engine.docker(["pull", &copy]);
    assert_eq!(engine.output_of(&copy), prints);
}

async fn pulls_twenty_images_at_a_time(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let (engine, client) = (Engine::start(), Client::new(server.url()));
    let mut images = Vec::new();
    for number in 0..20 {
        let image = Image::random(MIB);
        client.push_image("docker/parallel", &number.to_string(), &image).await;
        images.push((format!("{}/docker/parallel:{number}", server.address()), image));
    }

    let pull = |name: &str| engine.command(["pull", name]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let pulls: Vec<Child> = images.iter().map(|(name, _)| pull(name).expect("docker starts")).collect();
    for pull in pulls {
        let ended = pull.wait_with_output().expect("a child can be waited for");
        assert!(ended.status.success(), "docker pull: {}", String::from_utf8_lossy(&ended.stderr));
    }
    for (name, image) in &images {
        assert_eq!(engine.digest_of(name), image.manifest.digest, "{name}");
    }
    let (name, image) = &images[13];
    assert_eq!(engine.output_of(name), image.prints);
}
