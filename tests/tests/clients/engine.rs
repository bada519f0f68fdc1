//! A Docker Engine of the test's own: its daemon, its socket, its images.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use longshore_tests::programs::{program, require_root, run};
use longshore_tests::scratch::Scratch;
use longshore_tests::service::Service;

use crate::home::Home;

/// A running dockerd and the home of its client.
pub(crate) struct Engine {
    // In the order of their end: the daemon first, then what it stood on.
    _daemon: Service,
    runtime: Scratch,
    home: Home,
}

impl Engine {
    /// Starts a daemon that touches neither the machine's network nor its other daemons.
    pub(crate) fn start() -> Self {
        require_root("dockerd");
        let (home, runtime) = (Home::new("docker"), Scratch::short("longshore-docker"));
        let settings = home.write("daemon.json", r#"{"insecure-registries":["127.0.0.0/8"]}"#);
        let log = home.join("dockerd.log");
        let socket = format!("unix://{}", runtime.join("docker.sock").display());
        let mut command = program("dockerd");
        command.arg("--config-file").arg(settings).arg("--data-root").arg(home.directory("data"));
        command.arg("--exec-root").arg(runtime.join("exec")).arg("--pidfile").arg(runtime.join("docker.pid"));
        command.args(["-H", &socket, "--bridge=none", "--iptables=false", "--ip-masq=false", "--ip-forward=false"]);
        // As many downloads at a time as images are pulled at a time, so that parallel pulls are parallel.
        command.arg("--max-concurrent-downloads=20");
        let output = fs::File::options().create(true).append(true).open(&log).expect("the home is this test's own");
        let mut daemon = Service::start("dockerd", command.stdout(output), &log, "TERM");
        let mut probe = program("docker");
        probe.args(["-H", &socket, "version"]).stdout(Stdio::null()).stderr(Stdio::null());
        daemon.wait_until("ready", || probe.status().is_ok_and(|status| status.success()).then_some(()));
        Self { _daemon: daemon, runtime, home }
    }

    /// A docker command against this engine.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.home.command("docker");
        // The classic builder: BuildKit needs a plugin that not every client brings.
        command
            .env("DOCKER_BUILDKIT", "0")
            .arg("-H")
            .arg(format!("unix://{}", self.runtime.join("docker.sock").display()));
        command.args(arguments);
        command
    }

    /// Runs a docker command that must succeed.
    pub(crate) fn docker<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        run(&mut self.command(arguments))
    }

    /// Everything that a shell command prints, with this engine as the one that `docker` talks to.
    pub(crate) fn shell(&self, directory: &Path, command: &str) -> String {
        let socket = format!("unix://{}", self.runtime.join("docker.sock").display());
        let mut shell = self.home.command("bash");
        shell.env("DOCKER_HOST", socket).current_dir(directory).args(["-c", &format!("{{ {command}; }} 2>&1 || true")]);
        run(&mut shell)
    }

    /// Builds an image of a payload of `length` random bytes. Returns what running it prints.
    pub(crate) fn build(&self, name: &str, length: usize) -> String {
        let context = self.home.directory("context");
        let prints = longshore_tests::image::write_build_context(&context, length);
        self.docker([OsStr::new("build"), OsStr::new("-q"), OsStr::new("-t"), OsStr::new(name), context.as_os_str()]);
        prints
    }

    /// The digest under which the engine knows a pushed or pulled image.
    pub(crate) fn digest_of(&self, name: &str) -> String {
        let digest = self.docker(["image", "inspect", "--format", "{{index .RepoDigests 0}}", name]);
        let (_repository, digest) = digest.trim().split_once('@').unwrap_or_else(|| panic!("no digest in {digest:?}"));
        digest.to_owned()
    }

    /// What running an image prints.
    pub(crate) fn output_of(&self, name: &str) -> String {
        self.docker(["run", "--rm", "--network", "none", name]).trim().to_owned()
    }

    /// Removes every image, so that the next pull has to fetch every layer.
    pub(crate) fn wipe(&self) {
        self.docker(["system", "prune", "--all", "--force"]);
        assert_eq!(self.docker(["images", "--all", "--quiet"]), "", "images are left after the wipe");
    }
}
