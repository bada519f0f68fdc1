//! What the process takes of its machine, under the names that all of Prometheus' client libraries use. The kernel is asked
//! at each look (`/proc`); what it does not tell is left out.

use super::numbers::Numbers;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use rustix::process::{Resource, getrlimit};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, fs};

/// The unit of CPU time in `/proc`, for programs of every architecture that we are built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The numbers of this process.
#[derive(Debug)]
pub(crate) struct ProcessMetrics {
    /// In seconds since 1970.
    started: f64,
}

impl ProcessMetrics {
    /// To be called when the process starts.
    pub(crate) fn starting_now() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: started.as_secs_f64() }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut numbers = Numbers::new(encoder);
        numbers.gauge("process_start_time_seconds", "When the process started, since 1970", self.started)?;
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds) {
            numbers.counter("process_cpu_seconds", "CPU time, of the process and of the kernel for it", seconds)?;
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(bytes) = memory(&status, "VmRSS:") {
            numbers.gauge("process_resident_memory_bytes", "Memory that it has", bytes)?;
        }
        if let Some(bytes) = memory(&status, "VmSize:") {
            numbers.gauge(
                "process_virtual_memory_bytes",
                "Addresses that it has: mapped files are among them",
                bytes,
            )?;
        }
        // The list is one of them while it is read.
        if let Some(files) = fs::read_dir("/proc/self/fd").ok().and_then(|files| files.count().checked_sub(1)) {
            numbers.gauge("process_open_fds", "Open files and connections", files as u64)?;
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            numbers.gauge("process_max_fds", "How many it may have open", limit)?;
        }
        Ok(())
    }
}

/// User and system time: the twelfth and thirteenth field after the program's name, which ends with the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().ok());
    let ticks = ticks.collect::<Option<Vec<_>>>().filter(|ticks| ticks.len() == 2)?;
    Some(ticks.iter().sum::<u64>() as f64 / TICKS_PER_SECOND)
}

/// A line such as `VmRSS:     1234 kB`, in bytes.
fn memory(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let fields = "S 1 7 7 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 4 0 12345";
        assert_eq!(cpu_seconds(&format!("7 (longshore) {fields}")), Some(3.0));
        assert_eq!(cpu_seconds(&format!("7 (a) b) (c) {fields}")), Some(3.0));
        for broken in ["", "7 (longshore)", "7 (longshore) S 1 2 3", "7 (longshore) S 1 7 7 0 -1 4 1 2 3 4 x 50"] {
            assert_eq!(cpu_seconds(broken), None, "{broken}");
        }
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tlongshore\nVmSize:\t  123456 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(memory(status, "VmRSS:"), Some(1_024_000));
        assert_eq!(memory(status, "VmHWM:"), None);
        assert_eq!(memory("VmRSS:\tmany kB", "VmRSS:"), None);
    }
}
