//! A Blob Storage server of the test process's own, Microsoft's Azurite, thrown away when it ends.

use std::fs;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::programs::path_of;
use crate::raw;
use crate::scratch::Scratch;
use crate::service::Service;

/// The one account.
pub const ACCOUNT: &str = "longshore";
/// Its key: `not-much-of-a-secret` in base64.
pub const ACCESS_KEY: &str = "bm90LW11Y2gtb2YtYS1zZWNyZXQ=";
/// The one container.
pub const CONTAINER: &str = "longshore";

/// Lets its bearer make containers in the account, and nothing else, as long as anyone runs this: a shared access signature
/// by the account's key, made once, so that nothing here has to sign.
const MAY_MAKE_CONTAINERS: &str = "sv=2019-12-12&ss=b&srt=c&sp=c&se=2999-01-01T00:00:00Z\
                                   &sig=ZQLbTUgOIvr%2F2FqvZxcNKs7lJxuI%2BVPvlUOvmQj8fQw%3D";

/// Lets its bearer do with blobs of the container what a registry does, made as the one above was. Who has no more
/// than this cannot sign for others.
pub const MAY_USE_CONTAINER: &str = "sv=2019-12-12&sr=c&sp=rwdl&se=2999-01-01T00:00:00Z\
                                     &sig=Jfw5tPLr7yORDWUfCSvJV7yqnHw6Cf6o5ps4H9K%2BxPg%3D";

/// A running Azurite on 127.0.0.1 with one account and one empty container.
#[derive(Debug)]
pub struct Azurite {
    // Before the directory: the server ends before its files go.
    _service: Service,
    _scratch: Scratch,
    address: String,
}

impl Azurite {
    /// The one server of this test process. It is started by whoever comes first.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Azurite> = LazyLock::new(Azurite::start);
        &SHARED
    }

    fn start() -> Self {
        let scratch = Scratch::new("azurite");
        let log = scratch.join("log");
        let mut command = Command::new(path_of("azurite-blob"));
        command.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--skipApiVersionCheck"]);
        command.args(["--disableTelemetry", "--silent", "--location"]).arg(scratch.directory("data"));
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{ACCESS_KEY}"));
        command.stdout(fs::File::create(&log).expect("a log can be written"));
        let mut service = Service::start("azurite", &mut command, &log, "TERM");
        let address = service.wait_until("listening", || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let (_, address) = log.split_once("successfully listens on http://")?;
            address.lines().next().filter(|_| address.contains('\n')).map(str::to_owned)
        });
        let make = format!("PUT /{ACCOUNT}/{CONTAINER}?restype=container&{MAY_MAKE_CONTAINERS} HTTP/1.1");
        let request = format!("{make}\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let made = raw::exchange(&address, request);
        assert_eq!(raw::status_of(&made), 201, "{made}");
        Self { _service: service, _scratch: scratch, address }
    }

    /// Where the account is: `http://127.0.0.1:PORT/longshore`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/{ACCOUNT}", self.address)
    }

    /// A folder in the container that nobody else has.
    #[must_use]
    pub fn new_prefix(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        format!("registry-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
