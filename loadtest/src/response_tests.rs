//! Tests of response reading: real heads, odd heads, and any bytes in any portions.

use std::io::{self, Read};

use proptest::prelude::*;

use super::*;

/// Gives out its bytes in portions of a fixed size, as a socket may.
struct Portions<'a> {
    bytes: &'a [u8],
    portion: usize,
}

impl Read for Portions<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.portion.min(buffer.len()).min(self.bytes.len());
        buffer[..taken].copy_from_slice(&self.bytes[..taken]);
        self.bytes = &self.bytes[taken..];
        Ok(taken)
    }
}

impl ResponseSource for Portions<'_> {
    fn discard(&mut self, at_most: u64) -> io::Result<u64> {
        let taken = self.portion.min(at_most as usize).min(self.bytes.len());
        self.bytes = &self.bytes[taken..];
        Ok(taken as u64)
    }
}

/// Reads a response in both ways, which must agree.
fn read_whole(bytes: &[u8], portion: usize) -> Result<(ResponseHead, Vec<u8>)> {
    let kept = read_and_keep(bytes, portion);
    let discarded = read_and_discard(bytes, portion);
    match (&kept, discarded) {
        (Ok((_, body)), Ok(length)) => assert_eq!(body.len() as u64, length),
        (Err(kept), Err(discarded)) => assert_eq!(format!("{kept:#}"), format!("{discarded:#}")),
        (kept, discarded) => panic!("{kept:?} but {discarded:?}"),
    }
    kept
}

fn read_and_discard(bytes: &[u8], portion: usize) -> Result<u64> {
    let mut source = Portions { bytes, portion };
    let mut buffer = ReadBuffer::new();
    let head = buffer.read_head(&mut source)?;
    buffer.read_body(&mut source, head.framing, &mut BodySink::Discard)
}

fn read_and_keep(bytes: &[u8], portion: usize) -> Result<(ResponseHead, Vec<u8>)> {
    let mut source = Portions { bytes, portion };
    let mut buffer = ReadBuffer::new();
    let head = buffer.read_head(&mut source)?;
    let mut body = Vec::new();
    let mut keep = |piece: &[u8]| body.extend_from_slice(piece);
    buffer.read_body(&mut source, head.framing, &mut BodySink::Pieces(&mut keep))?;
    Ok((head, body))
}

#[test]
fn a_head_is_read_with_what_matters() {
    let bytes = b"HTTP/1.1 202 Accepted\r\nlocation:  /v2/a/blobs/uploads/1?x=y \r\nContent-Length: 7\r\n\
        Connection: keep-alive, Close\r\nX-Other: 1\r\n\r\nrest";
    let (head, length) = parse_head(bytes).unwrap().unwrap();
    assert_eq!(head.status, 202);
    assert_eq!(head.framing, Framing::Length(7));
    assert!(head.closes);
    assert_eq!(head.location.as_deref(), Some("/v2/a/blobs/uploads/1?x=y"));
    assert_eq!(&bytes[length..], b"rest");
}

#[test]
fn an_incomplete_head_waits_and_an_endless_one_is_refused() {
    assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n").unwrap(), None);
    assert_eq!(parse_head(b"").unwrap(), None);
    assert!(parse_head(&vec![b'a'; MAX_HEAD_BYTES]).is_err());
}

#[test]
fn odd_heads_are_refused() {
    let refused = [
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    ];
    for head in refused {
        assert!(parse_head(head.as_bytes()).is_err(), "{head:?} was accepted");
    }
}

#[test]
fn a_body_that_is_short_or_long_is_an_error() {
    assert!(read_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", 100).is_err());
    assert!(read_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", 100).is_err());
    assert!(read_whole(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", 100).is_err());
    assert!(read_whole(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 100).is_err());
    assert!(read_whole(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", 100).is_err());
}

#[test]
fn chunks_may_have_extensions_and_trailers() {
    let bytes =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA \r\n0123456789\r\n0\r\nT: x\r\n\r\n";
    let (_, body) = read_whole(bytes, 4).unwrap();
    assert_eq!(body, b"abc0123456789");
}

proptest! {
    #[test]
    fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_head(&bytes);
        let _ = parse_chunk_size(&bytes);
        let _ = read_whole(&bytes, 7);
    }

    #[test]
    fn parsing_what_looks_like_a_head_never_panics(
        status in "[ -~]{0,12}",
        headers in proptest::collection::vec(
            ("(content-length|transfer-encoding|connection|location|[ -~]{0,9})", "([0-9]{0,22}|chunked|[ -~]{0,20})"),
            0..6,
        ),
        rest in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend(rest);
        let _ = read_whole(&bytes, 11);
    }

    #[test]
    fn a_body_is_the_same_in_whatever_portions_and_chunks_it_comes(
        body in proptest::collection::vec(any::<u8>(), 0..3000),
        chunk in 1usize..700,
        portion in 1usize..900,
    ) {
        let mut by_length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        by_length.extend_from_slice(&body);
        prop_assert_eq!(&read_whole(&by_length, portion).unwrap().1, &body);

        let mut by_chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in body.chunks(chunk) {
            by_chunks.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            by_chunks.extend_from_slice(piece);
            by_chunks.extend_from_slice(b"\r\n");
        }
        by_chunks.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(&read_whole(&by_chunks, portion).unwrap().1, &body);
    }
}
