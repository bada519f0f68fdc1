//! Owns the readers: a thread and a socket for each, fast ones that drop what comes in the kernel, and slow ones that
//! take a bounded rate and hang up when the fast ones have come to their end.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::body::Sha256Digest;
use crate::client::{Connection, Method, Request, connect_to, expect_length};
use crate::measure::Histogram;
use crate::pull::verify_blob;
use crate::target::Target;

/// Enough for a request on the stack; buffers are on the heap.
const STACK_BYTES: usize = 128 << 10;
/// How often a slow reader takes something.
const TICK: Duration = Duration::from_millis(100);
/// So small that the kernel cannot take the blob off the server's hands.
const SLOW_BUFFER_BYTES: usize = 16 << 10;

/// Who comes.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    pub(super) fast: usize,
    pub(super) slow: usize,
    pub(super) slow_bytes_per_second: u64,
    /// How many of the fast ones verify what they get.
    pub(super) verified: usize,
    /// The kernel's, of each fast reader.
    pub(super) receive_buffer: usize,
}

/// What is read.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) digest: Sha256Digest,
}

/// What the readers saw.
pub(super) struct Outcome {
    /// From the request to the last byte, of fast readers that did not verify.
    pub(super) times: Histogram,
    /// From the first request to the end of the last fast reader.
    pub(super) elapsed: Duration,
    /// What all fast readers got.
    pub(super) bytes: u64,
    pub(super) slow_bytes: u64,
    pub(super) failures: u64,
    pub(super) first_failure: Option<String>,
}

/// What readers add their figures to.
struct Board {
    start: Barrier,
    is_over: AtomicBool,
    outcome: Mutex<Outcome>,
}

impl Board {
    fn note(&self, change: impl FnOnce(&mut Outcome)) {
        change(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn fail(&self, error: &anyhow::Error) {
        self.note(|outcome| {
            outcome.failures += 1;
            outcome.first_failure.get_or_insert_with(|| format!("{error:#}"));
        });
    }
}

/// Opens every connection, then has all ask for a blob in the same moment, each the next one of them, and waits for the fast ones.
pub(super) fn read_all(target: &Target, blobs: &[Blob], crowd: &Crowd, deadline: Instant) -> Result<Outcome> {
    let connections = open_all(target, crowd, deadline)?;
    let start = Barrier::new(crowd.fast + crowd.slow + 1);
    let board = Board { start, is_over: AtomicBool::new(false), outcome: Mutex::new(nothing()) };
    let elapsed = thread::scope(|scope| {
        let board = &board;
        let mut fast = Vec::with_capacity(crowd.fast);
        for (index, connection) in connections.into_iter().enumerate() {
            let (verifies, blob) = (index < crowd.verified, &blobs[index % blobs.len()]);
            fast.push(spawn(scope, move || read_fast(board, connection, blob, verifies)));
        }
        for index in 0..crowd.slow {
            let blob = &blobs[index % blobs.len()];
            spawn(scope, move || read_slowly(board, target, blob, crowd.slow_bytes_per_second));
        }
        board.start.wait();
        let began = Instant::now();
        for reader in fast {
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        let elapsed = began.elapsed();
        board.is_over.store(true, Ordering::Relaxed);
        elapsed
    });
    let outcome = board.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Outcome { elapsed, ..outcome })
}

fn nothing() -> Outcome {
    Outcome {
        times: Histogram::new(),
        elapsed: Duration::ZERO,
        bytes: 0,
        slow_bytes: 0,
        failures: 0,
        first_failure: None,
    }
}

/// One after the other, so that no queue of connections overflows, each with an answer on it.
fn open_all<'t>(target: &'t Target, crowd: &Crowd, deadline: Instant) -> Result<Vec<Connection<'t>>> {
    let mut connections = Vec::with_capacity(crowd.fast);
    for _ in 0..crowd.fast {
        let mut connection = Connection::new(target, deadline).with_receive_buffer(crowd.receive_buffer);
        connection.open().context("cannot open all connections: is `ulimit -n` too low?")?;
        connections.push(connection);
    }
    Ok(connections)
}

/// All threads must reach the barrier, so one that cannot be made ends the program instead of hanging it.
fn spawn<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, ()> {
    thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).unwrap_or_else(|error| {
        eprintln!("longshore-loadtest: cannot start a thread for each reader: {error}");
        std::process::exit(1);
    })
}

fn read_fast(board: &Board, mut connection: Connection<'_>, blob: &Blob, verifies: bool) {
    let (path, size) = (&blob.path, blob.size);
    board.start.wait();
    let began = Instant::now();
    let read = if verifies {
        verify_blob(&mut connection, path, blob.digest)
    } else {
        let request = Request { method: Method::Get, path, headers: "", expected_status: 200 };
        connection.ask(&request).and_then(|answer| expect_length(&answer, size, path))
    };
    match read {
        Ok(()) => board.note(|outcome| {
            outcome.bytes += size;
            if !verifies {
                outcome.times.record(began.elapsed());
            }
        }),
        Err(error) => board.fail(&error),
    }
}

fn read_slowly(board: &Board, target: &Target, blob: &Blob, bytes_per_second: u64) {
    let (path, stream) = (&blob.path, connect_to(target.addresses(), Some(SLOW_BUFFER_BYTES)));
    board.start.wait();
    let mut bytes = 0;
    let read = stream.context("cannot connect").and_then(|mut stream| {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.authority())?;
        take_slowly(board, &mut stream, blob, bytes_per_second, &mut bytes)
    });
    board.note(|outcome| outcome.slow_bytes += bytes);
    if let Err(error) = read {
        board.fail(&error.context("a slow reader failed"));
    }
}

/// Takes its share at each tick until the fast readers are done or the blob ends.
fn take_slowly(
    board: &Board,
    stream: &mut TcpStream,
    blob: &Blob,
    bytes_per_second: u64,
    bytes: &mut u64,
) -> Result<()> {
    // The end of the fast readers must be seen whether bytes come or not.
    stream.set_read_timeout(Some(TICK))?;
    let (began, mut buffer) = (Instant::now(), vec![0; 64 << 10]);
    while !board.is_over.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * bytes_per_second as f64) as u64;
        let room = usize::try_from(due.saturating_sub(*bytes)).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            thread::sleep(TICK);
            continue;
        }
        match stream.read(&mut buffer[..room]) {
            Ok(0) => {
                ensure!(*bytes >= blob.size, "{}: ended after {bytes} bytes", blob.path);
                break;
            }
            Ok(length) => {
                let is_first = *bytes == 0;
                ensure!(!is_first || is_success(&buffer[..length]), "{}: refused", blob.path);
                *bytes += length as u64;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether an answer begins as it should, as far as it has come.
fn is_success(beginning: &[u8]) -> bool {
    const EXPECTED: &[u8] = b"HTTP/1.1 200";
    let length = beginning.len().min(EXPECTED.len());
    beginning[..length] == EXPECTED[..length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{Body, Segment};
    use crate::floor_server::FloorMode;
    use crate::floor_server::in_thread::FloorInThread;
    use crate::upload::{self, PushMethod};

    const SIZE: u64 = 3 << 20;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn crowd(fast: usize, slow: usize) -> Crowd {
        Crowd { fast, slow, slow_bytes_per_second: 1 << 20, verified: 2, receive_buffer: 64 << 10 }
    }

    fn blob(digest: Sha256Digest) -> Blob {
        Blob { path: format!("/v2/a/blobs/{digest}"), size: SIZE, digest }
    }

    #[test]
    fn every_fast_reader_gets_all_of_it() {
        let server = FloorInThread::start("readers", FloorMode::Store);
        let mut segment = Segment::new();
        let body = Body::fixed(SIZE);
        let digest = body.digest(&mut segment);
        let mut connection = Connection::new(&server.target, far());
        upload::push_body(&mut connection, "a", PushMethod::Monolithic, body, digest, &mut segment).unwrap();
        let outcome = read_all(&server.target, &[blob(digest)], &crowd(20, 3), far()).unwrap();
        assert_eq!((outcome.failures, outcome.first_failure), (0, None));
        assert_eq!(outcome.bytes, 20 * SIZE);
        assert_eq!(outcome.times.count(), 18, "those who verify are not timed");
        assert!(outcome.slow_bytes <= 3 * (SIZE + 1024));
    }

    #[test]
    fn a_slow_reader_that_is_cut_off_has_failed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::parse(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\nsome").unwrap();
        });
        let board = Board { start: Barrier::new(1), is_over: AtomicBool::new(false), outcome: Mutex::new(nothing()) };
        read_slowly(&board, &target, &blob(Sha256Digest::of(b"x")), 1 << 20);
        server.join().unwrap();
        let failure = board.outcome.into_inner().unwrap().first_failure.unwrap();
        assert!(failure.contains("ended after"), "{failure}");
    }

    #[test]
    fn what_is_not_there_fails_for_every_reader() {
        let server = FloorInThread::start("missing", FloorMode::Store);
        let outcome = read_all(&server.target, &[blob(Sha256Digest::of(b"x"))], &crowd(5, 0), far()).unwrap();
        assert_eq!((outcome.failures, outcome.bytes), (5, 0));
        assert!(outcome.first_failure.is_some_and(|failure| failure.contains("404")));
    }
}
