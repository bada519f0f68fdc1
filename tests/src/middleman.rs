//! A proxy in front of an object store that passes requests on one by one, over connections that stay open, and lets those
//! go wrong that it is told to: before the store hears of them, or after it has done what they ask.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What goes wrong with a request. An answer is its status and its headers, in lines that end in CR LF; its body, if it has
/// one, comes after an empty line.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is answered so, and does not reach the store.
    Refused(&'static str),
    /// The connection closes, and the request does not reach the store.
    Unheard,
    /// The store does it, and the answer is lost: this one comes in its place.
    Replaced(&'static str),
    /// The store does it, and the connection closes without an answer.
    Unanswered,
    /// It reaches the store with one bit of its body turned over. The body must have bytes, and a length.
    Damaged,
}

/// What is read at a time.
const BUFFER: usize = 64 * 1024;

/// What is to become of a request: none where nothing goes wrong. It may take away headers.
type Fate = dyn Fn(&mut Head) -> Option<Fault> + Send + Sync;

/// A running proxy on 127.0.0.1. Its threads end with their connections, or with the test process.
#[derive(Debug)]
pub struct Middleman {
    address: String,
}

impl Middleman {
    /// Passes on to `server` (`host:port`) what `fate` lets pass.
    #[must_use]
    pub fn in_front_of(server: &str, fate: impl Fn(&mut Head) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let server = server.to_owned();
        let fate: Arc<Fate> = Arc::new(fate);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, fate) = (server.clone(), Arc::clone(&fate));
                // A client that goes in the middle of its request is no concern of the others.
                thread::spawn(move || drop(serve(&client, &server, &*fate)));
            }
        });
        Self { address }
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Faults that are to come.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Vec<Planned>>>);

/// A fault for the next request whose first line has all these words.
#[derive(Debug)]
struct Planned {
    words: Vec<String>,
    fault: Fault,
}

impl Faults {
    /// Lets the next requests whose first line has all these words go wrong, one after the other.
    pub fn fail(&self, words: &[&str], faults: &[Fault]) {
        let planned = |fault: &Fault| Planned { words: words.iter().map(ToString::to_string).collect(), fault: *fault };
        self.lock().extend(faults.iter().map(planned));
    }

    /// Sees that everything that was to go wrong did.
    ///
    /// # Panics
    /// Where something is still to come, with these words.
    pub fn assert_failed(&self, words: &[&str]) {
        let left = self.lock().iter().filter(|planned| planned.words.iter().eq(words)).count();
        assert_eq!(left, 0, "requests that should have failed did not come");
    }

    /// What goes wrong with this request.
    #[must_use]
    pub fn next(&self, head: &Head) -> Option<Fault> {
        let mut faults = self.lock();
        let line = head.first_line();
        let is_it = |planned: &Planned| planned.words.iter().all(|word| line.contains(word.as_str()));
        let place = faults.iter().position(is_it)?;
        Some(faults.remove(place).fault)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Planned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The head of a request or an answer.
#[derive(Debug)]
pub struct Head {
    /// Without their ends, and without the empty line.
    lines: Vec<String>,
}

impl Head {
    /// The next one on a connection; none where it has ended.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return if lines.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
            match line.trim_end() {
                "" => return Ok(Some(Self { lines })),
                line => lines.push(line.to_owned()),
            }
        }
    }

    fn write(&self, mut to: &TcpStream) -> io::Result<()> {
        to.write_all(format!("{}\r\n\r\n", self.lines.join("\r\n")).as_bytes())
    }

    /// The request line, or the status line.
    #[must_use]
    pub fn first_line(&self) -> &str {
        self.lines.first().map_or("", String::as_str)
    }

    /// What a header says.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        headers.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Takes a header away.
    pub fn remove(&mut self, name: &str) {
        let is_it = |line: &String| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        self.lines.retain(|line| !is_it(line));
    }

    /// Whether it is that of an answer after which another one comes.
    fn is_interim(&self) -> bool {
        self.status().starts_with('1')
    }

    fn status(&self) -> &str {
        self.first_line().split(' ').nth(1).unwrap_or_default()
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.header(name).is_some_and(|found| found.eq_ignore_ascii_case(value))
    }

    fn body(&self) -> io::Result<Option<Body>> {
        if self.has("transfer-encoding", "chunked") {
            return Ok(Some(Body::Chunks));
        }
        let length = self.header("content-length").map(str::parse).transpose();
        Ok(length.map_err(|_| ErrorKind::InvalidData)?.map(Body::Bytes))
    }

    /// The body of a request.
    fn request_body(&self) -> io::Result<Body> {
        Ok(self.body()?.unwrap_or(Body::Bytes(0)))
    }

    /// That of the answer to this request.
    fn answer_body(&self, request: &Self) -> io::Result<Body> {
        if request.first_line().starts_with("HEAD ") || ["204", "304"].contains(&self.status()) {
            return Ok(Body::Bytes(0));
        }
        Ok(self.body()?.unwrap_or(Body::UntilClosed))
    }
}

/// How long a body is.
enum Body {
    Bytes(u64),
    Chunks,
    UntilClosed,
}

impl Body {
    /// Passes it on as it is.
    fn pass(&self, from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Bytes(length) => copy(from, *length, to),
            Self::UntilClosed => io::copy(from, to).map(drop),
            Self::Chunks => loop {
                let mut line = String::new();
                from.read_line(&mut line)?;
                to.write_all(line.as_bytes())?;
                let length = line.split(';').next().unwrap_or_default().trim();
                let length = u64::from_str_radix(length, 16).map_err(|_| ErrorKind::InvalidData)?;
                if length == 0 {
                    return pass_trailers(from, to);
                }
                copy(from, length + 2, to)?;
            },
        }
    }

    /// Passes it on with a bit of its first byte turned over.
    fn damage(&self, from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
        let Self::Bytes(length @ 1..) = *self else { return Err(ErrorKind::Unsupported.into()) };
        let mut first = [0];
        from.read_exact(&mut first)?;
        to.write_all(&[first[0] ^ 1])?;
        copy(from, length - 1, to)
    }
}

/// What comes after the last chunk, with the empty line.
fn pass_trailers(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        to.write_all(line.as_bytes())?;
        if line.trim_end().is_empty() {
            return Ok(());
        }
    }
}

fn copy(from: &mut impl Read, length: u64, to: &mut impl Write) -> io::Result<()> {
    let copied = io::copy(&mut from.take(length), to)?;
    if copied == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// Serves a connection to its end.
fn serve(client: &TcpStream, server: &str, fate: &Fate) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut from_client = BufReader::with_capacity(BUFFER, client.try_clone()?);
    let mut store: Option<Store> = None;
    while let Some(mut request) = Head::read(&mut from_client)? {
        let fault = fate(&mut request);
        let body = request.request_body()?;
        match fault {
            Some(Fault::Unheard) => return Ok(()),
            Some(Fault::Refused(told)) => {
                body.pass(&mut from_client, &mut io::sink())?;
                answer(client, &request, told)?;
                continue;
            }
            None | Some(Fault::Replaced(_) | Fault::Unanswered | Fault::Damaged) => {}
        }
        let store = match &mut store {
            Some(store) => store,
            none => none.insert(Store::connect(server)?),
        };
        request.write(&store.write)?;
        match fault {
            Some(Fault::Damaged) => body.damage(&mut from_client, &mut store.write)?,
            _ => body.pass(&mut from_client, &mut store.write)?,
        }
        let goes_on = store.pass_answer(&request, client, fault)?;
        if !goes_on {
            return Ok(());
        }
    }
    Ok(())
}

/// Answers a request with a text as [`Fault`] has them.
fn answer(mut client: &TcpStream, request: &Head, told: &str) -> io::Result<()> {
    let (head, body) = told.split_once("\r\n\r\n").unwrap_or((told.trim_end(), ""));
    let body = if request.first_line().starts_with("HEAD ") { "" } else { body };
    write!(client, "HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The connection to the store that belongs to a client's.
struct Store {
    read: BufReader<TcpStream>,
    write: TcpStream,
}

impl Store {
    fn connect(server: &str) -> io::Result<Self> {
        let write = TcpStream::connect(server)?;
        write.set_nodelay(true)?;
        Ok(Self { read: BufReader::with_capacity(BUFFER, write.try_clone()?), write })
    }

    /// Passes the answer to this request on, unless something goes wrong with it; answers whether another request may come.
    fn pass_answer(&mut self, request: &Head, mut client: &TcpStream, fault: Option<Fault>) -> io::Result<bool> {
        let said = self.answer()?;
        let body = said.answer_body(request)?;
        match fault {
            None | Some(Fault::Damaged) => {
                said.write(client)?;
                body.pass(&mut self.read, &mut client)?;
            }
            Some(lost) => {
                body.pass(&mut self.read, &mut io::sink())?;
                let Fault::Replaced(told) = lost else { return Ok(false) };
                answer(client, request, told)?;
            }
        }
        Ok(!matches!(body, Body::UntilClosed) && !said.has("connection", "close"))
    }

    /// The head of the answer to what was sent.
    fn answer(&mut self) -> io::Result<Head> {
        loop {
            let head = Head::read(&mut self.read)?.ok_or(ErrorKind::UnexpectedEof)?;
            if !head.is_interim() {
                return Ok(head);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw;

    /// Answers each request on any number of connections with how many it has answered before, and its body.
    fn counting() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let answered = Arc::new(Mutex::new(0));
            for client in listener.incoming().flatten() {
                let answered = answered.clone();
                thread::spawn(move || {
                    let mut from = BufReader::new(client.try_clone().unwrap());
                    while let Ok(Some(head)) = Head::read(&mut from) {
                        let mut body = Vec::new();
                        head.request_body().unwrap().pass(&mut from, &mut body).unwrap();
                        let mut answered = answered.lock().unwrap();
                        let chunk = format!("{answered} {}", String::from_utf8(body).unwrap());
                        *answered += 1;
                        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                        write!(&client, "{head}{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len()).unwrap();
                    }
                });
            }
        });
        address
    }

    const GET: &str = "GET / HTTP/1.1\r\n\r\n";
    const PUT: &str = "PUT /it HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";

    #[test]
    fn requests_on_one_connection_pass_and_fail_each_by_itself() {
        let faults = Faults::default();
        let planned = faults.clone();
        let middleman = Middleman::in_front_of(&counting(), move |head| planned.next(head));
        let told = "503 Service Unavailable\r\nretry-after: 1\r\n\r\nlater";
        faults.fail(&["PUT", "it"], &[Fault::Refused(told), Fault::Replaced(told), Fault::Unanswered]);
        let mut connection = raw::connect(middleman.address());
        for request in [GET, PUT, PUT, GET, PUT] {
            connection.write_all(request.as_bytes()).unwrap();
        }
        let answers = String::from_utf8(raw::read_to_close(&mut connection)).unwrap();
        let passed =
            |text: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{text}\r\n0\r\n\r\n");
        let failed = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 5\r\n\r\nlater";
        assert_eq!(answers, [&passed("0 "), failed, failed, &passed("2 ")].concat());
        faults.assert_failed(&["PUT", "it"]);
        // The last one was done all the same.
        let mut connection = raw::connect(middleman.address());
        faults.fail(&["PUT"], &[Fault::Damaged]);
        faults.fail(&["HEAD"], &[Fault::Unheard]);
        write!(connection, "{PUT}{PUT}HEAD / HTTP/1.1\r\n\r\n").unwrap();
        let answers = String::from_utf8(raw::read_to_close(&mut connection)).unwrap();
        assert!(answers.contains("6\r\n4 cody\r\n") && answers.contains("6\r\n5 body\r\n"), "{answers}");
    }

    #[test]
    fn a_head_is_what_its_lines_say() {
        let mut head = Head::read(&mut PUT.as_bytes()).unwrap().unwrap();
        assert_eq!(head.first_line(), "PUT /it HTTP/1.1");
        assert_eq!(head.header("content-length"), Some("4"));
        head.remove("CONTENT-LENGTH");
        assert_eq!(head.header("content-length"), None);
        assert!(Head::read(&mut "GET / HTTP/1.1\r\n".as_bytes()).is_err(), "it breaks off");
    }
}
