//! Owns the readings of `/proc`: what a server and its child processes have used of the processors and of memory.
//!
//! A server is the tree below its pid, so that a master with workers (nginx) counts as one. Several pids may be given
//! (a registry and its database) and are added up.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The unit of times in `/proc/PID/stat`. Linux fixes it at 1/100 s towards user space on every architecture it
/// shares with us (`USER_HZ`), so it needs no call into the C library.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// What a tree of processes has used, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// User and system time of all threads, of living children, and of children that were waited for.
    pub(crate) cpu: Duration,
    /// The sum of `VmRSS`. Pages that processes share count once for each.
    pub(crate) resident_bytes: u64,
    /// The sum of `VmHWM`: an upper bound when there are several processes, for they may peak at different moments.
    pub(crate) peak_bytes: u64,
}

/// A server, given by the pids of its topmost processes.
#[derive(Debug)]
pub(crate) struct ServerProcesses {
    roots: Vec<u32>,
}

impl ServerProcesses {
    /// Fails unless every pid is a living process that may be read.
    pub(crate) fn new(roots: Vec<u32>) -> Result<Self> {
        let processes = Self { roots };
        processes.usage()?;
        Ok(processes)
    }

    /// Reads what the whole tree has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for pid in self.tree()? {
            let (Some(stat), Some(memory)) = (read_stat(pid)?, read_memory(pid)?) else {
                // A child that ended meanwhile: its time is in its parent's account. A missing root is an error.
                ensure!(!self.roots.contains(&pid), "process {pid} is not running");
                continue;
            };
            usage.cpu += stat.cpu;
            usage.resident_bytes += memory.resident_bytes;
            usage.peak_bytes += memory.peak_bytes;
        }
        Ok(usage)
    }

    /// Sets `VmHWM` back to the present size, so that the next reading tells the peak since now. False if the kernel
    /// does not let us: then peaks are those since each process began.
    pub(crate) fn reset_peak(&self) -> Result<bool> {
        let mut all_reset = true;
        for pid in self.tree()? {
            all_reset &= fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok();
        }
        Ok(all_reset)
    }

    fn tree(&self) -> Result<Vec<u32>> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").context("cannot list /proc: the load test runs on Linux")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if let Some(stat) = read_stat(pid)? {
                children.entry(stat.parent).or_default().push(pid);
            }
        }
        let mut tree = Vec::new();
        let mut waiting = self.roots.clone();
        while let Some(pid) = waiting.pop() {
            // One root may be a descendant of another.
            if !tree.contains(&pid) {
                tree.push(pid);
                waiting.extend(children.get(&pid).into_iter().flatten());
            }
        }
        Ok(tree)
    }
}

/// The processor time of this very process, all threads.
pub(crate) fn own_cpu() -> Result<Duration> {
    let stat = read_stat(std::process::id())?.context("/proc does not show this process")?;
    Ok(stat.cpu)
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    cpu: Duration,
}

#[derive(Debug, PartialEq, Eq)]
struct Memory {
    resident_bytes: u64,
    peak_bytes: u64,
}

fn read_stat(pid: u32) -> Result<Option<Stat>> {
    let Some(text) = read_of_living(pid, "stat")? else {
        return Ok(None);
    };
    parse_stat(&text).with_context(|| format!("cannot understand /proc/{pid}/stat")).map(Some)
}

fn read_memory(pid: u32) -> Result<Option<Memory>> {
    let Some(text) = read_of_living(pid, "status")? else {
        return Ok(None);
    };
    Ok(Some(parse_status(&text)))
}

fn read_of_living(pid: u32, file: &str) -> Result<Option<String>> {
    let path = format!("/proc/{pid}/{file}");
    match fs::read(&path) {
        // A process may name itself in any bytes.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // ESRCH: the process ended between opening and reading.
        Err(error) if error.raw_os_error() == Some(3) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

/// Reads one line of `proc_pid_stat(5)`. The second field is the program's name in parentheses and may itself hold
/// spaces and parentheses, so fields are counted from the last closing one.
fn parse_stat(text: &str) -> Result<Stat> {
    let (_, fields) = text.rsplit_once(')').context("no program name in parentheses")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // proc_pid_stat(5) numbers fields from 1; the first after the name is number 3.
    let number = |field: usize| -> Result<u64> {
        let text = fields.get(field - 3).with_context(|| format!("field {field} is missing"))?;
        text.parse().with_context(|| format!("field {field} is no number: {text:?}"))
    };
    let parent = u32::try_from(number(4)?).context("field 4 is no pid")?;
    let mut ticks = 0u64;
    for field in 14..=17 {
        ticks = ticks.checked_add(number(field)?).context("more ticks than a u64 holds")?;
    }
    let ticks = u32::try_from(ticks).context("more than 497 days of processor time")?;
    Ok(Stat { parent, cpu: CLOCK_TICK * ticks })
}

/// Reads `VmRSS` and `VmHWM`. Kernel threads and ended processes have none: zero.
fn parse_status(text: &str) -> Memory {
    let mut memory = Memory { resident_bytes: 0, peak_bytes: 0 };
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let kibibytes = value.trim().strip_suffix(" kB").and_then(|digits| digits.trim().parse::<u64>().ok());
        let bytes = kibibytes.unwrap_or(0).saturating_mul(1024);
        match name {
            "VmRSS" => memory.resident_bytes = bytes,
            "VmHWM" => memory.peak_bytes = bytes,
            _ => {}
        }
    }
    memory
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stat_line_is_read_from_the_last_parenthesis() {
        let line = "4242 (a (strange) name 1 2) S 17 4242 4242 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 9 0 100 200 300";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat, Stat { parent: 17, cpu: Duration::from_millis(2500) });
    }

    #[test]
    fn a_short_or_odd_stat_line_is_an_error() {
        for line in ["", "1 (x)", "1 (x) S 1 2 3", "1 (x) S a 1 1 0 -1 0 1 2 3 4 1 1 1 1", "1 (x) S -1 1 1 0 -1 0 1"] {
            assert!(parse_stat(line).is_err(), "{line:?} was accepted");
        }
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "Name:\tVmRSS\nVmPeak:\t  999 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        assert_eq!(parse_status(text), Memory { resident_bytes: 1 << 20, peak_bytes: 2 << 20 });
        assert_eq!(parse_status("Name:\tkthreadd\n"), Memory { resident_bytes: 0, peak_bytes: 0 });
    }

    #[test]
    fn this_process_can_be_read_and_a_missing_one_is_an_error() {
        let usage = ServerProcesses::new(vec![std::process::id()]).unwrap().usage().unwrap();
        assert!(usage.resident_bytes > 0);
        assert!(usage.peak_bytes >= usage.resident_bytes / 2);
        // Beyond the largest pid that Linux gives out (2^22).
        assert!(ServerProcesses::new(vec![u32::MAX]).is_err());
    }

    #[test]
    fn a_child_process_belongs_to_the_tree() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let tree = ServerProcesses { roots: vec![std::process::id()] }.tree().unwrap();
        let found = tree.contains(&child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found, "{tree:?} lacks the child");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>(), numbers in proptest::collection::vec(any::<i64>(), 0..30)) {
            let _ = parse_stat(&text);
            let _ = parse_status(&text);
            let fields: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let _ = parse_stat(&format!("1 (x) S {}", fields.join(" ")));
        }
    }
}
