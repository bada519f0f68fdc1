//! Ends services and removes directories when the test process ends.
//!
//! A `Drop` does so for everything that a test owns, but statics are never dropped and a killed process drops nothing.
//! So a shell watches over the test process: it holds the list of what is alive and acts when its standard input ends.
//! `PR_SET_PDEATHSIG` is of no use for this: it fires when the *thread* that spawned the child ends, and tests are threads.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

const SCRIPT: &str = include_str!("reaper.sh");

static WATCHER: LazyLock<Mutex<Child>> = LazyLock::new(|| {
    let watcher = shell("watch")
        .stdin(Stdio::piped())
        .process_group(0) // out of reach of the terminal's Ctrl-C, which must not end the watcher first
        .spawn()
        .expect("`sh` starts");
    Mutex::new(watcher)
});

fn shell(mode: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "reaper.sh", mode]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn tell(line: &str) {
    let mut watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
    let input = watcher.stdin.as_mut().expect("the watcher was spawned with a pipe");
    writeln!(input, "{line}").expect("the watcher outlives the test process");
}

/// Sends `signal` (a name such as `TERM`) to `pid` when this process ends, unless it is forgotten before.
pub fn watch(pid: u32, signal: &str) {
    tell(&format!("watch {pid} {signal}"));
}

/// Takes a process off the list: it has been waited for, and its id may soon be another's.
pub fn forget(pid: u32) {
    tell(&format!("forget {pid}"));
}

/// Removes `directory` when this process ends, after the services have ended.
pub fn remove_at_end(directory: &Path) {
    tell(&format!("remove {}", directory.display()));
}

/// Removes `directory` now, and first unmounts what container engines have left mounted below it.
pub fn remove_tree(directory: &Path) {
    let status = shell("remove").arg(directory).status().expect("`sh` starts");
    if !status.success() {
        eprintln!("{} could not be removed", directory.display());
    }
}
