//! The program's subcommands, and what it says when it cannot begin.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::Blob;
use longshore_tests::on_both;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};

use crate::INLINE_MAX;

on_both!(
    a_schema_is_planned_and_brought_up_to_date,
    a_second_server_on_the_same_directory_refuses,
    what_is_in_force_is_shown_without_secrets,
    a_public_address_without_a_login_is_refused,
    a_command_that_nobody_reads_any_more_ends_quietly,
);

/// The program in a directory, without settings from whoever runs the tests.
fn longshore(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(Server::binary());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LONGSHORE_")) {
        command.env_remove(name);
    }
    command.current_dir(directory).args(arguments).stdin(Stdio::null());
    command
}

/// Runs to the end: exit code, standard output, standard error.
fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code().expect("no signal ended it"), text(&stdout), text(&stderr))
}

pub(crate) fn run(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    outcome(&mut longshore(directory, arguments))
}

async fn a_schema_is_planned_and_brought_up_to_date(backend: Backend) {
    let home = Scratch::new("migrate");
    let url = format!("database.url={}", backend.new_database(home.path()));
    let storage = format!("storage.path={}", home.join("data").display());
    let migrate = |action: &str| run(home.path(), &["migrate", action, "--set", &url, "--set", &storage]);

    let (code, said, _) = migrate("check");
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("are to come: run longshore migrate up"), "{said}");
    let (code, planned, _) = migrate("plan");
    assert_eq!(code, 0);
    assert!(planned.starts_with("to come 0001 ") && !planned.contains("applied"), "{planned}");
    let (code, _, _) = migrate("check");
    assert_eq!(code, 3, "a plan changes nothing");

    let (code, applied, complaint) = migrate("up");
    assert_eq!((code, complaint.as_str()), (0, ""));
    assert_eq!(applied, planned.replace("to come", "applied"));
    let up_to_date = (0, "the schema is up to date\n".to_owned(), String::new());
    assert_eq!(migrate("check"), up_to_date);
    assert_eq!(migrate("up"), up_to_date);
    assert_eq!(migrate("plan").1, applied);
}

async fn a_second_server_on_the_same_directory_refuses(backend: Backend) {
    let mut server = Server::start(Options::on(backend));
    let home = Scratch::new("second");
    let storage = format!("storage.path={}", server.storage_directory().display());
    let url = format!("database.url={}", server.database_url());
    let arguments = ["serve", "--set", "http.address=127.0.0.1:0", "--set", &storage, "--set", &url];
    let (code, _, complaint) = run(home.path(), &arguments);
    assert_eq!(code, 1);
    assert!(complaint.contains("is in use by another longshore"), "{complaint}");
    assert!(complaint.contains("storage.path"), "it says what to change: {complaint}");
    server.kill9();
    server.restart();
}

/// It would miss what the first one holds, and take it for damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_with_a_folder_of_its_own_refuses() {
    let server = Server::start(Options::on(Backend::Postgres));
    let client = Client::new(server.url());
    let blob = Blob::random(INLINE_MAX + 1);
    client.push_blob("app", &blob).await;
    let home = Scratch::new("elsewhere");
    let storage = format!("storage.path={}", home.join("data").display());
    let url = format!("database.url={}", server.database_url());
    let settings = ["--set", "http.address=127.0.0.1:0", "--set", &storage, "--set", &url];
    let assert_refused = |command: &[&str]| {
        let (code, _, complaint) = run(home.path(), &[command, &settings].concat());
        assert_eq!(code, 1, "{command:?}: {complaint}");
        for told in ["in another store", "storage.s3", "store_mark"] {
            assert!(complaint.contains(told), "{command:?}: {told} is not in {complaint}");
        }
    };
    assert_refused(&["serve"]);
    assert_refused(&["serve"]);
    assert_refused(&["gc"]);
    assert_refused(&["scrub"]);
    assert_refused(&["fsck", "--repair"]);
    assert!(client.blob("app", &blob.digest).await == blob.bytes, "the first server goes on");
}

async fn what_is_in_force_is_shown_without_secrets(backend: Backend) {
    let home = Scratch::new("show");
    let (scheme, secret) = match backend {
        Backend::Sqlite => ("sqlite:longshore.db", None),
        Backend::Postgres | Backend::S3 => {
            ("postgres://me:canary-password@127.0.0.1/longshore", Some("canary-password"))
        }
    };
    fs::write(home.join("longshore.yaml"), format!("database:\n  url: {scheme}\nlog:\n  level: warn\n"))
        .expect("the directory is this test's own");
    let mut show = longshore(home.path(), &["config", "show", "-c", "longshore.yaml", "-s", "gc.interval=5m"]);
    let (code, shown, complaint) = outcome(show.env("LONGSHORE_LIMITS__RANGES", "77"));
    assert_eq!((code, complaint.as_str()), (0, ""));
    let line = |key: &str| {
        let line = shown.lines().find(|line| line.trim_start().starts_with(key));
        line.unwrap_or_else(|| panic!("no {key} in {shown}")).to_owned()
    };
    assert!(line("level:").contains("warn") && line("level:").contains("longshore.yaml:4"), "{shown}");
    assert!(line("ranges:").contains("77") && line("ranges:").contains("LONGSHORE_LIMITS__RANGES"), "{shown}");
    assert!(line("interval:").contains("5m") && line("interval:").contains("flag"), "{shown}");
    assert!(!line("page_size:").contains('#'), "a default has no origin: {shown}");
    assert!(secret.is_none_or(|secret| !shown.contains(secret)), "{shown}");

    let (_, complaints, _) = run(home.path(), &["config", "check", "-c", "longshore.yaml"]);
    assert_eq!(complaints, "the settings are fine\n");
}

async fn a_public_address_without_a_login_is_refused(backend: Backend) {
    let home = Scratch::new("public");
    let url = format!("database.url={}", backend.new_database(home.path()));
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:5000", "[::ffff:192.0.2.1]:5000"] {
        let setting = format!("http.address={address}");
        for arguments in [vec!["serve"], vec![], vec!["config", "check"]] {
            let expected = if arguments.contains(&"config") { 3 } else { 1 };
            let arguments = [arguments, vec!["--set", &setting, "--set", &url]].concat();
            let (code, said, complaint) = run(home.path(), &arguments);
            assert_eq!((code, said.as_str()), (expected, ""), "{arguments:?}: {complaint}");
            assert!(complaint.contains("nobody would be asked to log in"), "{complaint}");
            for way_out in ["listen on 127.0.0.1", "auth.htpasswd", "auth.open"] {
                assert!(complaint.contains(way_out), "{complaint}");
            }
        }
        let (code, ..) = run(home.path(), &["config", "check", "--set", &setting, "--set", "auth.open=true"]);
        assert_eq!(code, 0, "{address} when it is said to be meant so");
    }
    assert!(!home.join("data").exists(), "nothing was made");
}

/// As in `longshore du | head`.
async fn a_command_that_nobody_reads_any_more_ends_quietly(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    client.push_blob("app", &Blob::random(10)).await;
    let home = Scratch::new("unread");
    let url = format!("database.url={}", server.database_url());
    let storage = format!("storage.path={}", home.join("data").display());
    let settings = ["--set", &url, "--set", &storage];
    let commands =
        ["gc --dry-run", "gc --dry-run --output json", "du", "scrub --list --output json", "config reference"];
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').chain(settings).collect();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let (code, _, complaint) = outcome(longshore(home.path(), &arguments).stdout(writer));
        assert_eq!((code, complaint.as_str()), (0, ""), "{command}");
    }
}

#[test]
fn a_key_that_does_not_exist_is_told_where_and_what_instead() {
    let home = Scratch::new("unknown");
    fs::write(home.join("longshore.yaml"), "# mine\nhttp:\n  adress: 127.0.0.1:5000\n").expect("own directory");
    for (arguments, expected) in [(vec!["config", "check"], 3), (vec!["serve"], 1), (vec!["migrate", "plan"], 1)] {
        let (code, _, complaint) = run(home.path(), &[arguments, vec!["--config", "longshore.yaml"]].concat());
        assert_eq!(code, expected, "{complaint}");
        assert!(
            complaint.contains("longshore.yaml:3:3: unknown key \"http.adress\": did you mean \"http.address\"?"),
            "{complaint}"
        );
    }
    let (code, _, complaint) = run(home.path(), &["config", "check", "--set", "http.adress=127.0.0.1:5000"]);
    assert_eq!(code, 3);
    assert!(complaint.contains("flag: unknown key \"http.adress\": did you mean \"http.address\"?"), "{complaint}");
    let mut by_environment = longshore(home.path(), &["config", "check"]);
    let (code, _, complaint) = outcome(by_environment.env("LONGSHORE_HTTP__ADRESS", "127.0.0.1:5000"));
    assert_eq!(code, 3);
    assert!(
        complaint.contains("LONGSHORE_HTTP__ADRESS") && complaint.contains("LONGSHORE_HTTP__ADDRESS"),
        "{complaint}"
    );
    let (code, _, complaint) = run(home.path(), &["config", "check", "--config", "not-there.yaml"]);
    assert_eq!(code, 3);
    assert!(complaint.contains("not-there.yaml: cannot read the settings file"), "{complaint}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let home = Scratch::new("mistakes");
    let (code, _, complaint) =
        run(home.path(), &["config", "check", "-s", "limits.ranges=0", "-s", "gc.promise=60", "-s", "x=y"]);
    assert_eq!(code, 3);
    assert!(complaint.contains("gc.promise") && complaint.contains("unknown key \"x\""), "{complaint}");
    assert_eq!(run(home.path(), &["config", "check", "-s", "no-value"]).0, 2);
    assert_eq!(run(home.path(), &["serf"]).0, 2);
}

#[test]
fn the_reference_is_a_file_of_settings() {
    let home = Scratch::new("reference");
    let (code, reference, _) = run(home.path(), &["config", "reference"]);
    assert_eq!(code, 0);
    assert!(reference.starts_with("# Every setting of Longshore with its default."), "{reference}");
    fs::write(home.join("reference.yaml"), reference).expect("the directory is this test's own");
    let fine = (0, "the settings are fine\n".to_owned(), String::new());
    assert_eq!(run(home.path(), &["config", "check", "-c", "reference.yaml"]), fine);
}

#[test]
fn what_cannot_be_read_at_the_start_is_named() {
    let home = Scratch::new("start");
    for (settings, named) in [
        (vec!["auth.htpasswd=no-such-file"], "no-such-file"),
        (vec!["http.tls.certificate=no.crt", "http.tls.key=no.key"], "no.crt"),
        (vec!["log.level=nonsense=x=y"], "log.level"),
        (vec!["storage.path=/proc/nowhere"], "storage.path"),
        (vec!["database.url=postgres://x@127.0.0.1:1/x"], "database.url"),
    ] {
        let mut command = longshore(home.path(), &["serve", "--set", "http.address=127.0.0.1:0"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let (code, _, complaint) = outcome(&mut command);
        assert_eq!(code, 1, "{complaint}");
        assert!(complaint.contains(named), "{named}: {complaint}");
        assert!(complaint.starts_with("longshore: "), "{complaint}");
    }
}
