//! Users and passwords from an htpasswd file: who has logged in may push and pull, nobody else may do anything.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::Image;
use longshore_tests::on_both;
use longshore_tests::programs::{run, run_refused};
use longshore_tests::server::{Options, Server};

use crate::MIB;
use crate::engine::Engine;
use crate::home::Home;

on_both!(docker_logs_in, skopeo_brings_credentials, crane_logs_in_and_helm_too);

pub(crate) const USER: &str = "harriet";
pub(crate) const PASSWORD: &str = "correct horse: battery";

/// A server whose htpasswd file names one user. The home must outlive the server.
fn start_server(backend: Backend, home: &Home) -> Server {
    Server::start(Options::on(backend).set("auth.htpasswd", &write_users(home).display().to_string()))
}

/// Writes the htpasswd file of [`USER`].
pub(crate) fn write_users(home: &Home) -> PathBuf {
    // The lowest cost that bcrypt has: these tests are about who gets in, not how slowly.
    let hash = bcrypt::hash(PASSWORD, 4).expect("the password is short");
    home.write("htpasswd", format!("{USER}:{hash}\n"))
}

async fn docker_logs_in(backend: Backend) {
    let home = Home::new("htpasswd");
    let server = start_server(backend, &home);
    let engine = Engine::start();
    let name = format!("{}/private/docker:1", server.address());
    let prints = engine.build(&name, MIB);
    let login = |password: &str| {
        log_in(&mut engine.command(["login", "-u", USER, "--password-stdin", server.address()]), password)
    };

    run_refused(&mut engine.command(["push", &name]));
    let refusal = login("wrong").expect_err("a wrong password is let in");
    assert!(refusal.contains("401") || refusal.to_lowercase().contains("unauthorized"), "{refusal}");
    run_refused(&mut engine.command(["push", &name]));

    login(PASSWORD).expect("the right password is let in");
    engine.docker(["push", &name]);
    let pushed = engine.digest_of(&name);
    engine.wipe();
    engine.docker(["pull", &name]);
    assert_eq!(engine.digest_of(&name), pushed);
    assert_eq!(engine.output_of(&name), prints);

    engine.docker(["logout", server.address()]);
    engine.wipe();
    run_refused(&mut engine.command(["pull", &name]));
}

async fn skopeo_brings_credentials(backend: Backend) {
    let home = Home::new("skopeo");
    let server = start_server(backend, &home);
    let image = Image::random(MIB);
    image.write_layout(&home.directory("layout"), "1");
    let remote = format!("docker://{}/private/skopeo:1", server.address());
    let push = |credentials: &[&str]| {
        let mut command = home.command("skopeo");
        command.args(["--insecure-policy", "copy", "--dest-tls-verify=false", "--preserve-digests"]);
        command.args(credentials).args(["oci:layout:1", &remote]);
        command
    };

    run_refused(&mut push(&[]));
    run_refused(&mut push(&["--dest-creds", &format!("{USER}:wrong")]));
    run_refused(&mut push(&["--dest-creds", &format!("nobody:{PASSWORD}")]));
    let anonymous = Client::new(server.url());
    assert_eq!(anonymous.get_manifest("private/skopeo", "1").await.status(), 401);

    run(&mut push(&["--dest-creds", &format!("{USER}:{PASSWORD}")]));
    anonymous.with_basic(USER, PASSWORD).assert_serves("private/skopeo", "1", &image).await;
}

async fn crane_logs_in_and_helm_too(backend: Backend) {
    let home = Home::new("crane");
    let server = start_server(backend, &home);
    let image = Image::random(MIB);
    image.write_layout(&home.directory("layout"), "1");
    let name = format!("{}/private/crane:1", server.address());

    run_refused(home.command("crane").args(["push", "layout", &name]));
    run(home.command("crane").args(["auth", "login", server.address(), "-u", USER, "-p", PASSWORD]));
    run(home.command("crane").args(["push", "layout", &name]));
    run(home.command("crane").args(["pull", "--format", "oci", &name, "pulled"]));
    image.assert_in_layout(&home.join("pulled"));

    let helm_login = |password: &str| {
        let mut command = home.command("helm");
        command.args(["registry", "login", "--plain-http", server.address(), "-u", USER, "--password-stdin"]);
        log_in(&mut command, password)
    };
    helm_login("wrong").expect_err("a wrong password is let in");
    helm_login(PASSWORD).expect("the right password is let in");
}

/// Gives `password` to a login command on its standard input; an error is what the client said.
pub(crate) fn log_in(command: &mut Command, password: &str) -> Result<(), String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the client starts");
    let mut input = child.stdin.take().expect("it was spawned with a pipe");
    input.write_all(password.as_bytes()).expect("the client reads the password");
    drop(input);
    let output = child.wait_with_output().expect("a child can be waited for");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
