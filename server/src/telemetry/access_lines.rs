//! Where access lines go: as JSON into a buffer that a thread of its own writes to standard error every few
//! milliseconds. A line per request through the general log costs a system call and a formatting machine each, more
//! than answering a small request does.

use serde::Serialize;
use std::{
    io::{Write as _, stderr},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a line may wait for others: they are written together.
const GATHER: Duration = Duration::from_millis(5);
/// Lines that wait while standard error takes none. What does not fit is dropped, counted, and told of: requests are
/// not held up by their log.
const MOST_WAITING: usize = 4 * 1024 * 1024;

/// The lines on their way.
#[derive(Debug)]
pub(crate) struct AccessLines {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: u64,
    is_closed: bool,
}

impl AccessLines {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where there can be no more threads.
    pub(crate) fn start() -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = thread::Builder::new().name("access-log".into()).spawn({
            let shared = shared.clone();
            move || shared.write_until_closed()
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes a line, which is written a moment later.
    pub(crate) fn write(&self, line: &impl Serialize) {
        let mut waiting = self.shared.lock();
        if waiting.lines.len() >= MOST_WAITING {
            waiting.dropped += 1;
            return;
        }
        let is_first = waiting.lines.is_empty();
        // Into memory, and of texts and numbers only: there is nothing to fail.
        if serde_json::to_writer(&mut waiting.lines, line).is_ok() {
            waiting.lines.push(b'\n');
        }
        drop(waiting);
        if is_first {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for AccessLines {
    /// Writes what waits.
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_until_closed(&self) {
        let mut lines = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.lines.is_empty() && !waiting.is_closed {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if !waiting.is_closed {
                drop(waiting);
                thread::sleep(GATHER);
                waiting = self.lock();
            }
            mem::swap(&mut waiting.lines, &mut lines);
            let (dropped, is_closed) = (mem::take(&mut waiting.dropped), waiting.is_closed);
            drop(waiting);
            // Where standard error is closed there is nobody to tell.
            let _ = stderr().lock().write_all(&lines);
            lines.clear();
            lines.shrink_to(64 * 1024);
            if dropped > 0 {
                tracing::warn!(dropped, "access lines were dropped: standard error takes them too slowly");
            }
            if is_closed {
                return;
            }
        }
    }
}
