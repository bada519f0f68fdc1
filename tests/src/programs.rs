//! The programs that tests run: where they are, and what they said when they failed.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use crate::scratch::target_directory;

/// The program `name`, from the target directory's `tools` or from `PATH`.
///
/// # Panics
/// When it is nowhere: a test that cannot run must not pass.
#[must_use]
pub fn program(name: &str) -> Command {
    Command::new(path_of(name))
}

/// Where the program `name` is; see [`program`].
#[must_use]
pub fn path_of(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // dockerd and its like live in directories that a login shell of a plain user leaves out.
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    [target_directory().join("tools")]
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("the program `{name}` is missing: run ./test, which installs what tests need"))
}

/// Refuses to go on as a plain user, for a program that only root may run.
pub fn require_root(program: &str) {
    assert!(runs_as_root(), "{program} needs root: run ./test as root, or in a container of your own");
}

/// Whether this process runs as root.
#[must_use]
pub fn runs_as_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}

/// Runs a command that must succeed and returns its standard output.
pub fn run(command: &mut Command) -> String {
    let output = output_of(command);
    assert!(output.status.success(), "{}", account(command, &output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that must fail and returns everything that it said.
pub fn run_refused(command: &mut Command) -> String {
    let output = output_of(command);
    assert!(!output.status.success(), "should have failed: {}", account(command, &output));
    [output.stdout, output.stderr].map(|stream| String::from_utf8_lossy(&stream).into_owned()).concat()
}

fn output_of(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

fn account(command: &Command, output: &Output) -> String {
    let name = command.get_program().to_string_lossy();
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    format!(
        "{name} {}\n{}\n--- standard output\n{}\n--- standard error\n{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
