//! Owns the HTTP/1.1 client: one keep-alive connection, one request at a time, bodies read and thrown away.
//!
//! It is written for being cheap, not for being general: both sides share one machine, so what the client saves, the
//! server can use. Connections are blocking sockets with a thread each: one system call does what a runtime does with a
//! poll, a wake-up and a read, and with the tens of connections of these cases threads cost nothing else. Bodies that
//! nobody looks at are dropped in the kernel (`MSG_TRUNC`) instead of being copied out of it.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::body::{BodySource, ReadyBytes};
use crate::response::{BodySink, Framing, ReadBuffer, ResponseHead, ResponseSource};
use crate::target::Target;

/// Bodies are dropped in pieces of up to this size.
const DISCARD_BYTES: usize = 1 << 20;
/// Linux: on a TCP socket, received bytes are dropped instead of being copied into the buffer (see tcp(7)).
const MSG_TRUNC: i32 = 0x20;
/// A body's first piece up to this size goes out with the head in one write.
const JOINED_WRITE_BYTES: usize = 64 << 10;
/// A server that neither takes nor gives a byte for this long has failed.
const STALL: Duration = Duration::from_secs(30);
/// How much of an error's body is shown.
const SHOWN_ERROR_BYTES: usize = 300;

/// What is asked of the registry.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: &'a str,
    /// Further header lines, each ended by CRLF.
    pub(crate) headers: &'a str,
    /// The only status that counts as success.
    pub(crate) expected_status: u16,
}

/// The methods that the cases use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Patch,
    Put,
    Delete,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// A response with the expected status, its body read to the end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The body's bytes; for HEAD, those that `Content-Length` tells (0 if it tells nothing).
    pub(crate) length: u64,
    /// The `Location` as it was sent.
    pub(crate) location: Option<String>,
}

/// A response of any status, its body read to the end.
struct Response {
    head: ResponseHead,
    length: u64,
    /// How the body of an unexpected status begins.
    refused_with: Vec<u8>,
}

/// One connection to the target. It reconnects by itself after the server has said that it closes, or after an error.
pub(crate) struct Connection<'t> {
    target: &'t Target,
    stream: Option<TcpStream>,
    buffer: ReadBuffer,
    outgoing: Vec<u8>,
    /// Told to the kernel as room for what it drops; no page of it is ever touched.
    unused: Box<[MaybeUninit<u8>]>,
    deadline: Instant,
    connects: u64,
    /// What the kernel may hold of an answer, if not what it thinks right.
    receive_buffer: Option<usize>,
}

impl<'t> Connection<'t> {
    /// A connection that is opened by its first request. Requests fail after `deadline`.
    pub(crate) fn new(target: &'t Target, deadline: Instant) -> Self {
        let unused = Box::new_uninit_slice(DISCARD_BYTES);
        let (buffer, outgoing) = (ReadBuffer::new(), Vec::new());
        Self { target, stream: None, buffer, outgoing, unused, deadline, connects: 0, receive_buffer: None }
    }

    /// Bounds what the kernel holds of an answer that has not been read: thousands of connections whose buffers grow as
    /// they like would take all memory.
    pub(crate) fn with_receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// The target that it leads to.
    pub(crate) fn target(&self) -> &'t Target {
        self.target
    }

    /// How often a TCP connection was opened.
    pub(crate) fn connects(&self) -> u64 {
        self.connects
    }

    /// Makes sure that the TCP connection stands and the server has seen a request on it, whatever it answers.
    pub(crate) fn open(&mut self) -> Result<()> {
        let request = Request { method: Method::Get, path: "/v2/", headers: "", expected_status: 200 };
        self.round_trip(&request, &mut ReadyBytes(b""), &mut BodySink::Discard).map(|_| ())
    }

    /// Sends a request without a body and throws the answer's body away.
    pub(crate) fn ask(&mut self, request: &Request<'_>) -> Result<Answer> {
        self.exchange(request, &mut ReadyBytes(b""), &mut BodySink::Discard)
    }

    /// Sends a request with a body and throws the answer's body away.
    pub(crate) fn send(&mut self, request: &Request<'_>, body: &mut dyn BodySource) -> Result<Answer> {
        self.exchange(request, body, &mut BodySink::Discard)
    }

    /// Sends a request without a body and hands the answer's body to `sink`.
    pub(crate) fn read(&mut self, request: &Request<'_>, sink: &mut dyn FnMut(&[u8])) -> Result<Answer> {
        self.exchange(request, &mut ReadyBytes(b""), &mut BodySink::Pieces(sink))
    }

    /// Whether the thing is there: 200 is yes, 404 is no, everything else is an error.
    pub(crate) fn exists(&mut self, path: &str, headers: &str) -> Result<bool> {
        self.ask_whether(&Request { method: Method::Head, path, headers, expected_status: 200 }, 404)
    }

    /// Sends a request without a body: the expected status is yes, the other one no, everything else an error.
    pub(crate) fn ask_whether(&mut self, request: &Request<'_>, no: u16) -> Result<bool> {
        let response = self.round_trip(request, &mut ReadyBytes(b""), &mut BodySink::Discard)?;
        match response.head.status {
            status if status == request.expected_status => Ok(true),
            status if status == no => Ok(false),
            status => Err(refusal(request, status, &response.refused_with)),
        }
    }

    fn exchange(
        &mut self,
        request: &Request<'_>,
        body: &mut dyn BodySource,
        sink: &mut BodySink<'_>,
    ) -> Result<Answer> {
        let response = self.round_trip(request, body, sink)?;
        if response.head.status != request.expected_status {
            return Err(refusal(request, response.head.status, &response.refused_with));
        }
        Ok(Answer { length: response.length, location: response.head.location })
    }

    /// One request and its whole response, whatever its status.
    fn round_trip(
        &mut self,
        request: &Request<'_>,
        body: &mut dyn BodySource,
        sink: &mut BodySink<'_>,
    ) -> Result<Response> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let mut wire = Wire { stream: &stream, deadline: self.deadline, unused: &mut self.unused };
        write_head(&mut self.outgoing, self.target, request, body.length());
        let sent = send_request(&mut wire, &mut self.outgoing, body);
        let response = match read_response(&mut wire, &mut self.buffer, request, sink) {
            Ok(response) => response,
            Err(error) => return Err(describe(request, sent.err().map_or(error, anyhow::Error::from))),
        };
        // A server may refuse a body before it has read it all. Then its answer says why, and the rest was not sent.
        let cut_short = sent.is_err() && response.head.status < 400;
        ensure!(!cut_short, "{} {} was answered before it was sent", request.method.name(), request.path);
        // Only now may the stream be used again: every way out above has dropped it.
        if sent.is_ok() && !response.head.closes {
            self.stream = Some(stream);
        }
        Ok(response)
    }

    fn connect(&mut self) -> Result<TcpStream> {
        let authority = self.target.authority();
        let stream = connect_to(self.target.addresses(), self.receive_buffer)
            .with_context(|| format!("cannot connect to {authority}: is the registry running there?"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STALL))?;
        stream.set_write_timeout(Some(STALL))?;
        self.buffer.clear();
        self.connects += 1;
        Ok(stream)
    }
}

/// A connection to the first address that takes it.
pub(crate) fn connect_to(addresses: &[SocketAddr], receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let Some(bytes) = receive_buffer else {
        return TcpStream::connect(addresses);
    };
    let mut refused = io::Error::new(io::ErrorKind::AddrNotAvailable, "the target has no address");
    for address in addresses {
        let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
        // Before connecting: the window is agreed upon then.
        socket.set_recv_buffer_size(bytes)?;
        match socket.connect(&(*address).into()) {
            Ok(()) => return Ok(socket.into()),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn write_head(outgoing: &mut Vec<u8>, target: &Target, request: &Request<'_>, length: u64) {
    outgoing.clear();
    for part in [request.method.name(), " ", request.path, " HTTP/1.1\r\nHost: ", target.authority(), "\r\n"] {
        outgoing.extend_from_slice(part.as_bytes());
    }
    if let Some(authorization) = target.authorization() {
        for part in ["Authorization: ", authorization, "\r\n"] {
            outgoing.extend_from_slice(part.as_bytes());
        }
    }
    if !matches!(request.method, Method::Get | Method::Head) {
        outgoing.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
    }
    outgoing.extend_from_slice(request.headers.as_bytes());
    outgoing.extend_from_slice(b"\r\n");
}

fn send_request(wire: &mut Wire<'_>, outgoing: &mut Vec<u8>, body: &mut dyn BodySource) -> io::Result<()> {
    let first = body.next_piece();
    if first.len() <= JOINED_WRITE_BYTES {
        outgoing.extend_from_slice(first);
        wire.write_all(outgoing)?;
    } else {
        wire.write_all(outgoing)?;
        wire.write_all(first)?;
    }
    loop {
        let piece = body.next_piece();
        if piece.is_empty() {
            return Ok(());
        }
        wire.write_all(piece)?;
    }
}

fn read_response(
    wire: &mut Wire<'_>,
    buffer: &mut ReadBuffer,
    request: &Request<'_>,
    sink: &mut BodySink<'_>,
) -> Result<Response> {
    let mut head = buffer.read_head(wire)?;
    while (100..200).contains(&head.status) {
        head = buffer.read_head(wire)?;
    }
    let mut refused_with = Vec::new();
    let mut keep = |piece: &[u8]| {
        let missing = SHOWN_ERROR_BYTES - refused_with.len();
        refused_with.extend_from_slice(&piece[..piece.len().min(missing)]);
    };
    let length = match head.framing {
        Framing::Length(length) if request.method == Method::Head => length,
        _ if request.method == Method::Head || matches!(head.status, 204 | 304) => 0,
        framing if head.status == request.expected_status => buffer.read_body(wire, framing, sink)?,
        framing => buffer.read_body(wire, framing, &mut BodySink::Pieces(&mut keep))?,
    };
    Ok(Response { head, length, refused_with })
}

fn refusal(request: &Request<'_>, status: u16, shown: &[u8]) -> anyhow::Error {
    let hint = match status {
        401 => " (give --user NAME:PASSWORD; only Basic is spoken)",
        301..=308 => " (redirects are not followed)",
        _ => "",
    };
    let said = String::from_utf8_lossy(shown);
    let said: Vec<&str> = said.split_whitespace().collect();
    let (method, expected) = (request.method.name(), request.expected_status);
    anyhow!("{method} {}: status {status} where {expected} was expected{hint} {}", request.path, said.join(" "))
}

fn describe(request: &Request<'_>, error: anyhow::Error) -> anyhow::Error {
    error.context(format!("{} {} failed", request.method.name(), request.path))
}

/// The socket, with the deadline looked at before every call and timeouts told in words.
struct Wire<'s> {
    stream: &'s TcpStream,
    deadline: Instant,
    unused: &'s mut [MaybeUninit<u8>],
}

impl Wire<'_> {
    fn check_deadline(&self) -> io::Result<()> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the case took longer than its time limit"))
    }
}

/// Both kinds are what a socket's own timeout answers, depending on the system.
fn told_in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "the server moved no byte for 30 s")
        }
        _ => error,
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check_deadline()?;
        self.stream.read(buffer).map_err(told_in_words)
    }
}

impl ResponseSource for Wire<'_> {
    fn discard(&mut self, at_most: u64) -> io::Result<u64> {
        self.check_deadline()?;
        let room = usize::try_from(at_most).unwrap_or(usize::MAX).min(self.unused.len());
        let dropped = SockRef::from(self.stream).recv_with_flags(&mut self.unused[..room], MSG_TRUNC);
        dropped.map(|bytes| bytes as u64).map_err(told_in_words)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.check_deadline()?;
        self.stream.write(buffer).map_err(told_in_words)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fails unless an answer has the length that was expected.
pub(crate) fn expect_length(answer: &Answer, expected: u64, path: &str) -> Result<()> {
    if answer.length != expected {
        bail!("{path}: {} bytes where {expected} were expected", answer.length);
    }
    Ok(())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
