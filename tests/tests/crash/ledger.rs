//! What the server has acknowledged, and what it was asked for when it died: what it must, and what it may, serve.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_tests::client::{Client, body, expect};
use longshore_tests::image::sha256;
use reqwest::StatusCode;

/// Something that can be asked for, in the repository named first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    /// By its digest.
    Blob(String, String),
    /// By its digest.
    Manifest(String, String),
    /// By its name.
    Tag(String, String),
}

/// The digests that a thing may have.
#[derive(Debug, Default)]
struct Standing {
    acknowledged: Option<String>,
    in_doubt: BTreeSet<String>,
}

/// The books of all clients of one server.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    standings: BTreeMap<Thing, Standing>,
    /// Since the last time that all was settled.
    touched: BTreeSet<Thing>,
}

impl Thing {
    async fn digest_served(&self, client: &Client) -> Option<String> {
        let answer = match self {
            Self::Blob(repository, digest) => client.get_blob(repository, digest).await,
            Self::Manifest(repository, reference) | Self::Tag(repository, reference) => {
                client.get_manifest(repository, reference).await
            }
        };
        if answer.status() == StatusCode::NOT_FOUND {
            return None;
        }
        let answer = expect(answer, StatusCode::OK, &format!("{self:?}")).await;
        let promised = answer.headers()["docker-content-digest"].to_str().expect("a digest is text").to_owned();
        let digest = sha256(&body(answer).await);
        assert_eq!(promised, digest, "{self:?} is served with a digest that is not that of its bytes");
        Some(digest)
    }
}

impl Ledger {
    /// A push of the thing with this digest begins: from now on the thing may be there.
    pub(crate) fn begin(&self, thing: Thing, digest: &str) {
        let mut books = self.lock();
        books.touched.insert(thing.clone());
        books.standings.entry(thing).or_default().in_doubt.insert(digest.to_owned());
    }

    /// The push was acknowledged: from now on the thing must be there.
    pub(crate) fn acknowledge(&self, thing: &Thing, digest: &str) {
        let mut books = self.lock();
        let standing = books.standings.get_mut(thing).expect("the push was begun");
        *standing = Standing { acknowledged: Some(digest.to_owned()), in_doubt: BTreeSet::new() };
    }

    /// How many things are acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.lock().standings.values().filter(|standing| standing.acknowledged.is_some()).count()
    }

    /// Looks at all that was touched since the last time. What was in doubt is known afterwards, and must stay so.
    pub(crate) async fn settle(&self, client: &Client) {
        let touched = std::mem::take(&mut self.lock().touched);
        for thing in touched {
            self.look_at(&thing, client).await;
        }
    }

    /// Looks at everything.
    pub(crate) async fn settle_all(&self, client: &Client) {
        let all: Vec<Thing> = self.lock().standings.keys().cloned().collect();
        for thing in all {
            self.look_at(&thing, client).await;
        }
    }

    async fn look_at(&self, thing: &Thing, client: &Client) {
        let served = thing.digest_served(client).await;
        let mut books = self.lock();
        let standing = books.standings.remove(thing).expect("only what stands here is looked at");
        match &served {
            None => assert_eq!(standing.acknowledged, None, "{thing:?} was acknowledged and is gone"),
            Some(digest) => assert!(
                standing.acknowledged.as_ref() == Some(digest) || standing.in_doubt.contains(digest),
                "{thing:?} is {digest}, which nobody pushed: {standing:?}"
            ),
        }
        if served.is_some() {
            books.standings.insert(thing.clone(), Standing { acknowledged: served, in_doubt: BTreeSet::new() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
