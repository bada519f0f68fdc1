//! Owns the reading of HTTP/1.1 responses: the head, and bodies framed by length or by chunks.
//!
//! It reads into one buffer that is never grown, and hands bodies on in pieces or throws them away; it knows nothing of
//! sockets.

use std::io::{self, Read};

use anyhow::{Context, Result, bail, ensure};

/// A head longer than this is refused.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// A chunk-size line or trailer longer than this is refused.
const MAX_LINE_BYTES: usize = 4 << 10;
/// Small, for it stays in the processor's cache, and what lies in it of a body that is thrown away was copied in vain.
const BUFFER_BYTES: usize = 2 * MAX_HEAD_BYTES;

/// Where responses come from.
pub(crate) trait ResponseSource: Read {
    /// Takes up to `at_most` bytes and throws them away. Answers how many; 0 at the end.
    fn discard(&mut self, at_most: u64) -> io::Result<u64>;
}

/// What becomes of a body.
pub(crate) enum BodySink<'a> {
    /// It is counted and thrown away, where possible without being copied out of the kernel.
    Discard,
    /// It is handed over in pieces.
    Pieces(&'a mut dyn FnMut(&[u8])),
}

impl BodySink<'_> {
    fn take(&mut self, piece: &[u8]) {
        match self {
            Self::Discard => {}
            Self::Pieces(sink) => sink(piece),
        }
    }
}

/// What a load generator needs to know of a response before its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// The server will close the connection after this response.
    pub(crate) closes: bool,
    /// The `Location` as it was sent.
    pub(crate) location: Option<String>,
}

/// How the end of a body is told (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Neither was said.
    Unsaid,
}

/// Parses the head at the front of `bytes`. `None` if it is not complete yet, else the head and its length in bytes.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>> {
    let searched = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
    let Some(end) = searched.windows(4).position(|window| window == b"\r\n\r\n") else {
        ensure!(bytes.len() < MAX_HEAD_BYTES, "the response's head is longer than 16 KiB");
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end]).context("the response's head is not UTF-8")?;
    let mut lines = text.split("\r\n");
    let mut head = parse_status_line(lines.next().unwrap_or_default())?;
    for line in lines {
        let (name, value) = line.split_once(':').with_context(|| format!("a header without a colon: {line:?}"))?;
        note_header(&mut head, name, value.trim_ascii())?;
    }
    Ok(Some((head, end + 4)))
}

fn parse_status_line(line: &str) -> Result<ResponseHead> {
    let mut words = line.splitn(3, ' ');
    let closes = match words.next() {
        Some("HTTP/1.1") => false,
        Some("HTTP/1.0") => true,
        _ => bail!("this is no HTTP/1.1 response: {line:?}"),
    };
    let status = words.next().unwrap_or_default();
    let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(is_status, "this is no status code: {status:?}");
    Ok(ResponseHead { status: status.parse()?, framing: Framing::Unsaid, closes, location: None })
}

fn note_header(head: &mut ResponseHead, name: &str, value: &str) -> Result<()> {
    if name.eq_ignore_ascii_case("content-length") {
        let length = parse_length(value)?;
        match head.framing {
            Framing::Length(earlier) => ensure!(earlier == length, "two Content-Length headers that differ"),
            Framing::Chunked => {}
            Framing::Unsaid => head.framing = Framing::Length(length),
        }
    } else if name.eq_ignore_ascii_case("transfer-encoding") {
        ensure!(value.eq_ignore_ascii_case("chunked"), "the transfer encoding {value:?} was not asked for");
        head.framing = Framing::Chunked;
    } else if name.eq_ignore_ascii_case("connection") {
        head.closes |= value.split(',').any(|option| option.trim_ascii().eq_ignore_ascii_case("close"));
    } else if name.eq_ignore_ascii_case("location") {
        head.location = Some(value.to_owned());
    }
    Ok(())
}

fn parse_length(value: &str) -> Result<u64> {
    // `parse` alone would take a sign.
    ensure!(value.bytes().all(|byte| byte.is_ascii_digit()), "this is no Content-Length: {value:?}");
    value.parse().with_context(|| format!("this is no Content-Length: {value:?}"))
}

fn parse_chunk_size(line: &[u8]) -> Result<u64> {
    let line = std::str::from_utf8(line).context("a chunk size that is not UTF-8")?;
    let digits = line.split(';').next().unwrap_or_default().trim_ascii();
    let is_size = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_size, "this is no chunk size: {line:?}");
    u64::from_str_radix(digits, 16).with_context(|| format!("this is no chunk size: {line:?}"))
}

/// The buffer of one connection: filled from the socket, emptied by the parser and the body's reader.
pub(crate) struct ReadBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// An empty buffer.
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BUFFER_BYTES].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Forgets what is left of a connection that was given up.
    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Reads one head.
    pub(crate) fn read_head(&mut self, source: &mut dyn ResponseSource) -> Result<ResponseHead> {
        loop {
            if let Some((head, length)) = parse_head(&self.bytes[self.start..self.end])? {
                self.start += length;
                return Ok(head);
            }
            self.fill(source).context("no complete response came")?;
        }
    }

    /// Reads one body to its end and answers how many bytes it had.
    pub(crate) fn read_body(
        &mut self,
        source: &mut dyn ResponseSource,
        framing: Framing,
        sink: &mut BodySink<'_>,
    ) -> Result<u64> {
        let length = match framing {
            Framing::Length(length) => {
                self.pass_on(source, length, sink)?;
                length
            }
            Framing::Chunked => self.read_chunks(source, sink)?,
            Framing::Unsaid => bail!("a body with neither Content-Length nor chunks"),
        };
        // One request is under way at a time, so nothing may follow.
        ensure!(self.start == self.end, "the server sent {} bytes after the body", self.end - self.start);
        Ok(length)
    }

    fn read_chunks(&mut self, source: &mut dyn ResponseSource, sink: &mut BodySink<'_>) -> Result<u64> {
        let mut total = 0u64;
        loop {
            let size = parse_chunk_size(self.read_line(source)?)?;
            if size == 0 {
                while !self.read_line(source)?.is_empty() {}
                return Ok(total);
            }
            total = total.checked_add(size).context("more bytes than a u64 holds")?;
            self.pass_on(source, size, sink)?;
            ensure!(self.read_line(source)?.is_empty(), "a chunk longer than it said");
        }
    }

    fn pass_on(&mut self, source: &mut dyn ResponseSource, length: u64, sink: &mut BodySink<'_>) -> Result<()> {
        let mut remaining = length;
        while remaining > 0 {
            let passed = self
                .pass_on_some(source, remaining, sink)
                .with_context(|| format!("{remaining} of {length} bytes of the body are missing"))?;
            remaining -= passed;
        }
        Ok(())
    }

    /// Passes on at least one byte and at most `wanted`, first those that are in the buffer.
    fn pass_on_some(&mut self, source: &mut dyn ResponseSource, wanted: u64, sink: &mut BodySink<'_>) -> Result<u64> {
        if self.start == self.end {
            if let BodySink::Discard = sink {
                let discarded = source.discard(wanted)?;
                ensure!(discarded > 0, "the server closed the connection");
                return Ok(discarded);
            }
            self.fill(source)?;
        }
        let available = self.end - self.start;
        let taken = usize::try_from(wanted).unwrap_or(usize::MAX).min(available);
        sink.take(&self.bytes[self.start..self.start + taken]);
        self.start += taken;
        Ok(taken as u64)
    }

    /// One line without its CRLF.
    fn read_line(&mut self, source: &mut dyn ResponseSource) -> Result<&[u8]> {
        loop {
            let unread = &self.bytes[self.start..self.end];
            let searched = &unread[..unread.len().min(MAX_LINE_BYTES)];
            if let Some(length) = searched.windows(2).position(|window| window == b"\r\n") {
                let line = self.start..self.start + length;
                self.start += length + 2;
                return Ok(&self.bytes[line]);
            }
            ensure!(unread.len() < MAX_LINE_BYTES, "a line of the chunked body is longer than 4 KiB");
            self.fill(source).context("the chunked body is cut short")?;
        }
    }

    /// Reads once, at least one byte.
    fn fill(&mut self, source: &mut dyn ResponseSource) -> Result<()> {
        if self.start == self.end {
            self.clear();
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let read = source.read(&mut self.bytes[self.end..])?;
        ensure!(read > 0, "the server closed the connection");
        self.end += read;
        Ok(())
    }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
