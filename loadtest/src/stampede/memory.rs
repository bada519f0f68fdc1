//! Owns the samples of a server's memory while it works. The kernel's `VmHWM` knows the peak; the samples tell when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::ServerProcesses;

/// Rare enough to cost next to nothing: each look lists all processes.
const PERIOD: Duration = Duration::from_millis(200);

/// One look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Since the first look.
    pub(super) at: Duration,
    pub(super) resident_bytes: u64,
}

/// Looks until it is stopped.
pub(super) struct MemorySampler {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Sample>>>,
}

impl MemorySampler {
    pub(super) fn start(server: ServerProcesses) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let look = move || {
            let (began, mut samples) = (Instant::now(), Vec::new());
            while !over.load(Ordering::Relaxed) {
                let resident_bytes = server.usage()?.resident_bytes;
                samples.push(Sample { at: began.elapsed(), resident_bytes });
                thread::park_timeout(PERIOD);
            }
            Ok(samples)
        };
        let thread = thread::Builder::new().spawn(look).context("cannot start the sampling of memory")?;
        Ok(Self { is_over, thread })
    }

    /// Ends it and answers what it saw.
    pub(super) fn stop(self) -> Result<Vec<Sample>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_sampled() {
        let server = ServerProcesses::new(vec![std::process::id()]).unwrap();
        let sampler = MemorySampler::start(server).unwrap();
        // The first look is made before it can be told to end, or not at all.
        let samples = sampler.stop().unwrap();
        assert!(samples.iter().all(|sample| sample.resident_bytes > 0));
    }
}
