//! What `docker-compose.yml` starts, started without containers: the same programs with the same settings. Only where
//! they listen, where their files are and the database's URL are other ones.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use longshore_tests::client::Client;
use longshore_tests::postgres::Postgres;
use longshore_tests::programs::{path_of, run};
use longshore_tests::raw;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::Server;
use longshore_tests::service::Service;
use serde_json::Value;

use crate::files::{environment, path, read, service, texts, with};

/// The user whom `deploy/make-secrets` lets in.
pub(crate) const USER: &str = "anna";
/// The user's password.
pub(crate) const PASSWORD: &str = "correct horse: battery-ä";

/// How long the slowest machine may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(20);

// The parts of a stack, each on an address of its own and on the port that it has in its container.
const BALANCER: u8 = 0;
const REPLICAS: [u8; 2] = [1, 2];
const STORE: u8 = 3;
const PROMETHEUS: u8 = 4;

/// Postgres, `MinIO`, two replicas and the balancer.
pub(crate) struct Stack {
    // In the order of their end.
    _balancer: Service,
    pub(crate) replicas: [Replica; 2],
    _store: Service,
    pub(crate) scratch: Scratch,
    number: u8,
}

/// A replica, with the command that starts it again.
pub(crate) struct Replica {
    pub(crate) service: Service,
    pub(crate) host: String,
}

impl Stack {
    /// The one that tests share which break nothing.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<Stack> = LazyLock::new(Stack::start);
        &SHARED
    }

    /// Starts all of it.
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // A short path, and one that nginx's workers, who are not root, may enter.
        let scratch = Scratch::short("longshore-deploy");
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("it is this test's own");
        make_secrets(scratch.path());
        let store = start_store(scratch.path(), &place(number, STORE));
        fs::write(scratch.join("secrets/database_url"), Postgres::shared().create_database()).expect("own directory");
        let replicas = REPLICAS.map(|which| Replica::start(scratch.path(), number, which));
        let balancer = start_balancer(scratch.path(), number);
        Self { _balancer: balancer, replicas, _store: store, scratch, number }
    }

    /// Where the balancer is: host and port.
    pub(crate) fn address(&self) -> String {
        format!("{}:8080", place(self.number, BALANCER))
    }

    /// An anonymous client of the balancer.
    pub(crate) fn stranger(&self) -> Client {
        Client::new(&format!("http://{}", self.address()))
    }

    /// A client of the balancer with the user's login.
    pub(crate) fn client(&self) -> Client {
        self.stranger().with_basic(USER, PASSWORD)
    }

    /// What a replica tells Prometheus.
    pub(crate) async fn metrics(&self, which: usize) -> String {
        let client = Client::new(&format!("http://{}:9090", self.replicas[which].host));
        String::from_utf8(longshore_tests::client::body(client.get("/metrics").await).await).expect("metrics are text")
    }

    /// Starts Prometheus with `deploy/prometheus.yml`, and returns it with its URL.
    pub(crate) fn start_prometheus(&self) -> (Service, String) {
        let (host, home) = (place(self.number, PROMETHEUS), self.scratch.directory("prometheus"));
        let [first, second] = self.replicas.each_ref().map(|replica| replica.host.as_str());
        // Every second, for rates to be there soon.
        let replaced = [("longshore-1", first), ("longshore-2", second), ("interval: 15s", "interval: 1s")];
        fs::write(home.join("prometheus.yml"), with(&read("deploy/prometheus.yml"), &replaced)).expect("own directory");
        fs::copy(path("deploy/alerts.yml"), home.join("alerts.yml")).expect("own directory");
        run(Command::new(path_of("promtool")).args(["check", "config"]).arg(home.join("prometheus.yml")));
        let address = format!("{host}:9090");
        let places = [
            ("/etc/prometheus", home.display().to_string()),
            ("=/prometheus", format!("={}", home.join("data").display())),
        ];
        let mut command = Command::new(path_of("prometheus"));
        for argument in texts(&service("prometheus")["command"]) {
            command.arg(places.iter().fold(argument, |argument, (from, to)| argument.replace(from, to)));
        }
        command.arg(format!("--web.listen-address={address}")).stdout(Stdio::null());
        let mut prometheus = Service::start("prometheus", &mut command, &home.join("log"), "TERM");
        prometheus.wait_until("ready", || answers(&address, "/-/ready"));
        (prometheus, format!("http://{address}"))
    }
}

impl Replica {
    fn start(home: &Path, number: u8, which: u8) -> Self {
        let name = format!("longshore-{which}");
        let host = place(number, which);
        let mut command = Command::new(Server::binary());
        let environment = replica_environment(&name, home, &host, &place(number, STORE));
        command
            .env_clear()
            .envs(environment)
            .envs(disk_cache(&home.join(format!("{name}-cache"))))
            .arg("serve")
            .current_dir(home)
            .stdout(Stdio::null());
        let mut service = Service::start(&name, &mut command, &home.join(&name), "TERM");
        service.wait_until("ready", || answers(&format!("{host}:5000"), "/readyz"));
        Self { service, host }
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill9(&mut self) {
        self.service.kill9();
    }
}

/// Whether a replica of the stack is healthy, as its container's own check tells.
pub(crate) fn is_healthy(stack: &Stack, which: usize) -> bool {
    let name = format!("longshore-{}", REPLICAS[which]);
    let mut check = texts(&service(&name)["healthcheck"]["test"]).into_iter();
    assert_eq!((check.next().as_deref(), check.next().as_deref()), (Some("CMD"), Some("longshore")));
    let host = &stack.replicas[which].host;
    let environment = replica_environment(&name, stack.scratch.path(), host, &place(stack.number, STORE));
    let mut command = Command::new(Server::binary());
    command.env_clear().envs(environment).args(check).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("the program starts").success()
}

/// The settings of a replica in the compose file, with its own address, the store's, and its secrets below `home`.
pub(crate) fn replica_environment(name: &str, home: &Path, host: &str, store: &str) -> Vec<(String, String)> {
    let places = [
        // Where nginx comes from here. The first, for the next stands in it.
        ("172.16.0.0/12,192.168.0.0/16,10.0.0.0/8", "127.0.0.1".to_owned()),
        ("0.0.0.0", host.to_owned()),
        ("//minio:", format!("//{store}:")),
        ("/run/secrets", secrets(home)),
    ];
    let put = |value: String| places.iter().fold(value, |value, (from, to)| value.replace(from, to));
    environment(&service(name)).into_iter().map(|(name, value)| (name, put(value))).collect()
}

/// What the compose file leaves out, as its store is on the same disk, and the dashboard shows where there is one.
fn disk_cache(folder: &Path) -> [(&'static str, String); 2] {
    [
        ("LONGSHORE_STORAGE__DISK_CACHE__PATH", folder.display().to_string()),
        ("LONGSHORE_STORAGE__DISK_CACHE__SIZE", "64MiB".to_owned()),
    ]
}

fn secrets(home: &Path) -> String {
    home.join("secrets").display().to_string()
}

/// An address of this machine (all of 127.0.0.0/8 is) that no other test process and no other stack has.
fn place(stack: u8, part: u8) -> String {
    let [high, low] = ((std::process::id() % 65_536) as u16).to_be_bytes();
    assert!(stack < 10 && part < 10, "ten parts of ten stacks have addresses");
    format!("127.{}.{high}.{low}", 110 + 10 * stack + part)
}

/// Runs `deploy/make-secrets` as a user does, but for where it writes.
pub(crate) fn make_secrets(home: &Path) -> PathBuf {
    let script = home.join("make-secrets");
    fs::copy(path("deploy/make-secrets"), &script).expect("own directory");
    let password = home.join("typed");
    fs::write(&password, format!("{PASSWORD}\n")).expect("own directory");
    // By the shell: a test that forks while we copy has the script open for writing, and the kernel runs no such file.
    let mut command = Command::new("/bin/sh");
    command.arg(&script).arg(USER).stdin(File::open(&password).expect("just written")).stdout(Stdio::null());
    let output = command.output().expect("the script starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    home.join("secrets")
}

fn start_store(home: &Path, host: &str) -> Service {
    let minio = service("minio");
    // What the image has in its volume: deploy/minio/Dockerfile.
    fs::create_dir_all(home.join("drive/longshore")).expect("own directory");
    let mut command = Command::new(path_of("minio"));
    for argument in texts(&minio["command"]) {
        let argument = if argument == "/drive" { home.join("drive").display().to_string() } else { argument };
        command.arg(argument.replace(":9000", &format!("{host}:9000")));
    }
    for (name, value) in environment(&minio) {
        let value = if value == "/tmp" { home.display().to_string() } else { value };
        command.env(name, value.replace("/run/secrets", &secrets(home)));
    }
    let address = format!("{host}:9000");
    let mut store = Service::start("minio", command.stdout(Stdio::null()), &home.join("minio"), "TERM");
    store.wait_until("ready", || answers(&address, "/minio/health/ready"));
    store
}

fn start_balancer(home: &Path, number: u8) -> Service {
    let (config, address) = (home.join("nginx.conf"), format!("{}:8080", place(number, BALANCER)));
    let directory = format!("{}/", home.display());
    let [first, second] = REPLICAS.map(|which| format!("{}:5000", place(number, which)));
    // Debian's nginx is older than the image's, and knows no `resolve`: these are addresses, there is nothing to resolve.
    let replaced = [
        ("longshore-1:5000 resolve", first.as_str()),
        ("longshore-2:5000 resolve", &second),
        ("listen 8080", &format!("listen {address}")),
        ("/tmp/", &directory),
    ];
    fs::write(&config, with(&read("deploy/nginx.conf"), &replaced)).expect("own directory");
    run(Command::new(path_of("nginx")).args(["-t", "-q", "-e", "stderr", "-c"]).arg(&config));
    let mut command = Command::new(path_of("nginx"));
    command.args(["-e", "stderr", "-g", "daemon off;", "-c"]).arg(&config);
    let access = File::create(home.join("access")).expect("own directory");
    let mut balancer = Service::start("nginx", command.stdout(access), &home.join("nginx"), "TERM");
    balancer.wait_until("ready", || answers(&address, "/readyz"));
    balancer
}

fn answers(address: &str, probe: &str) -> Option<()> {
    TcpStream::connect(address).ok()?;
    let request = format!("GET {probe} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    raw::exchange(address, request).starts_with("HTTP/1.1 200").then_some(())
}

/// Looks until there is something to see, and returns it.
///
/// # Panics
/// When there is nothing after a minute.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What Prometheus answers to a query of its API.
pub(crate) async fn asked(prometheus: &Client, target: &str) -> Value {
    let answer = longshore_tests::client::json(prometheus.get(target).await).await;
    assert_eq!(answer["status"], "success", "{target}: {answer}");
    answer["data"].clone()
}
