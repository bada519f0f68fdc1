//! podman and buildah: every compression that they offer, and partial pulls of zstd:chunked layers.

use std::fs;
use std::process::Command;

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::{random_bytes, sha256, write_build_context};
use longshore_tests::minio::Minio;
use longshore_tests::on_both;
use longshore_tests::programs::{require_root, run};
use longshore_tests::proxy::Proxy;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};
use serde_json::Value;

use crate::home::Home;
use crate::{MIB, redirects};

/// How many files the images have that are pulled in parts.
const FILES: usize = 64;

on_both!(
    gzip,
    zstd,
    zstd_chunked,
    a_chunked_layer_is_pulled_in_parts,
    a_chunked_layer_is_pulled_in_parts_where_layers_are_in_the_store,
);

async fn gzip(backend: Backend) {
    pushes_pulls_and_runs(backend, "gzip").await;
}

async fn zstd(backend: Backend) {
    pushes_pulls_and_runs(backend, "zstd").await;
}

async fn zstd_chunked(backend: Backend) {
    pushes_pulls_and_runs(backend, "zstd:chunked").await;
}

/// buildah builds, podman pushes with `compression`, and another machine's podman pulls and runs.
async fn pushes_pulls_and_runs(backend: Backend, compression: &str) {
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    let name = format!("{}/podman/image:1", server.address());
    let builder = Machine::new();
    let prints = builder.build(&name, 8 * MIB);

    builder.push(&name, compression);
    let manifest = client.manifest("podman/image", "1").await;
    assert_compressed(&manifest, compression);

    let other = Machine::new();
    other.pull(&name);
    assert_eq!(other.digest_of(&name), sha256(&manifest));
    assert_eq!(other.output_of(&name), prints);

    // And buildah pushes what podman pulled, to a second repository.
    let copy = format!("{}/podman/copy:1", server.address());
    let mut push = other.command("buildah");
    push.args(["push", "--quiet", "--tls-verify=false", &name]);
    run(push.arg(format!("docker://{copy}")));
    let last = Machine::new();
    run(last.command("buildah").args(["pull", "--quiet", "--tls-verify=false", &copy]));
    assert_eq!(last.output_of(&copy), prints);
}

/// The second of two images that share most of their files is fetched by ranges: only what is new.
///
/// The files are random, which no compression shortens. podman 4.3 is not to be trusted with a program in such a layer: an
/// error after a file with holes ends its pull, and it says nothing of the files that it lacks (one pull in two hundred,
/// from docker-registry as well).
async fn a_chunked_layer_is_pulled_in_parts(backend: Backend) {
    pulls_in_parts(&Server::start(Options::on(backend)));
}

/// Single ranges are fetched from the store then, several from the registry.
async fn a_chunked_layer_is_pulled_in_parts_where_layers_are_in_the_store(backend: Backend) {
    let store = Proxy::in_front_of(Minio::shared().address());
    pulls_in_parts(&Server::start(redirects::options(backend, store.address())));
    let fetched = store.requests();
    assert!(fetched.iter().any(|request| range_of(request).is_some()), "{fetched:#?}");
    assert!(!fetched.iter().any(|request| range_of(request).is_some_and(|range| range.contains(','))), "{fetched:#?}");
}

fn pulls_in_parts(server: &Server) {
    let proxy = Proxy::in_front_of(server.address());
    let name = |tag: &str| format!("{}/podman/chunked:{tag}", proxy.address());
    let builder = Machine::new();
    builder.write_files(0..FILES);
    builder.build_of_files(&name("first"));
    let first = builder.files();
    builder.write_files((0..FILES).step_by(2));
    builder.build_of_files(&name("second"));
    let second = builder.files();
    for tag in ["first", "second"] {
        builder.push(&name(tag), "zstd:chunked");
    }

    let other = Machine::new();
    other.pull(&name("first"));
    other.assert_has(&name("first"), &first);
    let before = proxy.requests().len();
    other.pull(&name("second"));
    let requests = proxy.requests().split_off(before);
    let ranges: Vec<&str> = requests.iter().filter_map(|request| range_of(request)).collect();
    let several = ranges.iter().any(|range| range.contains(','));
    assert!(several, "no request for several ranges in {requests:#?}");
    other.assert_has(&name("second"), &second);
}

fn range_of(request: &str) -> Option<&str> {
    let is_range = |line: &&str| line.to_ascii_lowercase().starts_with("range: bytes=");
    request.lines().find(is_range)
}

fn assert_compressed(manifest: &[u8], compression: &str) {
    let manifest: Value = serde_json::from_slice(manifest).expect("a manifest is JSON");
    let layers = manifest["layers"].as_array().expect("an image manifest has layers");
    let suffix = if compression == "gzip" { "+gzip" } else { "+zstd" };
    for layer in layers {
        assert!(layer["mediaType"].as_str().is_some_and(|media_type| media_type.ends_with(suffix)), "{layer}");
        let has_table = !layer["annotations"]["io.containers.zstd-chunked.manifest-checksum"].is_null()
            || !layer["annotations"]["io.github.containers.zstd-chunked.manifest-checksum"].is_null();
        assert_eq!(has_table, compression == "zstd:chunked", "{layer}");
    }
}

/// A machine with podman and buildah and an image store of its own.
struct Machine {
    runtime: Scratch,
    home: Home,
}

impl Machine {
    fn new() -> Self {
        require_root("podman's overlay store");
        let (home, runtime) = (Home::new("podman"), Scratch::short("longshore-podman"));
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n\
             [storage.options]\npull_options = {{ enable_partial_images = \"true\", use_hard_links = \"false\" }}\n",
            home.directory("storage").display(),
            runtime.directory("storage").display(),
        );
        home.write("storage.conf", storage);
        home.write("registries.conf", "unqualified-search-registries = []\n");
        let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        home.write(".config/containers/policy.json", policy);
        let settings = "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n";
        home.write("containers.conf", settings);
        Self { runtime, home }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.home.command(name);
        command.env("CONTAINERS_STORAGE_CONF", self.home.join("storage.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.home.join("registries.conf"));
        command.env("CONTAINERS_CONF", self.home.join("containers.conf"));
        command
    }

    fn podman(&self) -> Command {
        let mut command = self.command("podman");
        command.arg("--tmpdir").arg(self.runtime.directory("tmp")).args(["--runtime", "runc"]);
        command
    }

    /// Builds an image of a payload of `length` random bytes. Returns what running it prints.
    fn build(&self, name: &str, length: usize) -> String {
        let prints = write_build_context(&self.home.directory("context"), length);
        self.build_context(name);
        prints
    }

    /// Writes random files for [`Machine::build_of_files`].
    fn write_files(&self, numbers: impl Iterator<Item = usize>) {
        for number in numbers {
            self.home.write(&format!("context/files/{number}"), random_bytes(64 * 1024));
        }
    }

    /// What [`Machine::write_files`] has written.
    fn files(&self) -> Vec<Vec<u8>> {
        (0..FILES).map(|number| self.home.read(&format!("context/files/{number}"))).collect()
    }

    /// Builds an image of nothing but the files, in one layer.
    fn build_of_files(&self, name: &str) {
        self.home.write("context/Dockerfile", "FROM scratch\nCOPY files /files\n");
        self.build_context(name);
    }

    /// Whether the image that was pulled has these files.
    fn assert_has(&self, name: &str, files: &[Vec<u8>]) {
        let mounted = run(self.podman().args(["image", "mount", name]));
        for (number, expected) in files.iter().enumerate() {
            let pulled = fs::read(format!("{}/files/{number}", mounted.trim())).expect("the image has the file");
            assert!(pulled == *expected, "files/{number} of {name} differs");
        }
        run(self.podman().args(["image", "unmount", name]));
    }

    fn build_context(&self, name: &str) {
        let mut buildah = self.command("buildah");
        buildah.args(["bud", "--quiet", "--isolation", "chroot", "-t", name]);
        run(buildah.arg(self.home.join("context")));
    }

    fn push(&self, name: &str, compression: &str) {
        let mut podman = self.podman();
        podman.args(["push", "--tls-verify=false", "--compression-format", compression]);
        run(podman.arg(name));
    }

    fn pull(&self, name: &str) {
        run(self.podman().args(["pull", "--quiet", "--tls-verify=false", name]));
    }

    fn digest_of(&self, name: &str) -> String {
        run(self.podman().args(["image", "inspect", "--format", "{{.Digest}}", name])).trim().to_owned()
    }

    fn output_of(&self, name: &str) -> String {
        let mut podman = self.podman();
        podman.args([
            "run",
            "--rm",
            "--network",
            "none",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ]);
        run(podman.arg(name)).trim().to_owned()
    }
}
