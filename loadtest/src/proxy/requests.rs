//! Owns the reading of requests on their way: which of them are GETs, and which of those begin at the first byte.
//!
//! It follows HTTP/1.1 from head to head over bodies with a `Content-Length`. Bodies of another kind, or what is no
//! HTTP at all, end the counting on that connection and nothing else.

/// A head longer than this is none.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// What one piece brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub(super) gets: u64,
    pub(super) gets_from_start: u64,
}

/// One connection's requests, as their bytes come by.
#[derive(Debug, Default)]
pub(super) struct RequestReader {
    /// The part of a head that has come.
    head: Vec<u8>,
    /// What is left of a body.
    body: u64,
    is_lost: bool,
}

impl RequestReader {
    /// Takes the next bytes, cut anywhere.
    pub(super) fn feed(&mut self, mut piece: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !piece.is_empty() && !self.is_lost {
            let of_body = usize::try_from(self.body).unwrap_or(usize::MAX).min(piece.len());
            self.body -= of_body as u64;
            piece = &piece[of_body..];
            piece = self.feed_head(piece, &mut seen);
        }
        seen
    }

    /// Takes bytes up to the end of a head. Answers what comes after it.
    fn feed_head<'p>(&mut self, piece: &'p [u8], seen: &mut Seen) -> &'p [u8] {
        for (index, byte) in piece.iter().enumerate() {
            self.head.push(*byte);
            if self.head.ends_with(b"\r\n\r\n") {
                self.end_of_head(seen);
                return &piece[index + 1..];
            }
        }
        self.is_lost = self.head.len() > MAX_HEAD_BYTES;
        &[]
    }

    fn end_of_head(&mut self, seen: &mut Seen) {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        self.head.clear();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let is_get = line.starts_with("GET ");
        let mut begins_at_start = is_of_object(line);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                match value.parse() {
                    Ok(length) => self.body = length,
                    Err(_) => self.is_lost = true,
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                self.is_lost = true;
            } else if name.eq_ignore_ascii_case("range") {
                begins_at_start &= value.starts_with("bytes=0-");
            }
        }
        seen.gets += u64::from(is_get);
        seen.gets_from_start += u64::from(is_get && begins_at_start);
    }
}

/// Whether a request line asks for an object's bytes: lists and the like have a query, objects at most their own name
/// for what is done.
fn is_of_object(line: &str) -> bool {
    let path = line.split(' ').nth(1).unwrap_or_default();
    path.split_once('?').is_none_or(|(_, query)| query == "x-id=GetObject")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &[u8] = b"PUT /b/k HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n\
        GET /b/k HTTP/1.1\r\nRange: bytes=0-1048575\r\n\r\n\
        GET /b/k HTTP/1.1\r\nrange: bytes=1048576-2097151\r\n\r\n\
        HEAD /b/k HTTP/1.1\r\n\r\nGET /b?list-type=2 HTTP/1.1\r\n\r\nGET /b/other HTTP/1.1\r\nhost: x\r\n\r\n";

    fn feed_all<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Seen {
        let mut reader = RequestReader::default();
        pieces.fold(Seen::default(), |sum, piece| {
            let seen = reader.feed(piece);
            Seen { gets: sum.gets + seen.gets, gets_from_start: sum.gets_from_start + seen.gets_from_start }
        })
    }

    proptest! {
        #[test]
        fn requests_are_counted_wherever_they_are_cut(size in 1usize..200) {
            prop_assert_eq!(feed_all(STREAM.chunks(size)), Seen { gets: 4, gets_from_start: 2 });
        }

        #[test]
        fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..500), size in 1usize..100) {
            feed_all(bytes.chunks(size));
        }
    }

    #[test]
    fn a_body_of_unknown_length_ends_the_counting() {
        let stream = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(feed_all(std::iter::once(&stream[..])), Seen::default());
    }
}
