//! A child process that serves: started, watched until it is ready, ended for certain.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::reaper;

/// How often a condition is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a service may take to become ready or to end, on the slowest machine that runs the tests.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a log is shown when a test fails, in bytes.
const SHOWN: usize = 16 * 1024;

/// A port of loopback that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A running child process. Dropping it ends it; if the test is failing, the end of its log is printed.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
    gentle_signal: &'static str,
    ended: bool,
}

impl Service {
    /// Starts `command`, with its standard error, and its standard output unless that was set, going to the file `log`.
    /// `gentle_signal` is the name of the signal that asks it to end.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, log: &Path, gentle_signal: &'static str) -> Self {
        let file = File::options().create(true).append(true).open(log);
        let file = file.unwrap_or_else(|error| panic!("cannot open {}: {error}", log.display()));
        command.stdin(Stdio::null()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        reaper::watch(child.id(), gentle_signal);
        Self { name: name.to_owned(), child, log: log.to_owned(), gentle_signal, ended: false }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until `ready` yields something.
    ///
    /// # Panics
    /// When the process ends first, or a minute passes.
    pub fn wait_until<T>(&mut self, what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(value) = ready() {
                return value;
            }
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                self.has_ended();
                panic!("{} ended ({status}) before it was {what}", self.name);
            }
            assert!(started.elapsed() < PATIENCE, "{} is not {what} after {PATIENCE:?}", self.name);
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Ends it as a power cut would: SIGKILL, nothing flushed.
    pub fn kill9(&mut self) {
        if self.ended {
            return;
        }
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
        self.has_ended();
    }

    /// Asks it to end and waits for it.
    ///
    /// # Panics
    /// When it has not ended after a minute.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(self.gentle_signal);
        self.wait_for_its_end()
    }

    /// Waits for its end, after a signal that asks for it.
    ///
    /// # Panics
    /// When it has not ended after a minute.
    pub fn wait_for_its_end(&mut self) -> ExitStatus {
        let status = self.wait_for_end();
        let status = status.unwrap_or_else(|| panic!("{} has not ended {PATIENCE:?} after a signal", self.name));
        self.has_ended();
        status
    }

    /// Sends it a signal by its name, such as `HUP`.
    pub fn signal(&self, signal: &str) {
        assert!(self.send(signal), "SIG{signal} did not reach {}", self.name);
    }

    /// By the shell's own `kill`, as the standard library sends no signal but SIGKILL.
    fn send(&self, signal: &str) -> bool {
        let arguments = ["-c", r#"kill "-$1" "$2""#, "kill", signal, &self.pid().to_string()];
        let status = Command::new("sh").args(arguments).status();
        status.is_ok_and(|status| status.success())
    }

    fn wait_for_end(&mut self) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let status = self.child.try_wait().expect("a child can be waited for");
            if status.is_some() {
                return status;
            }
            thread::sleep(LOOK_EVERY);
        }
        None
    }

    fn has_ended(&mut self) {
        self.ended = true;
        reaper::forget(self.child.id());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let from = log.ceil_char_boundary(log.len().saturating_sub(SHOWN));
            eprintln!("--- the end of the log of {}\n{}\n---", self.name, &log[from..]);
        }
        if self.ended {
            return;
        }
        // A panic in here would abort the whole test process: whatever fails, go on to the next means.
        if !self.send(self.gentle_signal) || self.wait_for_end().is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        self.has_ended();
    }
}
