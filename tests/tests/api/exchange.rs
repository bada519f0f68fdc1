//! One request by hand over a raw socket, for requests that stop half way.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use longshore_tests::raw;
use serde_json::Value;

/// A request whose head the server has read and whose body is still coming.
#[derive(Debug)]
pub(crate) struct OpenRequest(TcpStream);

impl OpenRequest {
    /// Sends a head, and waits until the server asks for the body: from then on the handler is at work. `headers` are
    /// whole lines.
    pub(crate) fn begin(address: &str, method: &str, target: &str, headers: &str) -> Self {
        let mut stream = raw::connect(address);
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nexpect: 100-continue\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("the server takes the head");
        let interim = read_head(&mut stream);
        assert!(interim.starts_with("HTTP/1.1 100 "), "the server does not want the body: {interim}");
        Self(stream)
    }

    /// Sends some of the body.
    pub(crate) fn send(&mut self, part: &[u8]) {
        self.0.write_all(part).expect("the server takes the body");
    }

    /// Sends no more, in the middle of the body, and reads what the server says to that.
    pub(crate) fn break_off(mut self) -> Answer {
        self.0.shutdown(Shutdown::Write).expect("the connection is still there");
        Answer::read(&mut self.0)
    }

    /// The answer to the whole request.
    pub(crate) fn answer(mut self) -> Answer {
        Answer::read(&mut self.0)
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, names in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Sends a whole request as it stands, which must say `connection: close`, and reads the answer.
    pub(crate) fn to(address: &str, request: impl AsRef<[u8]>) -> Self {
        let mut stream = raw::connect(address);
        // The server may answer before it has read all.
        let sent = stream.write_all(request.as_ref());
        let answer = raw::read_to_close(&mut stream);
        assert!(sent.is_ok() || !answer.is_empty(), "neither taken nor answered: {sent:?}");
        Self::parse(&answer)
    }

    fn read(stream: &mut TcpStream) -> Self {
        Self::parse(&raw::read_to_close(stream))
    }

    /// Takes apart what came of a whole answer.
    pub(crate) fn parse(answer: &[u8]) -> Self {
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(answer)));
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        Self { status: raw::status_of(&head), head, body: answer[end + 4..].to_vec() }
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(header, value)| (header == name).then_some(value))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Reads up to the end of a head and not a byte further.
pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("the server answers with a head");
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}
