//! A client that pushes images in all the ways there are, until the server dies under it.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use longshore_tests::client::{Client, expect, location};
use longshore_tests::image::{Blob, Image};
use longshore_tests::random::Random;
use longshore_tests::server::Server;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};

use crate::fuse::{Event, Fuse};
use crate::ledger::{Ledger, Thing};
use crate::{KIB, made_up};

/// How much of a body is handed to the connection at once.
const PIECE: usize = 64 * KIB;

/// The connection broke, since the server was killed.
#[derive(Debug)]
pub(crate) struct Died;

/// How a blob is pushed.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// One POST.
    Whole,
    /// POST, then one PUT.
    PostAndPut,
    /// POST, one PATCH of unknown length, PUT.
    Streamed,
    /// POST, a few times PATCH, and a PUT with or without bytes.
    Chunked,
}

/// An upload session that the server has opened.
#[derive(Debug)]
struct Session {
    location: String,
    blob: Blob,
    /// Bytes that the server said it has.
    acknowledged: usize,
    /// Bytes of the chunk that it has not answered yet.
    in_flight: usize,
    /// Whether the closing PUT is under way.
    closing: bool,
}

/// A client with a repository, which others may push to as well, and a tag of its own.
#[derive(Debug)]
pub(crate) struct Pusher {
    client: Client,
    repository: String,
    tag: String,
    ledger: Arc<Ledger>,
    fuse: Arc<Fuse>,
    random: Random,
    session: Option<Session>,
    /// The image that is being pushed.
    image: Option<Image>,
}

impl Pusher {
    pub(crate) fn new(number: usize, server: &Server, ledger: Arc<Ledger>, random: Random) -> Self {
        Self {
            client: Client::new(server.url()),
            repository: format!("crash/{}", number % 2),
            tag: format!("of-client-{number}"),
            ledger,
            fuse: Arc::new(Fuse::never()),
            random,
            session: None,
            image: None,
        }
    }

    /// Connects anew, for pushes that this fuse counts.
    pub(crate) fn connect(&mut self, server: &Server, fuse: &Arc<Fuse>) {
        self.client = Client::new(server.url());
        self.fuse = Arc::clone(fuse);
    }

    /// Pushes images, some layers of which others push at the same time, until the server dies.
    pub(crate) async fn push_until_death(mut self, shared: Vec<Blob>) -> Self {
        loop {
            let mut image = made_up::image(&mut self.random);
            if self.random.once_in(2) {
                let layers = image.layers.into_iter().chain(shared.clone()).collect();
                image = made_up::image_of(&mut self.random, layers);
            }
            if let Err(Died) = self.push(image).await {
                return self;
            }
        }
    }

    /// After the server has come back: goes on with the session that was cut off, then pushes the whole image again.
    pub(crate) async fn push_again(&mut self) {
        let Some(image) = self.image.take() else { return };
        if let Some(session) = self.session.take() {
            self.resume(session).await;
        }
        self.push(image).await.expect("nobody kills the server now");
    }

    async fn push(&mut self, image: Image) -> Result<(), Died> {
        self.image = Some(image.clone());
        for blob in image.layers.iter().chain([&image.config]) {
            let thing = self.blob(blob);
            self.ledger.begin(thing.clone(), &blob.digest);
            self.push_blob(blob).await?;
            self.session = None;
            self.ledger.acknowledge(&thing, &blob.digest);
        }
        self.push_manifest(&image.manifest).await?;
        self.image = None;
        Ok(())
    }

    fn blob(&self, blob: &Blob) -> Thing {
        Thing::Blob(self.repository.clone(), blob.digest.clone())
    }

    async fn push_manifest(&mut self, manifest: &Blob) -> Result<(), Died> {
        let digest = &manifest.digest;
        let by_digest = Thing::Manifest(self.repository.clone(), digest.clone());
        let by_tag = Thing::Tag(self.repository.clone(), self.tag.clone());
        self.ledger.begin(by_digest.clone(), digest);
        self.ledger.begin(by_tag.clone(), digest);
        let reference = if self.random.once_in(2) { self.tag.clone() } else { format!("{digest}?tag={}", self.tag) };
        let path = format!("/v2/{}/manifests/{reference}", self.repository);
        let request = self.client.request(Method::PUT, &path).header(CONTENT_TYPE, &manifest.media_type);
        self.answer(request.body(self.counted(&manifest.bytes)), StatusCode::CREATED).await?;
        self.ledger.acknowledge(&by_digest, digest);
        self.ledger.acknowledge(&by_tag, digest);
        Ok(())
    }

    async fn push_blob(&mut self, blob: &Blob) -> Result<(), Died> {
        let way = match self.random.between(0, 4) {
            0 => Way::Whole,
            1 => Way::PostAndPut,
            2 => Way::Streamed,
            _ => Way::Chunked,
        };
        let uploads = format!("/v2/{}/blobs/uploads/", self.repository);
        if let Way::Whole = way {
            let path = format!("{uploads}?digest={}", blob.digest);
            let request = self.client.request(Method::POST, &path).header(CONTENT_LENGTH, blob.bytes.len());
            self.answer(request.body(self.counted(&blob.bytes)), StatusCode::CREATED).await?;
            return Ok(());
        }
        let request = self.client.request(Method::POST, &uploads).header(CONTENT_LENGTH, 0);
        self.fuse.count(Event::RequestSent, 1);
        let opened = self.answer(request, StatusCode::ACCEPTED).await?;
        let (location, blob) = (location(opened.headers()), blob.clone());
        self.session = Some(Session { location, blob, acknowledged: 0, in_flight: 0, closing: false });
        match way {
            Way::Whole | Way::PostAndPut => {}
            Way::Streamed => self.stream().await?,
            Way::Chunked => self.send_chunks().await?,
        }
        self.close().await
    }

    /// One PATCH with everything, its length unknown to the server.
    async fn stream(&mut self) -> Result<(), Died> {
        let session = self.session.as_mut().expect("a session is open");
        session.in_flight = session.blob.bytes.len();
        let session = self.open_session();
        let request = self.client.request(Method::PATCH, &session.location);
        let answer = self.answer(request.body(self.counted(&session.blob.bytes)), StatusCode::ACCEPTED).await?;
        self.acknowledge_chunk(&answer);
        Ok(())
    }

    /// PATCH by PATCH; the last bytes may be left to the PUT.
    async fn send_chunks(&mut self) -> Result<(), Died> {
        let session = self.open_session();
        let length = session.blob.bytes.len();
        // Two bytes at least: a session of one byte looks like an empty one.
        let chunk = self.random.between(length / 6 + 2, length + 3);
        let all_by_patch = self.random.once_in(2);
        loop {
            let session = self.session.as_mut().expect("a session is open");
            let start = session.acknowledged;
            let end = length.min(start + chunk);
            if start == length || (end == length && !all_by_patch) {
                return Ok(());
            }
            session.in_flight = end - start;
            self.send_chunk(start, end).await?;
        }
    }

    async fn send_chunk(&mut self, start: usize, end: usize) -> Result<(), Died> {
        let session = self.open_session();
        let request = self.client.request(Method::PATCH, &session.location).header(CONTENT_LENGTH, end - start);
        let request = request.header("content-range", format!("{start}-{}", end - 1));
        let body = self.counted(&session.blob.bytes[start..end]);
        let answer = self.answer(request.body(body), StatusCode::ACCEPTED).await?;
        self.acknowledge_chunk(&answer);
        Ok(())
    }

    fn open_session(&self) -> &Session {
        self.session.as_ref().expect("a session is open")
    }

    fn acknowledge_chunk(&mut self, answer: &Response) {
        let session = self.session.as_mut().expect("a session is open");
        session.location = location(answer.headers());
        session.acknowledged += session.in_flight;
        session.in_flight = 0;
        assert_eq!(received(answer), session.acknowledged, "the Range that answers a chunk");
    }

    /// The PUT with the bytes that are left.
    async fn close(&mut self) -> Result<(), Died> {
        self.session.as_mut().expect("a session is open").closing = true;
        let session = self.open_session();
        let joint = if session.location.contains('?') { '&' } else { '?' };
        let path = format!("{}{joint}digest={}", session.location, session.blob.digest);
        let rest = &session.blob.bytes[session.acknowledged..];
        let request = self.client.request(Method::PUT, &path).header(CONTENT_LENGTH, rest.len());
        let body = self.counted(rest);
        self.answer(request.body(body), StatusCode::CREATED).await?;
        Ok(())
    }

    /// Asks how far the session is, and sends what is missing.
    async fn resume(&mut self, mut session: Session) {
        let thing = self.blob(&session.blob);
        let digest = session.blob.digest.clone();
        self.ledger.begin(thing.clone(), &digest);
        let status = self.client.get(&session.location).await;
        if status.status() == StatusCode::NOT_FOUND && session.closing {
            // The session had ended, and only the answer was lost: then the blob is there.
            assert_eq!(self.client.blob(&self.repository, &digest).await, session.blob.bytes);
        } else {
            let status = expect(status, StatusCode::NO_CONTENT, "an interrupted upload").await;
            let received = received(&status);
            let possible = session.acknowledged..=session.acknowledged + session.in_flight;
            assert!(possible.contains(&received), "{received} bytes are there, but it must be one of {possible:?}");
            session.acknowledged = received;
            let length = session.blob.bytes.len();
            self.session = Some(session);
            if received < length && self.random.once_in(2) {
                self.session.as_mut().expect("it was put there").in_flight = length - received;
                self.send_chunk(received, length).await.expect("nobody kills the server now");
            }
            self.close().await.expect("nobody kills the server now");
            self.session = None;
        }
        self.ledger.acknowledge(&thing, &digest);
    }

    /// Sends a request, whose answer must have this status.
    async fn answer(&self, request: RequestBuilder, wanted: StatusCode) -> Result<Response, Died> {
        match request.send().await {
            Ok(answer) => {
                self.fuse.count(Event::Answered, 1);
                Ok(expect(answer, wanted, &self.tag).await)
            }
            Err(error) => {
                assert!(self.fuse.killed(), "a connection broke while the server was alive: {error:?}");
                Err(Died)
            }
        }
    }

    /// A body that is counted as it is sent.
    fn counted(&self, bytes: &[u8]) -> Body {
        let mut pieces: Vec<Bytes> = bytes.chunks(PIECE).map(Bytes::copy_from_slice).collect();
        let last = pieces.pop().unwrap_or_default();
        let fuse = Arc::clone(&self.fuse);
        let pieces = pieces.into_iter().map(|piece| (piece, false)).chain([(last, true)]);
        Body::wrap_stream(stream::iter(pieces.map(move |(piece, is_last)| {
            fuse.count(Event::ByteSent, piece.len());
            if is_last {
                fuse.count(Event::RequestSent, 1);
            }
            Ok::<_, Infallible>(piece)
        })))
    }
}

/// How many bytes of a session the answer says are there. `0-0` is none: no test sends a single byte.
fn received(answer: &Response) -> usize {
    let range = answer.headers()["range"].to_str().expect("a range is text");
    let last: usize = range.strip_prefix("0-").and_then(|last| last.parse().ok()).expect("a range of a session");
    if last == 0 { 0 } else { last + 1 }
}
