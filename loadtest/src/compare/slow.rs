//! Owns the slow clients: hundreds of connections that each move a little every tenth of a second, so that all are
//! under way at once and the server has to remember every one of them.
//!
//! One thread serves them all with sockets that never block: at these rates it has nothing to wait for but the clock.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::client::Connection;
use crate::process::ServerProcesses;
use crate::setup;
use crate::target::Target;
use crate::upload;

/// How long all are held.
const HOLD: Duration = Duration::from_secs(10);
/// How often each moves something, and how much: 64 KiB/s down, 40 KiB/s up.
const TICK: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 6554;
const WRITE_BYTES: usize = 4096;
/// So small that the kernel cannot take a body off the server's hands.
const SOCKET_BUFFER_BYTES: usize = 16 << 10;
/// A process that was just started is given so long to come to rest before it counts as idle.
const SETTLE: Duration = Duration::from_secs(1);
const BODY_BYTES: u64 = 64 << 20;
const UPLOAD_REPOSITORY: &str = "longshore-loadtest/slow";

/// What the server's memory was.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlowFigures {
    pub(super) connections: usize,
    pub(super) idle_bytes: u64,
    pub(super) peak_bytes: u64,
    /// What all clients moved, so that the reader sees that all were served.
    pub(super) moved_bytes: u64,
    /// Clients whose connection ended before its time.
    pub(super) lost: usize,
    pub(super) server_cpu: Duration,
}

impl SlowFigures {
    pub(super) fn bytes_per_connection(&self) -> f64 {
        self.peak_bytes.saturating_sub(self.idle_bytes) as f64 / self.connections as f64
    }
}

/// Downloads the blob at `path` on so many connections at once.
pub(super) fn download(
    target: &Target,
    server: &ServerProcesses,
    path: &str,
    connections: usize,
) -> Result<SlowFigures> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", target.authority());
    hold(target, server, connections, |stream, _| stream.write_all(head.as_bytes()), read_some)
}

/// Uploads a body by PATCH on so many connections at once. None of them comes to its end.
pub(super) fn upload(target: &Target, server: &ServerProcesses, connections: usize) -> Result<SlowFigures> {
    let mut requester = Connection::new(target, setup::setup_deadline());
    let mut sessions = Vec::with_capacity(connections);
    for _ in 0..connections {
        sessions.push(upload::begin(&mut requester, UPLOAD_REPOSITORY)?);
    }
    drop(requester);
    let start = |stream: &mut TcpStream, index: usize| {
        let (session, authority) = (&sessions[index], target.authority());
        let head = format!(
            "PATCH {session} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {BODY_BYTES}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())
    };
    hold(target, server, connections, start, write_some)
}

fn hold(
    target: &Target,
    server: &ServerProcesses,
    connections: usize,
    mut start: impl FnMut(&mut TcpStream, usize) -> std::io::Result<()>,
    step: impl Fn(&mut TcpStream) -> std::io::Result<usize>,
) -> Result<SlowFigures> {
    thread::sleep(SETTLE);
    server.reset_peak()?;
    let before = server.usage()?;
    let address = *target.addresses().first().context("the target has no address")?;
    let mut streams = Vec::with_capacity(connections);
    for index in 0..connections {
        let mut stream = connect(address).context("cannot open all connections: is `ulimit -n` too low?")?;
        start(&mut stream, index).context("a slow client was refused")?;
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    let mut moved_bytes = 0;
    let (end, mut next_tick) = (Instant::now() + HOLD, Instant::now());
    while Instant::now() < end {
        streams.retain_mut(|stream| match step(stream) {
            // Either direction: a body of 64 MiB does not end within the hold.
            Ok(0) => false,
            Ok(bytes) => {
                moved_bytes += bytes as u64;
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        });
        next_tick += TICK;
        thread::sleep(next_tick.saturating_duration_since(Instant::now()));
    }
    let after = server.usage()?;
    ensure!(!streams.is_empty(), "the server ended every slow connection");
    Ok(SlowFigures {
        connections,
        idle_bytes: before.resident_bytes,
        peak_bytes: after.peak_bytes,
        moved_bytes,
        lost: connections - streams.len(),
        server_cpu: after.cpu.saturating_sub(before.cpu),
    })
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Before connecting: the window is agreed upon then.
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

fn read_some(stream: &mut TcpStream) -> std::io::Result<usize> {
    stream.read(&mut [0; READ_BYTES])
}

fn write_some(stream: &mut TcpStream) -> std::io::Result<usize> {
    stream.write(&[b'x'; WRITE_BYTES])
}
