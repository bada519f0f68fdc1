//! Pushes that are cut off in the middle: by the client's death, by the server's.
//!
//! A proxy holds the upload at a byte, so that "in the middle" is certain. Nothing half-pushed may be served, and the
//! same push must work when it is repeated.

use std::process::{Command, Stdio};

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::{Image, sha256};
use longshore_tests::on_both;
use longshore_tests::programs::run;
use longshore_tests::proxy::Proxy;
use longshore_tests::server::{Options, Server};
use reqwest::StatusCode;

use crate::MIB;
use crate::engine::Engine;
use crate::home::Home;

on_both!(
    docker_push_is_repeated_after_the_client_was_killed,
    docker_push_is_repeated_after_the_server_was_killed,
    skopeo_push_is_repeated_after_the_client_was_killed,
    skopeo_push_is_repeated_after_the_server_was_killed,
);

/// How much of a push of [`PAYLOAD`] bytes gets through before it is cut off.
const CUT_AT: usize = 6 * MIB;
const PAYLOAD: usize = 16 * MIB;

async fn docker_push_is_repeated_after_the_client_was_killed(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let proxy = Proxy::in_front_of(server.address());
    let (engine, client) = (Engine::start(), Client::new(server.url()));
    let name = format!("{}/interrupted/image:1", proxy.address());
    let prints = engine.build(&name, PAYLOAD);

    kill_client_in_the_middle(&mut engine.command(["push", &name]), &proxy, &client).await;
    proxy.release();

    engine.docker(["push", &name]);
    assert_pulls_whole(&engine, &client, &name, &prints).await;
}

async fn docker_push_is_repeated_after_the_server_was_killed(backend: Backend) {
    let mut server = Server::start(Options::on(backend));
    let proxy = Proxy::in_front_of(server.address());
    let (engine, client) = (Engine::start(), Client::new(server.url()));
    let name = format!("{}/interrupted/image:1", proxy.address());
    let prints = engine.build(&name, PAYLOAD);

    kill_server_in_the_middle(&mut engine.command(["push", &name]), &proxy, &mut server);

    engine.docker(["push", &name]);
    assert_pulls_whole(&engine, &client, &name, &prints).await;
}

async fn skopeo_push_is_repeated_after_the_client_was_killed(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let proxy = Proxy::in_front_of(server.address());
    let (home, client, image) = (Home::new("skopeo"), Client::new(server.url()), Image::random(PAYLOAD));
    image.write_layout(&home.directory("layout"), "1");

    kill_client_in_the_middle(&mut skopeo_push(&home, &proxy), &proxy, &client).await;
    proxy.release();

    run(&mut skopeo_push(&home, &proxy));
    client.assert_serves("interrupted/image", "1", &image).await;
}

async fn skopeo_push_is_repeated_after_the_server_was_killed(backend: Backend) {
    let mut server = Server::start(Options::on(backend));
    let proxy = Proxy::in_front_of(server.address());
    let (home, client, image) = (Home::new("skopeo"), Client::new(server.url()), Image::random(PAYLOAD));
    image.write_layout(&home.directory("layout"), "1");

    kill_server_in_the_middle(&mut skopeo_push(&home, &proxy), &proxy, &mut server);

    run(&mut skopeo_push(&home, &proxy));
    client.assert_serves("interrupted/image", "1", &image).await;
}

fn skopeo_push(home: &Home, proxy: &Proxy) -> Command {
    let mut command = home.command("skopeo");
    command.args(["--insecure-policy", "copy", "--dest-tls-verify=false", "--preserve-digests", "oci:layout:1"]);
    command.arg(format!("docker://{}/interrupted/image:1", proxy.address()));
    command
}

/// Kills the client while the proxy holds its push; nothing of the image may be served then.
async fn kill_client_in_the_middle(push: &mut Command, proxy: &Proxy, client: &Client) {
    proxy.hold_after(CUT_AT);
    let mut pushing = push.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the client starts");
    proxy.wait_until_held();
    pushing.kill().expect("a child can be killed");
    pushing.wait().expect("a child can be waited for");
    let answer = client.get_manifest("interrupted/image", "1").await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND, "the manifest is served before its push ended");
}

/// Kills the server while the proxy holds the push, and starts it again. The client may then give up or try again by
/// itself; either is right, so only its end is waited for.
fn kill_server_in_the_middle(push: &mut Command, proxy: &Proxy, server: &mut Server) {
    proxy.hold_after(CUT_AT);
    let mut pushing = push.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the client starts");
    proxy.wait_until_held();
    server.kill9();
    server.restart();
    proxy.release();
    pushing.wait().expect("a child can be waited for");
}

async fn assert_pulls_whole(engine: &Engine, client: &Client, name: &str, prints: &str) {
    let pushed = engine.digest_of(name);
    assert_eq!(sha256(&client.manifest("interrupted/image", "1").await), pushed);
    engine.wipe();
    engine.docker(["pull", name]);
    assert_eq!(engine.digest_of(name), pushed);
    assert_eq!(engine.output_of(name), prints);
}
