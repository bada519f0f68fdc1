//! `longshore health`, which a container's runtime asks whether the server in it is well.

use std::fs;

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::on_both;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};

use crate::answers::eventually;
use crate::commands::run;
use crate::protocols::{install_certificate, make_certificate, start_with_tls};

on_both!(
    a_server_that_is_ready_is_healthy_and_one_that_is_gone_is_not,
    a_server_that_is_not_ready_says_why,
    a_server_that_speaks_tls_is_asked_by_tls,
);

/// The exit code, and what is said.
fn health(settings: &[(&str, &str)]) -> (i32, String) {
    let home = Scratch::new("health");
    let settings: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let flags = settings.iter().flat_map(|setting| ["--set", setting.as_str()]);
    let arguments: Vec<&str> = ["health"].into_iter().chain(flags).collect();
    let (code, said, complaint) = run(home.path(), &arguments);
    assert_eq!(said.is_empty(), code != 0, "{said}");
    (code, said + &complaint)
}

fn assert_unhealthy(settings: &[(&str, &str)], why: &str) {
    let (code, said) = health(settings);
    assert_eq!(code, 1, "{said}");
    assert!(said.starts_with("longshore: ") && said.contains(why), "{said}");
}

async fn a_server_that_is_ready_is_healthy_and_one_that_is_gone_is_not(backend: Backend) {
    let mut server = Server::start(Options::on(backend));
    let ready = (0, "ready\n".to_owned());
    assert_eq!(health(&[("http.address", server.address())]), ready);
    let port = server.address().rsplit_once(':').expect("an address has a port").1;
    let everywhere = format!("0.0.0.0:{port}");
    assert_eq!(health(&[("http.address", &everywhere), ("auth.open", "true")]), ready);
    // Whoever serves metrics elsewhere is asked there.
    assert_eq!(health(&[("metrics.address", server.address())]), ready);
    let address = server.address().to_owned();
    server.kill9();
    assert_unhealthy(&[("http.address", &address)], "cannot be reached");
    assert_unhealthy(&[("http.address", "127.0.0.1:0")], "has chosen its port itself");
}

async fn a_server_that_is_not_ready_says_why(backend: Backend) {
    let mut server = Server::start(Options::on(backend).set("http.drain_delay", "5s"));
    let data = server.storage_directory();
    let elsewhere = data.with_extension("away");
    fs::rename(&data, &elsewhere).expect("the directory is this test's own");
    assert_unhealthy(&[("http.address", server.address())], "is not ready: storage failed");
    fs::rename(&elsewhere, &data).expect("the directory is this test's own");
    server.signal("TERM");
    let client = Client::new(server.url());
    eventually("draining", || async { (client.get("/readyz").await.status() == 503).then_some(()) }).await;
    assert_unhealthy(&[("http.address", server.address())], "is not ready: draining");
    assert!(server.terminate().success());
}

async fn a_server_that_speaks_tls_is_asked_by_tls(backend: Backend) {
    let directory = Scratch::new("health-tls");
    make_certificate(&directory, "nobody-knows-it");
    install_certificate(&directory, "nobody-knows-it");
    let server = start_with_tls(backend, &directory);
    let path = |name: &str| directory.join(name).display().to_string();
    let tls = [("http.tls.certificate", path("server.crt")), ("http.tls.key", path("server.key"))];
    let [certificate, key] = tls.each_ref().map(|(name, path)| (*name, path.as_str()));
    let address = ("http.address", server.address());
    assert_eq!(health(&[address, certificate, key]), (0, "ready\n".to_owned()));
    assert_unhealthy(&[address], "is not ready: it does not speak HTTP");
    let plain = Server::start(Options::on(backend));
    assert_unhealthy(&[("http.address", plain.address()), certificate, key], "does not speak TLS");
}
