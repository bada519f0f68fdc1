//! Owns a Postgres of our own, durable as by default: `fsync`, `synchronous_commit` and `full_page_writes` are on.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::{Signal, geteuid};

use crate::launch::{Launch, OwnedProcess, find_program, free_port, start_deadline};

/// Where Debian puts the programs of each major version.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";
/// Postgres refuses to run as root; its packages bring this user.
const USER: &str = "postgres";

pub(super) struct Programs {
    initdb: PathBuf,
    server: PathBuf,
    is_ready: PathBuf,
    psql: PathBuf,
}

/// A way to ask a database without its server knowing: for content that is too much to be pushed.
#[derive(Debug)]
pub(crate) struct Psql {
    program: PathBuf,
    url: String,
    /// Where scripts and answers are put.
    home: PathBuf,
}

impl Psql {
    pub(super) fn new(programs: &Programs, url: &str, home: &Path) -> Self {
        Self { program: programs.psql.clone(), url: url.to_owned(), home: home.to_owned() }
    }

    /// Runs a script to its end.
    pub(crate) fn run(&self, script: &str) -> Result<()> {
        let file = self.home.join("script.sql");
        fs::write(&file, script).with_context(|| format!("cannot write {}", file.display()))?;
        self.launch().argument("-f").argument(&file).argument(&self.url).run()
    }

    /// The number that a question has for an answer.
    pub(crate) fn number(&self, question: &str) -> Result<u64> {
        let file = self.home.join("answer");
        let launch = self.launch().argument("-A").argument("-t").argument("-o").argument(&file);
        launch.argument("-c").argument(question).argument(&self.url).run()?;
        let answer = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        answer.trim().parse().with_context(|| format!("{answer:?} is no number"))
    }

    fn launch(&self) -> Launch {
        let launch = Launch::new(&self.program, &self.home.join("psql-output"));
        ["-X", "-q", "-v", "ON_ERROR_STOP=1"].into_iter().fold(launch, Launch::argument)
    }
}

pub(super) fn find_programs() -> Option<Programs> {
    let versions = fs::read_dir(DEBIAN_VERSIONS).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    Some(Programs {
        initdb: find_program("initdb", &folders)?,
        server: find_program("postgres", &folders)?,
        is_ready: find_program("pg_isready", &folders)?,
        psql: find_program("psql", &folders)?,
    })
}

/// Makes a database below `home`, starts it and answers its URL.
pub(super) fn start(programs: &Programs, home: &Path) -> Result<(OwnedProcess, String)> {
    let (folder, port) = (home.join("postgres"), free_port()?);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    let identity = identity(&fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?)?;
    if let Some((user, group)) = identity {
        chown(&folder, Some(user), Some(group)).context("cannot give the database its folder")?;
    }
    let (data, output) = (folder.join("data"), home.join("postgres-output"));
    let init = Launch::new(&programs.initdb, &output).argument("-D").argument(&data);
    let options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-instructions"];
    options.into_iter().fold(init, Launch::argument).identity(identity).run()?;

    let mut server = Launch::new(&programs.server, &output).argument("-D").argument(&data);
    let port_option = format!("port={port}");
    let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", &port_option];
    let durable = ["fsync=on", "synchronous_commit=on", "full_page_writes=on"];
    for setting in settings.into_iter().chain(durable) {
        server = server.argument("-c").argument(setting);
    }
    // SIGINT is a fast shutdown; SIGTERM would wait for clients.
    let mut process = server.identity(identity).stop_signal(Signal::INT).start()?;
    let port = port.to_string();
    let question = Launch::new(&programs.is_ready, &home.join("postgres-ready"));
    let question = ["-q", "-h", "127.0.0.1", "-p", &port, "-t", "1"].into_iter().fold(question, Launch::argument);
    process.wait_until(start_deadline(), || question.run().is_ok())?;
    Ok((process, format!("postgres://{USER}@127.0.0.1:{port}/{USER}")))
}

/// The user and group to run as: ours unless we are root.
fn identity(passwd: &str) -> Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let found = parse_passwd(passwd, USER);
    found.map(Some).with_context(|| format!("Postgres refuses root, and there is no user {USER:?} to run it as"))
}

fn parse_passwd(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = passwd.lines().map(|line| line.split(':').collect()).find(|f: &Vec<&str>| f[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:\npostgres:x:101:104:,,,:/var/lib:/bin/sh\n\n";
        assert_eq!(parse_passwd(passwd, "postgres"), Some((101, 104)));
        assert_eq!(parse_passwd(passwd, "nobody"), None);
        assert_eq!(parse_passwd("postgres:x", "postgres"), None);
    }
}
