//! Owns the floor: a bare server that does with a pushed blob what nobody can leave out, and nothing else.
//!
//! A thread for each connection receives and writes, a second one hashes. It reads just enough of HTTP for our own
//! client; it has no names, no database and no limits, and must never listen anywhere but on the loopback.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use sha2::{Digest as _, Sha256};

use crate::body::Sha256Digest;

/// What is received, hashed and written at once.
const PIECE_BYTES: usize = 512 << 10;
/// Pieces that may wait for being hashed.
const PIECES_AHEAD: usize = 4;
/// A line of a head longer than this is refused.
const MAX_LINE_BYTES: u64 = 16 << 10;

/// How much is done with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FloorMode {
    /// It is received and forgotten.
    Receive,
    /// It is hashed too, and the digest compared.
    Hash,
    /// It is written into a file too, with `fdatasync` before the answer.
    Store,
}

impl FloorMode {
    /// What `--mode` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Hash => "hash",
            Self::Store => "store",
        }
    }
}

/// What `floor-server` is told.
#[derive(Args)]
pub(crate) struct FloorServerArguments {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    mode: FloorMode,
}

/// Serves until it is ended.
pub(crate) fn serve(arguments: &FloorServerArguments) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", arguments.port)).context("cannot listen")?;
    serve_on(&listener, &arguments.folder, arguments.mode)
}

fn serve_on(listener: &TcpListener, folder: &Path, mode: FloorMode) -> Result<()> {
    for stream in listener.incoming() {
        let stream = stream.context("cannot accept")?;
        let folder = folder.to_owned();
        thread::spawn(move || {
            if let Err(error) = serve_connection(stream, &folder, mode) {
                eprintln!("{error:#}");
            }
        });
    }
    Ok(())
}

fn serve_connection(stream: TcpStream, folder: &Path, mode: FloorMode) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut upload = None;
    while let Some(request) = read_request(&mut reader)? {
        let answer = answer(&request, &mut reader, &mut upload, folder, mode);
        match answer {
            Ok(Answer { status, headers, body }) => {
                let length = body.as_ref().map_or(0, |(_, length)| *length);
                let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
                reader.get_mut().write_all(head.as_bytes())?;
                if let Some((mut file, _)) = body.filter(|_| request.method == "GET") {
                    io::copy(&mut file, reader.get_mut())?;
                }
            }
            Err(error) => {
                let said = format!("{error:#}");
                let head = "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: ";
                reader.get_mut().write_all(format!("{head}{}\r\n\r\n{said}", said.len()).as_bytes())?;
                return Err(error);
            }
        }
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    length: u64,
}

struct Answer {
    status: &'static str,
    headers: &'static str,
    body: Option<(File, u64)>,
}

/// None at the end of the connection.
fn read_request(reader: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let first = read_line(reader)?;
    if first.is_empty() {
        return Ok(None);
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method: method.to_owned(), path: path.to_owned(), length: 0 };
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(Some(request));
        }
        if let Some(length) = line.strip_prefix("Content-Length: ") {
            request.length = length.parse().context("no length")?;
        }
    }
}

fn read_line(reader: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    reader.by_ref().take(MAX_LINE_BYTES).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// One upload is under way on a connection at a time: all that our client does.
fn answer(
    request: &Request,
    reader: &mut BufReader<TcpStream>,
    upload: &mut Option<Upload>,
    folder: &Path,
    mode: FloorMode,
) -> Result<Answer> {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let session = "Location: /v2/floor/blobs/uploads/mine\r\n";
    match request.method.as_str() {
        "GET" if path == "/v2/" => Ok(Answer { status: "200 OK", headers: "", body: None }),
        "GET" | "HEAD" => {
            let digest = path.rsplit_once("/sha256:").context("no blob")?.1;
            match File::open(folder.join(digest)) {
                Ok(file) => {
                    let length = file.metadata()?.len();
                    Ok(Answer { status: "200 OK", headers: "", body: Some((file, length)) })
                }
                Err(_) => Ok(Answer { status: "404 Not Found", headers: "", body: None }),
            }
        }
        "POST" => {
            *upload = Some(Upload::begin(folder, mode)?);
            Ok(Answer { status: "202 Accepted", headers: session, body: None })
        }
        "PATCH" => {
            upload.as_mut().context("no upload")?.take(reader, request.length)?;
            Ok(Answer { status: "202 Accepted", headers: session, body: None })
        }
        "PUT" => {
            let mut upload = upload.take().context("no upload")?;
            upload.take(reader, request.length)?;
            upload.finish(query.strip_prefix("digest=").context("no digest")?, folder)?;
            Ok(Answer { status: "201 Created", headers: "", body: None })
        }
        method => bail!("{method} is not spoken here"),
    }
}

struct Upload {
    /// The file and its path, if what is received is kept.
    file: Option<(File, PathBuf)>,
    hashing: Option<Hashing>,
    /// A piece that is used again and again where nothing is hashed.
    spare: Vec<Vec<u8>>,
}

impl Upload {
    fn begin(folder: &Path, mode: FloorMode) -> Result<Self> {
        let file = (mode == FloorMode::Store).then(|| {
            // One upload at a time on each connection, and a thread for each connection.
            let path = folder.join(format!("upload-{:?}", thread::current().id()));
            File::create(&path).map(|file| (file, path)).context("cannot create the file")
        });
        let hashing = (mode != FloorMode::Receive).then(Hashing::begin);
        Ok(Self { file: file.transpose()?, hashing, spare: Vec::new() })
    }

    fn take(&mut self, reader: &mut BufReader<TcpStream>, length: u64) -> Result<()> {
        let mut missing = length;
        while missing > 0 {
            let mut piece = match &self.hashing {
                Some(hashing) => hashing.free_piece()?,
                None => self.spare.pop().unwrap_or_default(),
            };
            let wanted = usize::try_from(missing).unwrap_or(usize::MAX).min(PIECE_BYTES);
            piece.resize(wanted, 0);
            reader.read_exact(&mut piece)?;
            missing -= wanted as u64;
            let piece = Arc::new(piece);
            if let Some(hashing) = &self.hashing {
                hashing.hash(&piece)?;
            }
            if let Some((file, _)) = &mut self.file {
                file.write_all(&piece)?;
            }
            if self.hashing.is_none() {
                self.spare.extend(Arc::into_inner(piece));
            }
        }
        Ok(())
    }

    fn finish(self, expected: &str, folder: &Path) -> Result<()> {
        if let Some((file, _)) = &self.file {
            file.sync_data()?;
        }
        if let Some(hashing) = self.hashing {
            let actual = hashing.finish()?.to_string();
            if actual != expected {
                bail!("what came hashes to {actual}");
            }
        }
        if let Some((_, path)) = &self.file {
            std::fs::rename(path, folder.join(expected.trim_start_matches("sha256:")))?;
        }
        Ok(())
    }
}

/// The second thread of an upload. Pieces go there and come back.
struct Hashing {
    pieces: SyncSender<Arc<Vec<u8>>>,
    hashed: Receiver<Arc<Vec<u8>>>,
    thread: JoinHandle<Sha256Digest>,
}

impl Hashing {
    fn begin() -> Self {
        let (pieces, waiting) = sync_channel::<Arc<Vec<u8>>>(PIECES_AHEAD);
        let (done, hashed) = sync_channel(PIECES_AHEAD);
        for _ in 0..PIECES_AHEAD {
            // As many as it has room for.
            let _ = done.send(Arc::default());
        }
        let work = move || {
            let mut hasher = Sha256::new();
            for piece in waiting {
                hasher.update(&*piece);
                // Nobody waits for the last ones.
                let _ = done.send(piece);
            }
            Sha256Digest::finish(hasher)
        };
        Self { pieces, hashed, thread: thread::spawn(work) }
    }

    /// A piece that has been hashed and written.
    fn free_piece(&self) -> Result<Vec<u8>> {
        let piece = self.hashed.recv().context("the hashing ended early")?;
        // Whoever wrote it has let go of it before it asks for another.
        Ok(Arc::into_inner(piece).unwrap_or_default())
    }

    fn hash(&self, piece: &Arc<Vec<u8>>) -> Result<()> {
        self.pieces.send(Arc::clone(piece)).context("the hashing ended early")
    }

    fn finish(self) -> Result<Sha256Digest> {
        let Self { pieces, hashed, thread } = self;
        drop(pieces);
        drop(hashed);
        thread.join().map_err(|_| anyhow!("the hashing failed"))
    }
}

/// A floor for tests of whatever talks to a server.
#[cfg(test)]
pub(crate) mod in_thread {
    use super::*;
    use crate::target::Target;

    /// A server with a folder of its own. It serves until the test's process ends.
    pub(crate) struct FloorInThread {
        pub(crate) target: Target,
        folder: PathBuf,
    }

    impl FloorInThread {
        pub(crate) fn start(name: &str, mode: FloorMode) -> Self {
            let folder = std::env::temp_dir().join(format!("longshore-floor-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let served = folder.clone();
            thread::spawn(move || serve_on(&listener, &served, mode));
            Self { target: Target::parse(&url, None).unwrap(), folder }
        }
    }

    impl Drop for FloorInThread {
        fn drop(&mut self) {
            // What is left lies among the temporary files.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::in_thread::FloorInThread;
    use super::*;
    use crate::body::{Segment, UniqueBodies};
    use crate::client::Connection;
    use crate::pull::verify_blob;
    use crate::setup;
    use crate::upload::{PushMethod, push_body};

    #[test]
    fn what_is_pushed_in_any_way_can_be_read_where_it_is_stored() {
        for mode in [FloorMode::Receive, FloorMode::Hash, FloorMode::Store] {
            let floor = FloorInThread::start(mode.name(), mode);
            let mut connection = Connection::new(&floor.target, setup::setup_deadline());
            for method in [PushMethod::Monolithic, PushMethod::OnePatch, PushMethod::Chunked] {
                let body = UniqueBodies::from_clock().take((9 << 20) + 5);
                let mut segment = Segment::new();
                let digest = body.digest(&mut segment);
                push_body(&mut connection, "any", method, body, digest, &mut segment).unwrap();
                let path = format!("/v2/any/blobs/{digest}");
                assert_eq!(connection.exists(&path, "").unwrap(), mode == FloorMode::Store);
                if mode == FloorMode::Store {
                    verify_blob(&mut connection, &path, digest).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_wrong_digest_is_refused() {
        let floor = FloorInThread::start("digest", FloorMode::Store);
        let mut connection = Connection::new(&floor.target, setup::setup_deadline());
        let (body, other) = (UniqueBodies::from_clock().take(10), Sha256Digest::of(b"other"));
        let refused = push_body(&mut connection, "any", PushMethod::Monolithic, body, other, &mut Segment::new());
        assert!(refused.unwrap_err().to_string().contains("status 500"));
        assert!(!connection.exists(&format!("/v2/any/blobs/{other}"), "").unwrap());
    }
}
