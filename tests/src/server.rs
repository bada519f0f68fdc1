//! The server under test: the real binary, in a directory of its own, on a port of its own.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use crate::backends::Backend;
use crate::minio::Minio;
use crate::postgres::Postgres;
use crate::programs::run_refused;
use crate::scratch::Scratch;
use crate::service::Service;

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Options {
    backend: Backend,
    settings: Vec<(String, String)>,
    /// How far its clock is off, in the words of `faketime`.
    skew: Option<String>,
}

impl Options {
    /// The defaults, on `backend`.
    #[must_use]
    pub fn on(backend: Backend) -> Self {
        Self { backend, settings: Vec::new(), skew: None }
    }

    /// The defaults, on a database and in a bucket of the test's own, which it may stop.
    #[must_use]
    pub fn over(postgres: &Postgres, minio: &Minio) -> Self {
        let store = minio.new_store();
        let options = Self::on(Backend::S3).set("database.url", &postgres.create_database());
        store.iter().fold(options, |options, (key, value)| options.set(key, value))
    }

    /// Adds a setting, such as `set("manifests.sparse_indexes", "allow")`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Lets the server's clock be off by so much, such as `+14m` or `-1h`. What only measures time goes right.
    #[must_use]
    pub fn skewed(mut self, by: &str) -> Self {
        self.skew = Some(by.to_owned());
        self
    }

    fn has(&self, prefix: &str) -> bool {
        self.settings.iter().any(|(key, _)| key.starts_with(prefix))
    }

    /// With what every server needs and the test did not give.
    fn completed(mut self, scratch: &Scratch) -> Self {
        let backend = self.backend;
        self.complete("http.address", || "127.0.0.1:0".to_owned());
        self.complete("database.url", || backend.new_database(scratch.path()));
        self.complete("storage.path", || scratch.join("data").display().to_string());
        if !self.has("storage.s3.") {
            self.settings.extend(backend.new_store());
        }
        self
    }

    fn complete(&mut self, key: &str, value: impl FnOnce() -> String) {
        if !self.has(key) {
            self.settings.push((key.to_owned(), value()));
        }
    }
}

/// What a command of the program came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub complaint: String,
}

/// A running server. Dropping it ends it and removes what it stored; if the test is failing its log is printed.
#[derive(Debug)]
pub struct Server {
    // Before the directory: the server ends before its files go.
    service: Service,
    scratch: Scratch,
    options: Options,
    url: String,
}

impl Server {
    /// Starts a server with an empty database and an empty store, unless the options name others, and waits until it
    /// takes connections.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let scratch = Scratch::new("server");
        let options = options.completed(&scratch);
        let (service, url) = launch(&scratch, &options);
        Self { service, scratch, options, url }
    }

    /// Starts a server that must refuse to serve, and returns what it says.
    #[must_use]
    pub fn start_refused(options: Options) -> String {
        let scratch = Scratch::new("server");
        let options = options.completed(&scratch);
        run_refused(&mut command(&scratch, &options, &["serve"]))
    }

    /// Starts another server on the same database and the same objects.
    ///
    /// # Panics
    /// Where the objects are files: those have one server.
    #[must_use]
    pub fn replica(&self) -> Self {
        self.replica_with(|options| options)
    }

    /// As [`Server::replica`], with other options in some things.
    ///
    /// # Panics
    /// Where the objects are files: those have one server.
    #[must_use]
    pub fn replica_with(&self, change: impl FnOnce(Options) -> Options) -> Self {
        assert!(self.options.has("storage.s3."), "files have one server");
        let scratch = Scratch::new("replica");
        let data = scratch.join("data").display().to_string();
        let options = self.options.clone().set("http.address", "127.0.0.1:0").set("storage.path", &data);
        let options = change(options);
        let (service, url) = launch(&scratch, &options);
        Self { service, scratch, options, url }
    }

    /// The program that is started.
    #[must_use]
    pub fn binary() -> PathBuf {
        binary()
    }

    /// The root of its API, such as `http://127.0.0.1:43210`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Host and port, as in an image's name: `127.0.0.1:43210`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_scheme, address)| address)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// The directory that holds its objects, the value of `storage.path`.
    #[must_use]
    pub fn storage_directory(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// The URL of its database.
    #[must_use]
    pub fn database_url(&self) -> &str {
        let url = self.options.settings.iter().rev().find(|(key, _)| key == "database.url");
        url.map(|(_, value)| value.as_str()).expect("every server is given a database")
    }

    /// What it has logged since the test began.
    #[must_use]
    pub fn log(&self) -> String {
        self.service.log()
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&mut self) {
        self.service.kill9();
    }

    /// Ends it with SIGTERM and waits until it has drained.
    pub fn terminate(&mut self) -> ExitStatus {
        self.service.terminate()
    }

    /// Sends it a signal by its name, such as `HUP`.
    pub fn signal(&self, signal: &str) {
        self.service.signal(signal);
    }

    /// Runs another command of the program to its end, with this server's settings: `run(&["fsck"])`.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Said {
        let mut command = command(&self.scratch, &self.options, arguments);
        let output = command.stdin(Stdio::null()).output();
        let Output { status, stdout, stderr } =
            output.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: status.code(), output: text(&stdout), complaint: text(&stderr) }
    }

    /// Starts it again on the same data and the same address, after [`Server::kill9`] or [`Server::terminate`].
    pub fn restart(&mut self) {
        let address = self.address().to_owned();
        self.options = self.options.clone().set("http.address", &address);
        let (service, url) = launch(&self.scratch, &self.options);
        self.service = service;
        assert_eq!(url, self.url, "the server came back on another address than the one it was given");
    }
}

fn launch(scratch: &Scratch, options: &Options) -> (Service, String) {
    let (said, log) = (scratch.join("stdout"), scratch.join("stderr"));
    let output = File::create(&said).unwrap_or_else(|error| panic!("cannot create {}: {error}", said.display()));
    let mut command = command(scratch, options, &["serve"]);
    let mut service = Service::start("longshore", command.stdout(output), &log, "TERM");
    let url = service.wait_until("listening", || announced_url(&said));
    (service, url)
}

fn command(scratch: &Scratch, options: &Options, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(scratch.path());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LONGSHORE_")) {
        command.env_remove(name); // the tests say what the settings are, not the caller's shell
    }
    for (key, value) in last_of_each(&options.settings) {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    if let Some(skew) = &options.skew {
        command.env("LD_PRELOAD", faketime()).env("FAKETIME", skew).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
    command
}

/// The library that gives a program another time of day. Its wrapper, `faketime`, would stay between us and the server.
fn faketime() -> PathBuf {
    let architectures = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    architectures
        .map(|architecture| architecture.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.is_file())
        .expect("libfaketime is missing: run ./test, which installs what tests need")
}

/// The settings with only the last value of each key.
fn last_of_each(settings: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    let overruled = |index: usize, key: &str| settings[index + 1..].iter().any(|(later, _)| later == key);
    settings.iter().enumerate().filter(move |(index, (key, _))| !overruled(*index, key)).map(|(_, setting)| setting)
}

/// The address in the first whole line with one on the server's standard output.
fn announced_url(said: &Path) -> Option<String> {
    let text = fs::read_to_string(said).ok()?;
    let whole_lines = &text[..text.rfind('\n')?];
    let start = whole_lines.find("http://").or_else(|| whole_lines.find("https://"))?;
    let is_end = |character: char| character.is_whitespace() || "\"'`,;)".contains(character);
    whole_lines[start..].split(is_end).next().map(|url| url.trim_end_matches(['/', '.']).to_owned())
}

/// The server's binary: the one named by `LONGSHORE_BIN`, else the one that cargo built beside this test.
fn binary() -> PathBuf {
    if let Some(path) = env::var_os("LONGSHORE_BIN") {
        return PathBuf::from(path);
    }
    let test = env::current_exe().expect("the test knows its own path");
    let profile = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let binary = profile.join("longshore");
    assert!(binary.is_file(), "{} is not built: run cargo build -p longshore-server", binary.display());
    binary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_first_whole_line_that_names_one() {
        let scratch = Scratch::new("announced");
        let said = scratch.join("stdout");
        let read = |text: &str| {
            fs::write(&said, text).expect("the directory is this test's own");
            announced_url(&said)
        };
        assert_eq!(read(""), None);
        assert_eq!(read("listening on http://127.0.0.1:43"), None, "the line is not whole yet");
        assert_eq!(
            read("longshore 0.1\nserving http://127.0.0.1:4321 from ./data\n").unwrap(),
            "http://127.0.0.1:4321"
        );
        assert_eq!(read("https://127.0.0.1:4321/\nhttps://127.0.0.1:1\n").unwrap(), "https://127.0.0.1:4321");
    }

    #[test]
    fn a_later_setting_overrules_an_earlier_one() {
        let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let settings = [setting("a", "1"), setting("b", "2"), setting("a", "3")];
        let kept: Vec<_> = last_of_each(&settings).collect();
        assert_eq!(kept, [&settings[1], &settings[2]]);
    }
}
