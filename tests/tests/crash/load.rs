//! Clients that push and pull images all the time, whatever happens to the registry meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use longshore_tests::image::{Blob, Image, sha256};
use longshore_tests::random::Random;
use longshore_tests::server::Server;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use tokio::task::JoinSet;

use crate::errand::{Blow, Doors, Errand};
use crate::progress::Progress;
use crate::push;
use crate::{KIB, MIB, made_up};

/// Clients at a time.
const CLIENTS: usize = 6;
/// One operation of so many is a push, the others are pulls.
const PUSH_EVERY: usize = 6;
/// One image of so many has a layer that goes to an object store in parts.
const LARGE_EVERY: usize = 12;

/// An image that was acknowledged.
#[derive(Debug)]
pub(crate) struct Stored {
    repository: String,
    tag: String,
    image: Image,
}

/// The clients, and what they know.
#[derive(Debug)]
pub(crate) struct Load {
    doors: Doors,
    pub(crate) progress: Arc<Progress>,
    blow: Blow,
    shelf: Mutex<Vec<Arc<Stored>>>,
    tickets: AtomicUsize,
    pulls: AtomicUsize,
    failures: AtomicUsize,
    /// After so many operations clients stop, if the test wants no more of them.
    least: usize,
    is_enough: AtomicBool,
}

impl Load {
    /// At least so many operations, by these doors.
    pub(crate) fn new(doors: Doors, blow: Blow, least: usize) -> Arc<Self> {
        Arc::new(Self {
            doors,
            progress: Arc::new(Progress::new()),
            blow,
            shelf: Mutex::default(),
            tickets: AtomicUsize::new(0),
            pulls: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
            least,
            is_enough: AtomicBool::new(false),
        })
    }

    /// Runs the clients while `storm` does its harm, and until they have done what they have to do.
    pub(crate) async fn run(self: &Arc<Self>, random: &mut Random, storm: impl Future<Output = ()>) {
        self.push(0, &mut self.doors.anew(), &mut random.fork()).await;
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(Arc::clone(self).work(random.fork()));
        }
        tokio::select! {
            () = storm => {}
            ended = clients.join_next() => panic!("a client stopped before it was told to: {ended:?}"),
        }
        self.is_enough.store(true, Ordering::SeqCst);
        clients.join_all().await;
    }

    /// Pulls everything that was ever acknowledged from each of these replicas.
    pub(crate) async fn assert_kept(self: &Arc<Self>, replicas: &[Server]) {
        for replica in replicas {
            let mut doors = Doors::new([replica.url()]);
            for stored in self.shelf().iter() {
                let mut errand =
                    Errand::begin(format!("the last pull of {}", stored.tag), &mut doors, &self.progress, self.blow);
                pull(&mut errand, stored).await;
                errand.end();
            }
        }
    }

    /// How many requests failed, and were put up with.
    pub(crate) fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }

    /// What happened, in a line.
    pub(crate) fn account(&self) -> String {
        format!(
            "{} blows; {} images pushed and {} pulled; {} requests failed on the way",
            self.progress.dealt(),
            self.shelf().len(),
            self.pulls.load(Ordering::SeqCst),
            self.failures(),
        )
    }

    async fn work(self: Arc<Self>, mut random: Random) {
        let mut doors = self.doors.anew();
        loop {
            let ticket = self.tickets.fetch_add(1, Ordering::SeqCst) + 1;
            if ticket > self.least && self.is_enough.load(Ordering::SeqCst) {
                return;
            }
            if ticket.is_multiple_of(PUSH_EVERY) {
                self.push(ticket, &mut doors, &mut random).await;
            } else {
                self.pull(&mut doors, &mut random).await;
            }
        }
    }

    async fn push(&self, ticket: usize, doors: &mut Doors, random: &mut Random) {
        let is_large = ticket.is_multiple_of(PUSH_EVERY * LARGE_EVERY);
        let stored = Stored {
            repository: format!("load/{}", random.between(0, 4)),
            tag: format!("image-{ticket}"),
            image: image(random, is_large),
        };
        let mut errand = self.begin(doors, format!("the push of {}", stored.tag));
        push_image(&mut errand, random, &stored).await;
        self.failures.fetch_add(errand.end(), Ordering::SeqCst);
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(stored));
    }

    async fn pull(&self, doors: &mut Doors, random: &mut Random) {
        let stored = {
            let shelf = self.shelf();
            Arc::clone(&shelf[random.between(0, shelf.len())])
        };
        let mut errand = self.begin(doors, format!("the pull of {}", stored.tag));
        pull(&mut errand, &stored).await;
        self.failures.fetch_add(errand.end(), Ordering::SeqCst);
        self.pulls.fetch_add(1, Ordering::SeqCst);
    }

    fn begin<'a>(&'a self, doors: &'a mut Doors, name: String) -> Errand<'a> {
        Errand::begin(name, doors, &self.progress, self.blow)
    }

    fn shelf(&self) -> Vec<Arc<Stored>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Layers for each way that the registry keeps bytes: in a row, in an object, and once in a while in parts.
fn image(random: &mut Random, is_large: bool) -> Image {
    let mut lengths =
        vec![random.between(2, 16 * KIB), random.between(17 * KIB, 200 * KIB), random.between(300 * KIB, MIB)];
    if is_large {
        lengths.push(random.between(9 * MIB, 14 * MIB));
    }
    let layers = lengths.into_iter().map(|length| made_up::layer(random, length)).collect();
    made_up::image_of(random, layers)
}

fn blobs(image: &Image) -> impl Iterator<Item = &Blob> {
    image.layers.iter().chain([&image.config])
}

async fn push_image(errand: &mut Errand<'_>, random: &mut Random, stored: &Stored) {
    let Stored { repository, tag, image } = stored;
    for blob in blobs(image) {
        push::blob(errand, random, repository, blob).await;
    }
    let bytes = &image.manifest.bytes;
    let path = format!("/v2/{repository}/manifests/{tag}");
    let answer = errand.insist(|client| {
        let request = client.request(Method::PUT, &path).header(CONTENT_TYPE, &image.manifest.media_type);
        request.body(bytes.clone())
    });
    answer.await.expect(StatusCode::CREATED, tag);
}

/// Every byte must be right.
async fn pull(errand: &mut Errand<'_>, stored: &Stored) {
    let Stored { repository, tag, image } = stored;
    let path = format!("/v2/{repository}/manifests/{tag}");
    let media_type = image.manifest.media_type.as_str();
    let manifest = errand.insist(|client| client.request(Method::GET, &path).header(ACCEPT, media_type)).await;
    assert!(manifest.expect(StatusCode::OK, tag).body == image.manifest.bytes, "{tag} is another manifest");
    for blob in blobs(image) {
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        let answer = errand.insist(|client| client.request(Method::GET, &path)).await.expect(StatusCode::OK, tag);
        assert_eq!(sha256(&answer.body), blob.digest, "other bytes are served for a layer of {tag}");
    }
}
