//! HTTP/1.1 by hand: bodies go out and come in piece by piece, at the speed of the loopback device.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use longshore_tests::raw;
use sha2::{Digest, Sha256};

use crate::content::{Content, digest_of};

/// How long the server may take to make gigabytes durable before it answers.
const PATIENCE: Duration = Duration::from_secs(300);
/// What is read in one go, in bytes.
const BUFFER: usize = 256 * 1024;

/// A connection to a server, for one request after the other.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
    address: String,
}

/// The head of an answer.
#[derive(Debug)]
struct Head {
    status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

/// How the body's length is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Framing {
    /// By `Content-Length`.
    Length,
    /// By `Transfer-Encoding: chunked`: the server learns it at the end.
    Chunked,
}

impl Head {
    fn header(&self, name: &str) -> &str {
        let header = self.headers.iter().find(|(header, _)| header == name);
        header.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    fn length(&self) -> u64 {
        self.header("content-length").parse().expect("a length is a number")
    }
}

impl Wire {
    pub(crate) fn to(address: &str) -> Self {
        let stream = raw::connect(address);
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        stream.set_nodelay(true).expect("TCP can do without delay");
        Self { stream: BufReader::with_capacity(BUFFER, stream), address: address.to_owned() }
    }

    /// Opens an upload session and returns its location.
    pub(crate) fn open_upload(&mut self, repository: &str) -> String {
        self.send_head("POST", &format!("/v2/{repository}/blobs/uploads/"), "content-length: 0\r\n");
        self.expect(202).header("location").to_owned()
    }

    /// Sends a part of the content with a method that takes it; the answer must have this status. Returns the digest
    /// of the part, and the answer's `Location`.
    pub(crate) fn send(
        &mut self,
        (method, target, status): (&str, &str, u16),
        framing: Framing,
        content: &mut Content,
        (start, end): (u64, u64),
    ) -> (String, String) {
        let framing_header = match framing {
            Framing::Length => format!("content-length: {}\r\n", end - start),
            Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        };
        let range = if method == "PATCH" && matches!(framing, Framing::Length) {
            format!("content-range: {start}-{}\r\n", end - 1)
        } else {
            String::new()
        };
        self.send_head(method, target, &format!("content-type: application/octet-stream\r\n{framing_header}{range}"));
        let mut hash = Sha256::new();
        content.each_piece(start, end, |piece| {
            hash.update(piece);
            match framing {
                Framing::Length => self.write(piece),
                Framing::Chunked => {
                    self.write(format!("{:x}\r\n", piece.len()).as_bytes());
                    self.write(piece);
                    self.write(b"\r\n");
                }
            }
        });
        if let Framing::Chunked = framing {
            self.write(b"0\r\n\r\n");
        }
        (digest_of(hash), self.expect(status).header("location").to_owned())
    }

    /// Closes an upload session whose bytes are all there.
    pub(crate) fn close_upload(&mut self, upload: &str, digest: &str) {
        let joint = if upload.contains('?') { '&' } else { '?' };
        self.send_head("PUT", &format!("{upload}{joint}digest={digest}"), "content-length: 0\r\n");
        self.expect(201);
    }

    /// Pulls a blob, which must have this length, and returns the digest of what came.
    pub(crate) fn pull(&mut self, repository: &str, digest: &str, length: u64) -> String {
        self.send_head("GET", &format!("/v2/{repository}/blobs/{digest}"), "");
        let head = self.read_head();
        assert_eq!((head.status, head.length()), (200, length), "{head:?}");
        let mut hash = Sha256::new();
        self.take_body(length, &mut hash);
        digest_of(hash)
    }

    /// As [`Wire::pull`], in ranges of so many bytes.
    pub(crate) fn pull_in_ranges(&mut self, repository: &str, digest: &str, length: u64, each: u64) -> String {
        let mut hash = Sha256::new();
        let mut start = 0;
        while start < length {
            let end = length.min(start + each);
            let range = format!("range: bytes={start}-{}\r\n", end - 1);
            self.send_head("GET", &format!("/v2/{repository}/blobs/{digest}"), &range);
            let head = self.read_head();
            assert_eq!((head.status, head.length()), (206, end - start), "{head:?}");
            self.take_body(end - start, &mut hash);
            start = end;
        }
        digest_of(hash)
    }

    fn send_head(&mut self, method: &str, target: &str, headers: &str) {
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", self.address);
        self.write(head.as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.get_mut().write_all(bytes) {
            panic!("the server took no more ({error}) and said: {:?}", self.read_head());
        }
    }

    fn read_head(&mut self) -> Head {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("the server answers");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = raw::status_of(lines.first().expect("an answer has a status line"));
        let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
        Head { status, headers: headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect() }
    }

    /// The head of an answer of this status and without a body.
    fn expect(&mut self, status: u16) -> Head {
        let head = self.read_head();
        if head.status != status {
            let mut body = vec![0; usize::try_from(head.length()).expect("an error is short")];
            self.stream.read_exact(&mut body).expect("the error's text comes whole");
            panic!("not {status}: {head:?} {}", String::from_utf8_lossy(&body));
        }
        head
    }

    fn take_body(&mut self, length: u64, hash: &mut Sha256) {
        let mut rest = length;
        while rest > 0 {
            let buffer = self.stream.fill_buf().expect("the body comes whole");
            assert!(!buffer.is_empty(), "the body ended {rest} bytes early");
            let taken = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
            hash.update(&buffer[..taken]);
            self.stream.consume(taken);
            rest -= taken as u64;
        }
    }
}
