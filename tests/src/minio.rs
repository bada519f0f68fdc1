//! A real S3 server of the test process's own, `MinIO`, thrown away when it ends.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::programs::path_of;
use crate::raw;
use crate::scratch::Scratch;
use crate::service::{Service, free_port};

/// The one bucket.
pub const BUCKET: &str = "longshore";
/// Who may use it.
pub const ACCESS_KEY: &str = "longshore";
/// The key that belongs to [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "not-much-of-a-secret";

/// A running `MinIO` on 127.0.0.1 with one empty bucket.
#[derive(Debug)]
pub struct Minio {
    // Before the directory: the server ends before its files go.
    service: Service,
    scratch: Scratch,
    address: String,
}

impl Minio {
    /// The one server of this test process. It is started by whoever comes first.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Minio> = LazyLock::new(Minio::start);
        &SHARED
    }

    /// Starts a server of its own for a test.
    #[must_use]
    pub fn start() -> Self {
        let scratch = Scratch::new("minio");
        // A directory of its drive is a bucket.
        fs::create_dir_all(scratch.join("drive").join(BUCKET)).expect("a scratch directory can be written");
        // The port is free when it is looked up, and a stranger may take it before MinIO does: then the next is taken.
        loop {
            let address = format!("127.0.0.1:{}", free_port());
            if let Some(service) = launch(&scratch, &address) {
                return Self { service, scratch, address };
            }
        }
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A folder in the bucket that nobody else has.
    #[must_use]
    pub fn new_prefix(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        format!("registry-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The settings of a registry whose objects lie here, in a folder that nobody else has.
    #[must_use]
    pub fn new_store(&self) -> Vec<(String, String)> {
        let (url, prefix) = (self.url(), self.new_prefix());
        let settings = [
            ("bucket", BUCKET),
            ("endpoint", &url),
            ("prefix", &prefix),
            ("access_key_id", ACCESS_KEY),
            ("secret_access_key", SECRET_KEY),
        ];
        settings.map(|(key, value)| (format!("storage.s3.{key}"), value.to_owned())).to_vec()
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&mut self) {
        self.service.kill9();
    }

    /// Starts it again on the same data and the same address, after [`Minio::kill9`].
    pub fn restart(&mut self) {
        self.service = launch(&self.scratch, &self.address).expect("the port was its own a moment ago");
    }
}

/// None where a stranger has taken the port.
fn launch(scratch: &Scratch, address: &str) -> Option<Service> {
    let log = scratch.join("log");
    let mut command = Command::new(path_of("minio"));
    command.args(["server", "--quiet", "--address", address]).arg(scratch.join("drive"));
    command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY).env("HOME", scratch.path());
    command.env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off").env("MINIO_CI_CD", "1");
    command.stdout(fs::File::options().create(true).append(true).open(&log).expect("a log can be written"));
    let mut service = Service::start("minio", &mut command, &log, "TERM");
    let is_ready = service.wait_until("ready", || {
        if fs::read_to_string(&log).unwrap_or_default().contains("address already in use") {
            return Some(false);
        }
        answers(address).then_some(true)
    });
    is_ready.then_some(service)
}

fn answers(address: &str) -> bool {
    TcpStream::connect(address).is_ok() && {
        let request = format!("GET /minio/health/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        raw::exchange(address, request).starts_with("HTTP/1.1 200")
    }
}
