//! One push or pull of a client that does not give up at once: what it may put up with, and how often.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use longshore_tests::client::Client;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Body, RequestBuilder, Response, StatusCode};

use crate::KIB;
use crate::progress::Progress;

/// How much of a body is handed to the connection at once.
const PIECE: usize = 64 * KIB;

/// What a blow hits, and so what clients have to put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// A replica, behind a balancer that is reached all the time: one try more, as soon as the replica is dead.
    Replica,
    /// What all replicas stand on: one try more, when it is back again.
    Below,
}

/// Where a client turns to, each time to the next one.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    urls: Vec<String>,
    clients: Vec<Client>,
    asked: usize,
}

impl Doors {
    pub(crate) fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let urls: Vec<String> = urls.into_iter().map(Into::into).collect();
        Self { clients: urls.iter().map(|url| Client::new(url)).collect(), urls, asked: 0 }
    }

    /// The same doors, with connections of its own.
    pub(crate) fn anew(&self) -> Self {
        Self::new(&self.urls)
    }

    fn next(&mut self) -> &Client {
        self.asked += 1;
        &self.clients[self.asked % self.clients.len()]
    }
}

/// What was answered, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Itself, if it has this status.
    pub(crate) fn expect(self, status: StatusCode, what: &str) -> Self {
        let Self { status: got, body, .. } = &self;
        assert_eq!(*got, status, "{what}: {}", String::from_utf8_lossy(body));
        self
    }
}

/// A request that failed in a way that a client may put up with.
#[derive(Debug)]
pub(crate) struct Failed(String);

/// A push or a pull.
pub(crate) struct Errand<'a> {
    name: String,
    doors: &'a mut Doors,
    progress: &'a Arc<Progress>,
    blow: Blow,
    begun: usize,
    failures: Vec<String>,
}

impl<'a> Errand<'a> {
    pub(crate) fn begin(name: String, doors: &'a mut Doors, progress: &'a Arc<Progress>, blow: Blow) -> Self {
        Self { name, doors, progress, blow, begun: progress.begin(), failures: Vec::new() }
    }

    /// How often it failed on its way.
    pub(crate) fn end(self) -> usize {
        self.progress.end(self.begun);
        self.failures.len()
    }

    /// Whether a blow may have taken from the registry what it never promised to keep: a session without bytes. The client need
    /// not have noticed: a request that comes just then waits for the database, and hears that there is no such session.
    pub(crate) fn may_have_lost_promises(&self) -> bool {
        self.blow == Blow::Below && self.progress.may_have_hit(self.begun)
    }

    /// Sends a request, once.
    pub(crate) async fn ask(&mut self, request: impl Fn(&Client) -> RequestBuilder) -> Result<Answer, Failed> {
        let failed = |error: reqwest::Error| Failed(format!("{error:?}"));
        let mut response = request(self.doors.next()).send().await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.receive(&mut response).await.map_err(failed)?;
        if status.is_server_error() {
            let text = format!("{status}: {}", String::from_utf8_lossy(&body));
            let by_balancer = self.blow == Blow::Replica && status == StatusCode::BAD_GATEWAY;
            assert!(by_balancer || headers.contains_key(RETRY_AFTER), "{}: {text}", self.name);
            return Err(Failed(text));
        }
        Ok(Answer { status, headers, body })
    }

    /// Sends a request, and again where it may fail.
    pub(crate) async fn insist(&mut self, request: impl Fn(&Client) -> RequestBuilder) -> Answer {
        loop {
            match self.ask(&request).await {
                Ok(answer) => return answer,
                Err(failed) => self.put_up_with(failed).await,
            }
        }
    }

    /// Waits until it makes sense to try again.
    ///
    /// # Panics
    /// Where nothing has been struck since it began, or it failed too often.
    pub(crate) async fn put_up_with(&mut self, failed: Failed) {
        let Self { name, failures, .. } = self;
        failures.push(failed.0);
        // As all clients do: what is on a connection after a request that failed is anybody's guess.
        *self.doors = self.doors.anew();
        let is_late = self.progress.fail(self.begun);
        assert!(!is_late, "{name} failed, and nothing was struck since it began: {failures:?}");
        match self.blow {
            Blow::Replica => self.progress.struck().await,
            Blow::Below => self.progress.recovered().await,
        }
        assert_eq!(failures.len(), 1, "{name} failed too often: {failures:#?}");
    }

    /// What makes bodies that are counted as they are sent.
    pub(crate) fn sender(&self) -> Sender {
        Sender(Arc::clone(self.progress))
    }

    /// Whether it has failed before.
    pub(crate) fn has_failed(&self) -> bool {
        !self.failures.is_empty()
    }

    async fn receive(&self, response: &mut Response) -> reqwest::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            self.progress.count_piece();
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

/// Makes bodies that are counted as they are sent.
pub(crate) struct Sender(Arc<Progress>);

impl Sender {
    pub(crate) fn body(&self, bytes: &[u8]) -> Body {
        let pieces: Vec<Bytes> = bytes.chunks(PIECE).map(Bytes::copy_from_slice).collect();
        let progress = Arc::clone(&self.0);
        Body::wrap_stream(stream::iter(pieces.into_iter().map(move |piece| {
            progress.count_piece();
            Ok::<_, Infallible>(piece)
        })))
    }
}
