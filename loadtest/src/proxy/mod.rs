//! Owns the proxy between a server and its object store: it passes bytes on as they are and counts them.
//!
//! What a server has read of its object store nobody else can tell exactly: the store's own figures come late and
//! summed up, the server's are what is to be looked at.

mod requests;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};

use self::requests::RequestReader;

/// What is taken from a socket at once.
const BUFFER_BYTES: usize = 256 << 10;
/// A connection's thread needs a buffer on the heap and little on the stack.
const STACK_BYTES: usize = 64 << 10;

/// What went through since the proxy began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Passed {
    /// From the server to the store: requests with their heads.
    pub(crate) sent_bytes: u64,
    /// From the store to the server: answers with their heads.
    pub(crate) received_bytes: u64,
    /// GET requests of any kind.
    pub(crate) gets: u64,
    /// GET requests that begin at an object's first byte: so many times was an object begun to be read.
    pub(crate) gets_from_start: u64,
}

impl Passed {
    /// What went through since an earlier look.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes - before.sent_bytes,
            received_bytes: self.received_bytes - before.received_bytes,
            gets: self.gets - before.gets,
            gets_from_start: self.gets_from_start - before.gets_from_start,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    gets: AtomicU64,
    gets_from_start: AtomicU64,
    is_over: AtomicBool,
}

/// A listener on 127.0.0.1 that leads to another address of this machine.
#[derive(Debug)]
pub(crate) struct CountingProxy {
    address: SocketAddr,
    counters: Arc<Counters>,
}

impl CountingProxy {
    /// Begins to listen. Connections go on until one of their ends closes them.
    pub(crate) fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("the proxy cannot listen")?;
        let address = listener.local_addr().context("the proxy cannot listen")?;
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || accept(&listener, upstream, &shared))
            .context("cannot start the proxy's thread")?;
        Ok(Self { address, counters })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What went through so far. Bytes are counted when they have come, before they are passed on: what a client of the
    /// server has seen is in it.
    pub(crate) fn passed(&self) -> Passed {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Passed {
            sent_bytes: read(&self.counters.sent_bytes),
            received_bytes: read(&self.counters.received_bytes),
            gets: read(&self.counters.gets),
            gets_from_start: read(&self.counters.gets_from_start),
        }
    }
}

impl Drop for CountingProxy {
    fn drop(&mut self) {
        self.counters.is_over.store(true, Ordering::Relaxed);
        // Wakes the listener, so that it looks. If that fails it stays until the program ends, idle.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, upstream: SocketAddr, counters: &Arc<Counters>) {
    for downstream in listener.incoming() {
        if counters.is_over.load(Ordering::Relaxed) {
            return;
        }
        // A connection that cannot be served is closed: the server sees that as it would from the store.
        let passed = downstream.and_then(|downstream| pass(downstream, upstream, counters));
        if let Err(error) = passed {
            eprintln!("longshore-loadtest: the proxy lost a connection: {error}");
        }
    }
}

fn pass(downstream: TcpStream, upstream: SocketAddr, counters: &Arc<Counters>) -> std::io::Result<()> {
    let upstream = TcpStream::connect(upstream)?;
    for stream in [&downstream, &upstream] {
        stream.set_nodelay(true)?;
    }
    let (from, to, counted) = (downstream.try_clone()?, upstream.try_clone()?, Arc::clone(counters));
    let spawn = |work: Box<dyn FnOnce() + Send>| thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
    spawn(Box::new(move || {
        let mut reader = RequestReader::default();
        copy(from, to, |piece| {
            counted.sent_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            let seen = reader.feed(piece);
            counted.gets.fetch_add(seen.gets, Ordering::Relaxed);
            counted.gets_from_start.fetch_add(seen.gets_from_start, Ordering::Relaxed);
        });
    }))?;
    let counted = Arc::clone(counters);
    spawn(Box::new(move || {
        copy(upstream, downstream, |piece| {
            counted.received_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        });
    }))?;
    Ok(())
}

/// Passes everything on until one side closes. An error on either side ends both, as it would without a proxy.
fn copy(mut from: TcpStream, mut to: TcpStream, mut count: impl FnMut(&[u8])) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                count(&buffer[..length]);
                if to.write_all(&buffer[..length]).is_err() {
                    // Nobody listens: the source need not go on either.
                    let _ = from.shutdown(Shutdown::Both);
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // It may be closed already.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every head with the same bytes, until the other side closes.
    fn serve(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut seen, mut buffer) = (Vec::new(), [0; 1024]);
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..length]);
                while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
                    seen.drain(..end + 4);
                    stream.write_all(answer).unwrap();
                }
            }
        });
        address
    }

    #[test]
    fn bytes_are_passed_on_and_counted_in_both_directions() {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let proxy = CountingProxy::start(serve(ANSWER)).unwrap();
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        let first = b"GET /bucket/key HTTP/1.1\r\nhost: a\r\nrange: bytes=0-9\r\n\r\n";
        let second = b"GET /bucket/key HTTP/1.1\r\nhost: a\r\nrange: bytes=10-19\r\n\r\n";
        let mut answer = [0; ANSWER.len()];
        for request in [&first[..], second] {
            client.write_all(request).unwrap();
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, ANSWER);
        }
        let passed = proxy.passed();
        assert_eq!(passed.received_bytes, 2 * ANSWER.len() as u64);
        assert_eq!(passed.sent_bytes, (first.len() + second.len()) as u64);
        assert_eq!((passed.gets, passed.gets_from_start), (2, 1));
        assert_eq!(passed.since(passed), Passed::default());
    }

    #[test]
    fn an_end_is_passed_on() {
        let proxy = CountingProxy::start(serve(b"")).unwrap();
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
}
