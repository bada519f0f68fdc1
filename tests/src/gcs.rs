//! What stands in for Google Cloud Storage: its XML API, of which it says itself that it is S3's, in front of a real S3
//! server. What is Google's own is the login: a token that the service account signs for itself.
//!
//! There is no better one. fake-gcs-server has neither this API's way to write an object nor its uploads in parts (its issues
//! 331 and 852), and those are what clients in Rust use.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, thread};

use crate::programs::{program, run};
use crate::scratch::Scratch;

/// The id of the service account's key.
const KEY_ID: &str = "longshore-1";
/// How tokens that are signed with it begin: `{"typ":"JWT","alg":"RS256","kid":"longshore-1"}` in base64.
const TOKEN: &str = "Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsImtpZCI6ImxvbmdzaG9yZS0xIn0.";

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is answered by this status and these headers, and does not reach the store. Lines that end in CR LF.
    Refused(&'static str),
    /// It is answered well, with this body, and does not reach the store.
    Answered(&'static str),
    /// The store does it, and the answer is lost: this one comes in its place.
    Replaced(&'static str),
    /// The store does it, and the connection closes without an answer.
    Unanswered,
}

/// Faults that are to come, each for the next request whose first line has all these words.
type Faults = Arc<Mutex<Vec<(Vec<String>, Fault)>>>;

/// A stand-in for Google Cloud Storage on 127.0.0.1. Its threads end with their connections, or with the test process.
#[derive(Debug)]
pub struct Gcs {
    address: String,
    faults: Faults,
    scratch: Scratch,
    private_key: String,
}

impl Gcs {
    /// Passes what comes with the service account's token on to the S3 server at `server` (`host:port`), as what anyone
    /// may ask: the bucket must be open to everyone there.
    #[must_use]
    pub fn in_front_of(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let (server, faults) = (server.to_owned(), Faults::default());
        let shared = Arc::clone(&faults);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, faults) = (server.clone(), Arc::clone(&shared));
                // A client that goes in the middle of its request is no concern of the others.
                thread::spawn(move || drop(answer(&client, &server, &faults)));
            }
        });
        let mut make_key: Command = program("openssl");
        make_key.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        Self { address, faults, scratch: Scratch::new("gcs"), private_key: run(&mut make_key) }
    }

    /// Lets the next requests whose first line has all these words go wrong, one after the other.
    pub fn fail(&self, words: &[&str], faults: &[Fault]) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        self.lock().extend(faults.iter().map(|fault| (words.clone(), *fault)));
    }

    /// Sees that everything that was to go wrong did.
    ///
    /// # Panics
    /// Where something is still to come, with these words.
    pub fn assert_failed(&self, words: &[&str]) {
        let left = self.lock().iter().filter(|(wanted, _)| wanted.iter().eq(words)).count();
        assert_eq!(left, 0, "requests that should have failed did not come");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Vec<String>, Fault)>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The file with the key of the service account that is let in.
    #[must_use]
    pub fn service_account(&self) -> PathBuf {
        self.account_with(KEY_ID)
    }

    /// That of another one.
    #[must_use]
    pub fn strange_account(&self) -> PathBuf {
        self.account_with("somebody-1")
    }

    fn account_with(&self, key_id: &str) -> PathBuf {
        let path = self.scratch.join(&format!("{key_id}.json"));
        let key = self.private_key.replace('\n', "\\n");
        let email = "longshore@project.iam.gserviceaccount.com";
        let json = format!(
            r#"{{"type":"service_account","private_key_id":"{key_id}","private_key":"{key}","client_email":"{email}"}}"#
        );
        fs::write(&path, json).expect("a scratch directory can be written");
        path
    }
}

/// Answers the one request of a connection.
fn answer(mut client: &TcpStream, server: &str, faults: &Faults) -> io::Result<()> {
    let (head, begun) = read_head(client)?;
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    let has_token = lines.iter().any(|line| {
        let value = line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        value.is_some_and(|(_, value)| value.starts_with(TOKEN))
    });
    if !has_token {
        let body = "<Error><Code>AuthenticationRequired</Code><Message>Authentication required.</Message></Error>";
        return refuse(client, "401 Unauthorized\r\n", body);
    }
    let fault = next_fault(faults, lines[0]);
    if let Some(Fault::Refused(head)) = fault {
        return refuse(client, head, "");
    }
    if let Some(Fault::Answered(body)) = fault {
        return refuse(client, "200 OK\r\n", body);
    }
    lines.retain(|line| !line.to_ascii_lowercase().starts_with("authorization:"));
    lines.push("connection: close");
    let mut upstream = TcpStream::connect(server)?;
    upstream.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())?;
    upstream.write_all(&begun)?;
    let (mut body, mut to) = (client.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || io::copy(&mut body, &mut to));
    if fault.is_some() {
        io::copy(&mut upstream, &mut io::sink())?;
    }
    match fault {
        Some(Fault::Replaced(head)) => write!(client, "HTTP/1.1 {head}content-length: 0\r\nconnection: close\r\n\r\n")?,
        _ => drop(io::copy(&mut upstream, &mut client)?),
    }
    client.shutdown(Shutdown::Both)
}

/// Answers and reads what is left of the request, or closing would take the answer back. `head` is lines without the last,
/// empty one.
fn refuse(mut client: &TcpStream, head: &str, body: &str) -> io::Result<()> {
    write!(client, "HTTP/1.1 {head}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())?;
    client.shutdown(Shutdown::Write)?;
    io::copy(&mut client, &mut io::sink())?;
    Ok(())
}

/// What goes wrong with the request of this first line.
fn next_fault(faults: &Faults, line: &str) -> Option<Fault> {
    let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
    let place = faults.iter().position(|(words, _)| words.iter().all(|word| line.contains(word.as_str())))?;
    Some(faults.remove(place).1)
}

/// The head of a request, and what was read of its body.
fn read_head(mut client: &TcpStream) -> io::Result<(String, Vec<u8>)> {
    let (mut read, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            read.truncate(end);
            return Ok((String::from_utf8_lossy(&read).into_owned(), body));
        }
        match client.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => read.extend_from_slice(&buffer[..length]),
        }
    }
}
