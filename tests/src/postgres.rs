//! A real Postgres of the test process's own, thrown away when it ends.
//!
//! Only the standard library and Postgres's own programs: whoever needs a database in a test can depend on this.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::programs::{path_of, run, runs_as_root};
use crate::scratch::Scratch;
use crate::service::{Service, free_port};

/// Whether commits survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As in production.
    Full,
    /// Nothing is synced: three times as fast, for tests of what is stored and not of what survives.
    None,
}

/// How a server is stopped; the modes of `pg_ctl stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// In good order: what was committed is on the disk.
    Fast,
    /// As in a crash: what was committed and not waited for (`synchronous_commit = off`) may be lost.
    Immediate,
}

/// A running Postgres server on 127.0.0.1 (and on a Unix socket), user `postgres`, no password.
#[derive(Debug)]
pub struct Postgres {
    // Before the directory: the server ends before its files go.
    service: Service,
    scratch: Scratch,
    durability: Durability,
    port: u16,
}

impl Postgres {
    /// The one server of this test process, without durability. It is started by whoever comes first.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Postgres> = LazyLock::new(|| Postgres::start(Durability::None));
        &SHARED
    }

    /// Starts a server of its own for a test.
    #[must_use]
    pub fn start(durability: Durability) -> Self {
        let scratch = Scratch::short("longshore-postgres");
        initialise(&scratch);
        // The port is free when it is looked up, and a stranger may take it before Postgres does: then the next is taken.
        loop {
            let port = free_port();
            if let Some(service) = launch(&scratch, port, durability) {
                return Self { service, scratch, durability, port };
            }
        }
    }

    /// Ends it: transactions that are open are given up, and clients told so.
    pub fn stop(&mut self, stop: Stop) {
        self.service.signal(match stop {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        });
        self.service.wait_for_its_end();
    }

    /// Starts it again on the same data and the same port, after [`Postgres::stop`].
    pub fn restart(&mut self) {
        let service = launch(&self.scratch, self.port, self.durability);
        self.service = service.expect("the port was its own a moment ago");
    }

    /// Creates an empty database and returns its URL, `postgres://postgres@127.0.0.1:PORT/NAME`.
    #[must_use]
    pub fn create_database(&self) -> String {
        self.create("")
    }

    /// Creates a copy of the database at this URL, which nobody may have open, and returns its URL.
    ///
    /// # Panics
    /// Where the URL is none of [`Postgres::create_database`].
    #[must_use]
    pub fn copy_database(&self, url: &str) -> String {
        let (_, name) = url.rsplit_once('/').expect("a URL ends with the database's name");
        self.create(&format!("TEMPLATE {name}"))
    }

    fn create(&self, options: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}_{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let server = format!("postgres://postgres@127.0.0.1:{}", self.port);
        let statement = format!("CREATE DATABASE {name} {options}");
        let mut psql = Command::new(postgres_program("psql"));
        run(psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &statement]).arg(format!("{server}/postgres")));
        format!("{server}/{name}")
    }
}

/// None where a stranger has taken the port.
fn launch(scratch: &Scratch, port: u16, durability: Durability) -> Option<Service> {
    let log = scratch.join("log");
    drop(fs::remove_file(&log));
    let mut service = start_server(scratch, port, durability, &log);
    let pid = service.pid().to_string();
    let is_ready = service.wait_until("ready", || is_ready(scratch, &pid, &log));
    is_ready.then_some(service)
}

/// What Postgres has come to so far: the eighth line of its pid file says "ready" once it takes connections. A file of
/// an earlier server may still be there.
fn is_ready(scratch: &Scratch, pid: &str, log: &Path) -> Option<bool> {
    let pid_file = fs::read_to_string(scratch.join("data/postmaster.pid")).unwrap_or_default();
    let lines: Vec<&str> = pid_file.lines().map(str::trim).collect();
    if lines.first() == Some(&pid) && lines.get(7) == Some(&"ready") {
        return Some(true);
    }
    let log = fs::read_to_string(log).unwrap_or_default();
    log.contains("Address already in use").then_some(false)
}

fn initialise(scratch: &Scratch) {
    let mut initdb = as_postgres(&postgres_program("initdb"), scratch.path());
    initdb
        .arg("-D")
        .arg(scratch.join("data"))
        .args(["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale", "C"]);
    run(initdb.arg("--no-instructions"));
}

fn start_server(scratch: &Scratch, port: u16, durability: Durability, log: &Path) -> Service {
    let mut command = as_postgres(&postgres_program("postgres"), scratch.path());
    command.arg("-D").arg(scratch.join("data")).arg("-k").arg(scratch.path()).args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
    ]);
    command.args(["-c", "max_connections=300", "-c", "shared_buffers=64MB"]);
    if durability == Durability::None {
        command.args(["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]);
    }
    // SIGQUIT is Postgres's immediate shutdown: open connections do not hold it up.
    Service::start("postgres", &mut command, log, "QUIT")
}

/// A command that runs as a user whom Postgres accepts (it refuses root) and who owns `directory`.
fn as_postgres(executable: &Path, directory: &Path) -> Command {
    let mut command = if runs_as_root() {
        run(Command::new("chown").arg("postgres").arg(directory));
        let mut command = Command::new(path_of("setpriv"));
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(executable);
        command
    } else {
        Command::new(executable)
    };
    let owner_only = fs::Permissions::from_mode(0o700);
    fs::set_permissions(directory, owner_only).expect("the directory is this test's own");
    // Settings of the caller's own Postgres must not leak in, and the working directory must be one the user may enter.
    for variable in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGOPTIONS"] {
        command.env_remove(variable);
    }
    command.current_dir(directory);
    command
}

/// Debian keeps Postgres's programs out of `PATH`, in a directory for each version: the newest is taken.
fn postgres_program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<u32> = versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable();
    versions
        .into_iter()
        .rev()
        .map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/{name}")))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| path_of(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_there_after_it_was_stopped() {
        let mut postgres = Postgres::start(Durability::Full);
        let url = postgres.create_database();
        ask(&url, "CREATE TABLE kept (id bigint)");
        for stop in [Stop::Fast, Stop::Immediate] {
            ask(&url, "INSERT INTO kept VALUES (1)");
            postgres.stop(stop);
            postgres.restart();
        }
        assert_eq!(ask(&url, "SELECT count(*) FROM kept"), "2");
    }

    fn ask(url: &str, question: &str) -> String {
        run(Command::new(postgres_program("psql")).args(["-X", "-A", "-t", "-c", question, url])).trim().to_owned()
    }

    #[test]
    fn databases_are_empty_and_apart() {
        let (first, second) = (Postgres::shared().create_database(), Postgres::shared().create_database());
        assert_ne!(first, second);
        ask(&first, "CREATE TABLE only_here (id bigint)");
        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
        assert_eq!(ask(&first, tables), "1");
        assert_eq!(ask(&second, tables), "0");
    }

    #[test]
    fn durability_is_what_was_asked_for() {
        assert_eq!(ask(&Postgres::shared().create_database(), "SHOW fsync"), "off");
        let durable = Postgres::start(Durability::Full);
        assert_eq!(ask(&durable.create_database(), "SHOW fsync"), "on");
        assert_eq!(ask(&durable.create_database(), "SHOW synchronous_commit"), "on");
    }
}
