//! containerd: pulls and pushes with `ctr` and a daemon of its own, also as a mirror that is asked for another host.

use std::fs;
use std::process::{Command, Stdio};

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::Image;
use longshore_tests::on_both;
use longshore_tests::programs::{program, require_root, run};
use longshore_tests::proxy::Proxy;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};
use longshore_tests::service::Service;

use crate::MIB;
use crate::home::Home;

on_both!(pulls_runs_and_pushes, pulls_as_a_mirror_of_another_host);

async fn pulls_runs_and_pushes(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let (client, image, containerd) = (Client::new(server.url()), Image::random(8 * MIB), Containerd::start());
    client.push_image("containerd/image", "1", &image).await;
    let name = format!("{}/containerd/image:1", server.address());

    run(containerd.ctr().args(["images", "pull", "--plain-http", "--snapshotter", "overlayfs", &name]));
    containerd.assert_holds(&image);
    assert_eq!(containerd.output_of(&name), image.prints);

    let copy = format!("{}/containerd/copy:1", server.address());
    run(containerd.ctr().args(["images", "tag", &name, &copy]));
    run(containerd.ctr().args(["images", "push", "--plain-http", &copy]));
    client.assert_serves("containerd/copy", "1", &image).await;
}

/// With a `hosts.toml` containerd asks the mirror for `library/hello` of `docker.io` by the query `ns`.
async fn pulls_as_a_mirror_of_another_host(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let proxy = Proxy::in_front_of(server.address());
    let (client, image, containerd) = (Client::new(server.url()), Image::random(MIB), Containerd::start());
    client.push_image("library/hello", "1", &image).await;
    let hosts = containerd.home.directory("hosts");
    let settings = format!(
        "server = \"http://{0}\"\n[host.\"http://{0}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        proxy.address()
    );
    fs::write(containerd.home.directory("hosts/docker.io").join("hosts.toml"), settings).expect("the home is ours");

    let mut pull = containerd.ctr();
    pull.args(["images", "pull", "--snapshotter", "overlayfs", "--hosts-dir"]).arg(hosts);
    run(pull.arg("docker.io/library/hello:1"));
    containerd.assert_holds(&image);
    let requests = proxy.requests();
    assert!(requests.iter().any(|request| request.contains("ns=docker.io")), "no ns=docker.io in {requests:#?}");
}

/// A containerd without its Kubernetes part, with a socket and a store of its own.
pub(crate) struct Containerd {
    // In the order of their end: the daemon first, then what it stood on.
    _daemon: Service,
    runtime: Scratch,
    home: Home,
}

impl Containerd {
    pub(crate) fn start() -> Self {
        require_root("containerd");
        let (home, runtime) = (Home::new("containerd"), Scratch::short("longshore-containerd"));
        let socket = runtime.join("containerd.sock");
        let settings = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n",
            home.directory("root").display(),
            runtime.join("state").display(),
            socket.display(),
        );
        let settings = home.write("containerd.toml", settings);
        let mut command = program("containerd");
        command.arg("--config").arg(settings).stdout(Stdio::null());
        let mut daemon = Service::start("containerd", &mut command, &home.join("containerd.log"), "TERM");
        let mut probe = program("ctr");
        probe.arg("--address").arg(&socket).args(["--connect-timeout", "1s", "version"]);
        probe.stdout(Stdio::null()).stderr(Stdio::null());
        daemon.wait_until("ready", || probe.status().is_ok_and(|status| status.success()).then_some(()));
        Self { _daemon: daemon, runtime, home }
    }

    pub(crate) fn ctr(&self) -> Command {
        let mut command = self.home.command("ctr");
        command.arg("--address").arg(self.runtime.join("containerd.sock"));
        command
    }

    /// Compares every part of an image with what containerd stored.
    pub(crate) fn assert_holds(&self, image: &Image) {
        for blob in image.layers.iter().chain([&image.config, &image.manifest]) {
            let got = self.ctr().args(["content", "get", &blob.digest]).output().expect("ctr starts");
            assert!(got.stdout == blob.bytes, "{} differs: {}", blob.digest, String::from_utf8_lossy(&got.stderr));
        }
    }

    fn output_of(&self, name: &str) -> String {
        let container = format!("longshore-{}", self.runtime.path().file_name().unwrap_or_default().display());
        run(self.ctr().args(["run", "--rm", "--snapshotter", "overlayfs", name, &container])).trim().to_owned()
    }
}
