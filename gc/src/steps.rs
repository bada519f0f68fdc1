//! The steps that review what waits in the queue. Each is a look, without a lock, and an act on what was found: whatever
//! happens between the two is seen by the act, or by the review that it queues.

use crate::{Error, Event, House, Verdict, blobs, grants, manifests};
use longshore_metadata::{CondemnedGrant, CondemnedManifest, Deleted, Review};
use std::time::SystemTime;
use tokio::time::Instant;

/// What is reviewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Manifests that nothing keeps.
    Manifests,
    /// Holds of repositories on blobs that nothing keeps.
    Grants,
    /// Blobs that no repository holds.
    Blobs,
}

impl Step {
    fn did(self, deleted: Deleted) -> Event {
        match self {
            Self::Manifests => Event::Manifests(deleted),
            Self::Grants => Event::Grants(deleted),
            Self::Blobs => Event::Blobs(deleted),
        }
    }
}

/// What a look found.
#[derive(Debug)]
pub struct Findings(Found);

#[derive(Debug)]
enum Found {
    Manifests(Sorted<CondemnedManifest>),
    Grants(Sorted<CondemnedGrant>),
    Blobs(Sorted<Review>),
}

/// What is to become of a page of reviews.
#[derive(Debug)]
pub(crate) struct Sorted<T> {
    /// The last of them.
    last: Review,
    /// They stay until something happens.
    pub(crate) kept: Vec<Review>,
    /// They stay until then at least.
    pub(crate) postponed: Vec<(Review, SystemTime)>,
    pub(crate) condemned: Vec<T>,
}

impl<T> Sorted<T> {
    pub(crate) fn until(last: Review) -> Self {
        Self { last, kept: Vec::new(), postponed: Vec::new(), condemned: Vec::new() }
    }

    pub(crate) fn add(&mut self, review: Review, verdict: &Verdict, condemn: impl FnOnce() -> Option<T>) {
        match verdict {
            Verdict::Kept(_) => self.kept.push(review),
            Verdict::Until(time, _) => self.postponed.push((review, *time)),
            Verdict::Goes => self.condemned.extend(condemn()),
        }
    }
}

impl Findings {
    fn last(&self) -> Review {
        match &self.0 {
            Found::Manifests(sorted) => sorted.last,
            Found::Grants(sorted) => sorted.last,
            Found::Blobs(sorted) => sorted.last,
        }
    }
}

impl House {
    /// Reads the due reviews after this one, and decides; none where there are none.
    pub(crate) async fn look(&self, step: Step, after: Review) -> Result<Option<Findings>, Error> {
        let found = match step {
            Step::Manifests => manifests::look(self, after).await?.map(Found::Manifests),
            Step::Grants => grants::look(self, after).await?.map(Found::Grants),
            Step::Blobs => blobs::look(self, after).await?.map(Found::Blobs),
        };
        Ok(found.map(Findings))
    }

    /// Does what was decided, as far as it is still right.
    pub(crate) async fn act(&self, findings: Findings) -> Result<Deleted, Error> {
        match findings.0 {
            Found::Manifests(sorted) => manifests::act(self, sorted).await,
            Found::Grants(sorted) => grants::act(self, sorted).await,
            Found::Blobs(sorted) => blobs::act(self, sorted).await,
        }
    }

    /// Looks and acts until nothing is due that was not looked at, with rests.
    pub(crate) async fn all(&self, step: Step, report: &mut impl FnMut(Event)) -> Result<(), Error> {
        let mut after = Review::FIRST;
        loop {
            let began = Instant::now();
            let Some(findings) = self.look(step, after).await? else { return Ok(()) };
            if self.is_halted().await? {
                return Ok(());
            }
            after = findings.last();
            report(step.did(self.act(findings).await?));
            self.pace.rest(began).await;
        }
    }
}
