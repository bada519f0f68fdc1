//! The most memory that the server has had at one time.

use std::fs;

use longshore_tests::server::Server;

use crate::MIB;

/// How much more than when idle the server may take, in bytes.
pub(crate) const ALLOWED: u64 = 64 * MIB;

/// Watches a server that has been idle when this began.
#[derive(Debug)]
pub(crate) struct Watch {
    process: u32,
    idle: u64,
}

impl Watch {
    pub(crate) fn begin(server: &Server) -> Self {
        let process = server.pid();
        // "5" resets the high-water mark to what is resident now: see proc_pid_clear_refs(5).
        fs::write(format!("/proc/{process}/clear_refs"), "5").expect("the server is this user's");
        Self { process, idle: memory(process, "VmRSS") }
    }

    /// Sees that the server never had more than allowed, and prints what it had.
    pub(crate) fn assert_bounded(&self, doing: &str) {
        let extra = memory(self.process, "VmHWM").saturating_sub(self.idle);
        println!("{doing}: {} MiB when idle, at most {} MiB more", self.idle / MIB, extra / MIB);
        assert!(extra < ALLOWED, "{doing}: {extra} bytes more than when idle");
    }
}

/// A line of the process's status, in bytes.
fn memory(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the server is alive");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or_else(|| panic!("no {name} in {status}")) * 1024
}
