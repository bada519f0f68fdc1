//! Pulls that are sent on to the object store: each client follows, and keeps its password to itself.

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::Image;
use longshore_tests::minio::Minio;
use longshore_tests::on_both;
use longshore_tests::programs::run;
use longshore_tests::proxy::Proxy;
use longshore_tests::server::{Options, Server};

use crate::MIB;
use crate::containerd::Containerd;
use crate::engine::Engine;
use crate::home::Home;
use crate::htpasswd::{PASSWORD, USER, log_in, write_users};

on_both!(docker_follows, containerd_follows, skopeo_and_crane_follow);

/// A registry that sends everyone to the store for layers, at this address (`host:port`).
pub(crate) fn options(backend: Backend, store: &str) -> Options {
    let objects = Minio::shared().new_store();
    let options = objects.iter().fold(Options::on(backend), |options, (key, value)| options.set(key, value));
    let options = options.set("storage.redirects.networks", "127.0.0.0/8").set("storage.redirects.from_size", "64KiB");
    options.set("storage.redirects.endpoint", &format!("http://{store}"))
}

/// Such a registry, with a login, and with an image in `redirected/image:1`.
struct Redirecting {
    server: Server,
    image: Image,
    /// The store as clients reach it, under another name than the registry's, as it has in the world: where the names
    /// are the same, those that are written in Go bring their passwords along.
    store: Proxy,
    // The server reads its users there.
    _home: Home,
}

impl Redirecting {
    async fn start(backend: Backend) -> Self {
        let (home, store) = (Home::new("redirecting"), Proxy::in_front_of(Minio::shared().address()));
        let users = write_users(&home).display().to_string();
        let options = options(backend, &store.address().replace("127.0.0.1", "localhost"));
        let server = Server::start(options.set("auth.htpasswd", &users));
        let image = Image::random(8 * MIB);
        let client = Client::new(server.url()).with_basic(USER, PASSWORD);
        client.push_image("redirected/image", "1", &image).await;
        Self { server, image, store, _home: home }
    }

    fn name(&self) -> String {
        format!("{}/redirected/image:1", self.server.address())
    }

    /// Whether the layer came from the store, once in so many pulls, and no password went there.
    fn assert_fetched(&self, pulls: usize) {
        let requests = self.store.requests();
        let fetched = requests.iter().filter(|request| request.contains("X-Amz-Signature=")).count();
        assert!(fetched >= pulls, "{requests:#?}");
        let has_password = |request: &&String| request.to_ascii_lowercase().contains("authorization:");
        assert_eq!(requests.iter().find(has_password), None);
    }
}

async fn docker_follows(backend: Backend) {
    let (registry, engine) = (Redirecting::start(backend).await, Engine::start());
    let mut login = engine.command(["login", "-u", USER, "--password-stdin", registry.server.address()]);
    log_in(&mut login, PASSWORD).expect("the right password is let in");
    engine.docker(["pull", &registry.name()]);
    assert_eq!(engine.digest_of(&registry.name()), registry.image.manifest.digest);
    assert_eq!(engine.output_of(&registry.name()), registry.image.prints);
    registry.assert_fetched(1);
}

async fn containerd_follows(backend: Backend) {
    let (registry, containerd) = (Redirecting::start(backend).await, Containerd::start());
    let mut pull = containerd.ctr();
    pull.args(["images", "pull", "--plain-http", "--snapshotter", "overlayfs"]);
    run(pull.args(["--user", &format!("{USER}:{PASSWORD}"), &registry.name()]));
    containerd.assert_holds(&registry.image);
    registry.assert_fetched(1);
}

async fn skopeo_and_crane_follow(backend: Backend) {
    let (registry, home) = (Redirecting::start(backend).await, Home::new("redirected"));
    let mut copy = home.command("skopeo");
    copy.args(["--insecure-policy", "copy", "--src-tls-verify=false", "--preserve-digests"]);
    copy.args(["--src-creds", &format!("{USER}:{PASSWORD}")]);
    run(copy.args([&format!("docker://{}", registry.name()), "oci:skopeo:1"]));
    registry.image.assert_in_layout(&home.join("skopeo"));
    registry.assert_fetched(1);

    run(home.command("crane").args(["auth", "login", registry.server.address(), "-u", USER, "-p", PASSWORD]));
    run(home.command("crane").args(["pull", "--format", "oci", &registry.name(), "crane"]));
    registry.image.assert_in_layout(&home.join("crane"));
    registry.assert_fetched(2);
}
