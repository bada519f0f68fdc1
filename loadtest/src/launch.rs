//! Owns the programs that the load test starts itself: their command lines, their end, and when they answer.
//!
//! A process is ended when its guard is dropped, by its own pid and never by a name. If the load test itself is killed,
//! the kernel asks its processes to end, where `setpriv` of util-linux is there to arrange that.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Connection, Method, Request};
use crate::target::Target;

/// A program that has not answered for so long after its start has failed.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A program that was asked to end may take so long; then it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How often is looked whether a program answers or has ended.
const POLL: Duration = Duration::from_millis(1);
/// How much of a failed program's output is shown.
const SHOWN_OUTPUT_BYTES: usize = 1000;

/// A command line that can be run again and again.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    /// The user and group to run as, if not ours.
    identity: Option<(u32, u32)>,
    /// Which signal asks it to end.
    stop_signal: Signal,
    /// What it says goes to the end of this file.
    output: PathBuf,
}

impl Launch {
    /// The program, without arguments yet; what it says goes into the file `output`.
    pub(crate) fn new(program: &Path, output: &Path) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            identity: None,
            stop_signal: Signal::TERM,
            output: output.to_owned(),
        }
    }

    /// One more argument.
    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// One more variable of an environment that otherwise holds `PATH` and `HOME` alone.
    pub(crate) fn variable(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name, value.as_ref().to_owned()));
        self
    }

    /// Runs it as another user and group.
    pub(crate) fn identity(mut self, identity: Option<(u32, u32)>) -> Self {
        self.identity = identity;
        self
    }

    /// Ends it by another signal than SIGTERM.
    pub(crate) fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Result<OwnedProcess> {
        let output = self.open_output()?;
        let errors = output.try_clone().context("cannot share the output file")?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(OwnedProcess { child, launch: self.clone() })
    }

    /// Runs it to its end and fails unless it succeeds.
    pub(crate) fn run(&self) -> Result<()> {
        let mut process = self.start()?;
        let status = process.child.wait().with_context(|| format!("cannot wait for {}", self.program.display()))?;
        if !status.success() {
            bail!("{} failed ({status}): {}", self.program.display(), self.last_words());
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = match find_program("setpriv", &[]) {
            // It becomes the program, so the pid stays.
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                let signal = if self.stop_signal == Signal::INT { "INT" } else { "TERM" };
                command.args(["--pdeathsig", signal, "--"]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.args(&self.arguments).env_clear();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        if let Some((user, group)) = self.identity {
            command.uid(user).gid(group).current_dir("/");
        }
        command
    }

    fn open_output(&self) -> Result<File> {
        let opened = OpenOptions::new().create(true).append(true).open(&self.output);
        opened.with_context(|| format!("cannot write {}", self.output.display()))
    }

    fn last_words(&self) -> String {
        let said = std::fs::read(&self.output).unwrap_or_default();
        let shown = &said[said.len().saturating_sub(SHOWN_OUTPUT_BYTES)..];
        String::from_utf8_lossy(shown).trim().to_owned()
    }
}

/// A process that we started. Dropping it ends it and waits for that.
#[derive(Debug)]
pub(crate) struct OwnedProcess {
    child: Child,
    launch: Launch,
}

impl OwnedProcess {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the registry in it answers `GET /v2/` with 200.
    pub(crate) fn wait_for_registry(&mut self, target: &Target) -> Result<()> {
        self.wait_for_path(target, "/v2/", start_deadline())
    }

    /// Waits until a GET of this path is answered with 200.
    pub(crate) fn wait_for_path(&mut self, target: &Target, path: &str, limit: Instant) -> Result<()> {
        let mut connection = Connection::new(target, limit);
        let question = Request { method: Method::Get, path, headers: "", expected_status: 200 };
        self.wait_until(limit, || connection.ask(&question).is_ok())
    }

    /// Waits until `check` says yes, the program has ended or its time is up.
    pub(crate) fn wait_until(&mut self, limit: Instant, mut check: impl FnMut() -> bool) -> Result<()> {
        let program = self.launch.program.display();
        while !check() {
            if let Some(status) = self.child.try_wait().with_context(|| format!("cannot wait for {program}"))? {
                bail!("{program} ended at once ({status}): {}", self.launch.last_words());
            }
            if Instant::now() >= limit {
                bail!("{program} does not answer: {}", self.launch.last_words());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

/// When a program that starts now must have answered.
pub(crate) fn start_deadline() -> Instant {
    Instant::now() + START_LIMIT
}

impl Drop for OwnedProcess {
    fn drop(&mut self) {
        // Until it has been waited for, its pid belongs to nobody else.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // A master process ends its workers only when it is asked; killing it would leave them behind.
        let asked = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let asked = asked.is_some_and(|pid| kill_process(pid, self.launch.stop_signal).is_ok());
        let limit = Instant::now() + STOP_LIMIT;
        while asked && Instant::now() < limit {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(POLL),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        // It has ended meanwhile, or this ends it: nothing is left to be done about an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(listener.local_addr().context("cannot find a free port")?.port())
}

/// A program by its name in `PATH` or in one of these folders.
pub(crate) fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let searched = folders.iter().cloned().chain(std::env::split_paths(&path));
    searched.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> PathBuf {
        std::env::temp_dir().join(format!("longshore-loadtest-launch-{}", std::process::id()))
    }

    #[test]
    fn a_process_is_ended_with_its_guard() {
        let sleep = find_program("sleep", &[]).unwrap();
        let process = Launch::new(&sleep, &output()).argument("60").start().unwrap();
        let pid = process.pid();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn what_a_failed_program_said_is_told() {
        let shell = find_program("sh", &[]).unwrap();
        let launch = Launch::new(&shell, &output()).argument("-c").argument("echo no such luck; exit 3");
        let error = launch.run().unwrap_err().to_string();
        assert!(error.contains("no such luck"), "{error}");
        let mut process = launch.start().unwrap();
        let error = process.wait_until(start_deadline(), || false).unwrap_err().to_string();
        assert!(error.contains("ended at once"), "{error}");
    }

    #[test]
    fn the_environment_is_what_was_given() {
        let shell = find_program("sh", &[]).unwrap();
        let check = "test \"$GIVEN\" = yes && test -z \"$CARGO_MANIFEST_DIR\"";
        Launch::new(&shell, &output()).argument("-c").argument(check).variable("GIVEN", "yes").run().unwrap();
    }
}
