//! Requests byte by byte: what no well-behaved HTTP client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may be silent before the exchange counts as hung.
const SILENCE: Duration = Duration::from_secs(30);

/// Sends `request` as it stands to `address` (`host:port`) and returns everything that comes back until the server
/// closes. Say `connection: close` in the request, or the server keeps the connection and the exchange panics.
#[must_use]
pub fn exchange(address: &str, request: impl AsRef<[u8]>) -> String {
    let mut stream = connect(address);
    // The server may answer and close before it has read all: what it said still counts.
    let sent = stream.write_all(request.as_ref());
    let answer = read_to_close(&mut stream);
    if let Err(error) = sent {
        assert!(!answer.is_empty(), "the request was not taken ({error}) and not answered");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A connection to `address` (`host:port`) for requests that stop half way.
#[must_use]
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
    stream.set_read_timeout(Some(SILENCE)).expect("the timeout is not zero");
    stream
}

/// Reads until the other side closes; a reset after the answer is a close too.
pub fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => answer,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("no end of the answer ({error}) after {:?}", String::from_utf8_lossy(&answer)),
    }
}

/// The status code of an answer that [`exchange`] returned.
#[must_use]
pub fn status_of(answer: &str) -> u16 {
    let code = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("not an HTTP answer: {answer:?}"))
}
