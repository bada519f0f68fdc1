//! helm: a chart pushed and pulled, with a version whose `+` a tag cannot hold.

use std::fs;

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::on_both;
use longshore_tests::programs::run;
use longshore_tests::server::{Options, Server};

use crate::home::Home;

on_both!(pushes_shows_and_pulls_a_chart);

async fn pushes_shows_and_pulls_a_chart(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let (home, client) = (Home::new("helm"), Client::new(server.url()));
    write_chart(&home);
    let repository = format!("oci://{}/charts", server.address());
    let helm = |arguments: &[&str]| run(home.command("helm").args(arguments));

    helm(&["package", "harbour"]);
    helm(&["push", "--plain-http", "harbour-1.2.3+build.7.tgz", &repository]);
    assert_eq!(client.tags("charts/harbour").await, ["1.2.3_build.7"]);

    let chart = format!("{repository}/harbour");
    let shown = helm(&["show", "chart", "--plain-http", &chart, "--version", "1.2.3+build.7"]);
    assert!(shown.contains("description: quays and cranes"), "{shown}");
    home.directory("pulled");
    helm(&["pull", "--plain-http", &chart, "--version", "1.2.3+build.7", "--destination", "pulled"]);
    assert!(
        home.read("pulled/harbour-1.2.3+build.7.tgz") == home.read("harbour-1.2.3+build.7.tgz"),
        "the chart differs"
    );
    let rendered = helm(&["template", "release", "--plain-http", &chart, "--version", "1.2.3+build.7"]);
    assert!(rendered.contains("berths: \"12\""), "{rendered}");
}

fn write_chart(home: &Home) {
    let templates = home.directory("harbour/templates");
    home.write(
        "harbour/Chart.yaml",
        "apiVersion: v2\nname: harbour\nversion: 1.2.3+build.7\ndescription: quays and cranes\n",
    );
    home.write("harbour/values.yaml", "berths: 12\n");
    let template =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: harbour\ndata:\n  berths: {{ .Values.berths | quote }}\n";
    fs::write(templates.join("configmap.yaml"), template).expect("the home is this test's own");
}
