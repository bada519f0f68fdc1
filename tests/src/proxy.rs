//! A TCP proxy in front of the server that can stop a push at a byte, and that remembers the requests it passed on.
//!
//! It makes "in the middle of a push" a fact and not a matter of timing: the test says after how many bytes of upload
//! the traffic stands still, waits for that moment, and does its harm.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a client may take to send as much as the test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listening proxy. Its threads end with their connections, or with the test process.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that clients may still send; none: as many as they like.
    allowance: Option<usize>,
    requests: Vec<String>,
}

impl Proxy {
    /// Listens on a port of its own and passes everything on to `server` (`host:port`).
    #[must_use]
    pub fn in_front_of(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let gate = Arc::new(Gate::default());
        let (server, shared) = (server.to_owned(), Arc::clone(&gate));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is down is a client whose connection closes at once.
                if let Ok(upstream) = TcpStream::connect(&server) {
                    join(client, upstream, &shared);
                }
            }
        });
        Self { address, gate }
    }

    /// Host and port, as in an image's name.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Lets clients send `bytes` more, all together, and then nothing.
    pub fn hold_after(&self, bytes: usize) {
        self.gate.lock().allowance = Some(bytes);
    }

    /// Waits until the allowance is spent and traffic stands still.
    ///
    /// # Panics
    /// When that has not happened after a minute.
    pub fn wait_until_held(&self) {
        let state = self.gate.lock();
        let waited = self.gate.changed.wait_timeout_while(state, PATIENCE, |state| state.allowance != Some(0));
        let (_state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "the client has not sent that much after {PATIENCE:?}");
    }

    /// Lets everything pass again.
    pub fn release(&self) {
        self.gate.lock().allowance = None;
        self.gate.changed.notify_all();
    }

    /// The heads (request line and headers) of the requests passed on so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.gate.lock().requests.clone()
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of `wanted` bytes may pass; waits while that is none.
    fn take(&self, wanted: usize) -> usize {
        let state = self.lock();
        let opened = self.changed.wait_while(state, |state| state.allowance == Some(0));
        let mut state = opened.unwrap_or_else(PoisonError::into_inner);
        let Some(allowance) = state.allowance else {
            return wanted;
        };
        let taken = wanted.min(allowance);
        state.allowance = Some(allowance - taken);
        self.changed.notify_all();
        taken
    }

    fn remember(&self, bytes: &[u8]) {
        const METHODS: [&[u8]; 6] = [b"GET /", b"HEAD /", b"POST /", b"PUT /", b"PATCH /", b"DELETE /"];
        if METHODS.iter().any(|method| bytes.starts_with(method)) {
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
            self.lock().requests.push(String::from_utf8_lossy(&bytes[..end]).into_owned());
        }
    }
}

/// Passes bytes both ways on two threads, until either side closes.
fn join(client: TcpStream, server: TcpStream, gate: &Arc<Gate>) {
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let gate = Arc::clone(gate);
    thread::spawn(move || pass(&client, &server, |bytes, server| pass_gate(bytes, server, &gate)));
    thread::spawn(move || pass(&server_too, &client_too, |bytes, mut client| client.write_all(bytes)));
}

fn pass_gate(mut bytes: &[u8], mut server: &TcpStream, gate: &Gate) -> std::io::Result<()> {
    gate.remember(bytes);
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(gate.take(bytes.len()));
        server.write_all(now)?;
        bytes = later;
    }
    Ok(())
}

fn pass(mut from: &TcpStream, to: &TcpStream, write: impl Fn(&[u8], &TcpStream) -> std::io::Result<()>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if write(&buffer[..length], to).is_err() {
            break;
        }
    }
    // Half-closed connections are not kept: a client that is gone, or a server that is, ends both ways.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_at_the_byte_and_goes_on_when_released() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::in_front_of(&server.local_addr().unwrap().to_string());
        proxy.hold_after(10);
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        let (mut upstream, _) = server.accept().unwrap();

        client.write_all(b"PUT /blob HTTP/1.1\r\n\r\n").unwrap();
        proxy.wait_until_held();
        let mut first = [0; 10];
        upstream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"PUT /blob ");
        upstream.set_nonblocking(true).unwrap();
        assert!(upstream.read(&mut first).is_err(), "more than the allowance has passed");
        upstream.set_nonblocking(false).unwrap();

        proxy.release();
        let mut rest = [0; 12];
        upstream.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"HTTP/1.1\r\n\r\n");
        assert_eq!(proxy.requests(), ["PUT /blob HTTP/1.1"]);
    }
}
