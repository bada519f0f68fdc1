//! Blobs that go from repositories: with the last manifest that needs them, or when their lease ends.

use super::{Account, BlobEnd, Foreseen, GoingBlob, PAGE};
use crate::Error;
use longshore_metadata::{GrantFacts, Metadata, NeededBlob, Review, ReviewPage};
use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

/// Holds on blobs, and what they lose.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Manifests that needed it and go.
    users: HashMap<Review, u64>,
    /// Repositories that held the blob and hold it no more.
    holders: HashMap<i64, u64>,
    gone: HashSet<Review>,
}

impl Holds {
    /// What goes with these manifests, and what nobody needs or holds.
    pub(super) async fn follow<F: FnMut(Foreseen)>(
        metadata: &Metadata,
        going: &[Review],
        account: &mut Account<F>,
    ) -> Result<(), Error> {
        let mut holds = Self::default();
        for page in going.chunks(PAGE as usize) {
            for needed in metadata.blobs_needed_by(page).await? {
                holds.lose_user(needed, account);
            }
        }
        holds.lose_loose(metadata, account).await?;
        unheld_blobs(metadata, account).await
    }

    fn lose_user<F: FnMut(Foreseen)>(&mut self, needed: NeededBlob, account: &mut Account<F>) {
        let NeededBlob { review, repository, digest, size, lost, users, holders } = needed;
        let all_lost = self.users.entry(review).or_default();
        *all_lost += lost;
        if *all_lost >= users {
            let (repository, when) = (Some(repository), BlobEnd::WithManifests);
            self.lose(review, holders, GoingBlob { repository, digest, size, when, is_freed: false }, account);
        }
    }

    /// Blobs that no manifest of their repository needs. What is promised goes when it is promised no longer; what a manifest
    /// needs has been looked at.
    async fn lose_loose<F: FnMut(Foreseen)>(
        &mut self,
        metadata: &Metadata,
        account: &mut Account<F>,
    ) -> Result<(), Error> {
        let mut after = Review::FIRST;
        loop {
            let page = metadata.review_grants(ReviewPage { after, only_due: false, limit: PAGE }).await?;
            let Some((last, _)) = page.found.last() else { return Ok(()) };
            after = *last;
            let loose = page.found.into_iter().filter_map(|(review, facts)| {
                facts.filter(|facts| facts.needed_by.is_none()).map(|facts| (review.thing(), facts))
            });
            let (reviews, loose): (Vec<Review>, Vec<GrantFacts>) = loose.unzip();
            let holders = metadata.count_holders(&reviews).await?;
            for (facts, (review, holders)) in loose.into_iter().zip(holders) {
                self.lose(review, holders, loose_blob(facts, page.now), account);
            }
        }
    }

    fn lose<F: FnMut(Foreseen)>(&mut self, hold: Review, holders: u64, blob: GoingBlob, account: &mut Account<F>) {
        if !self.gone.insert(hold) {
            return;
        }
        let lost = self.holders.entry(hold.blob()).or_default();
        *lost += 1;
        account.lose_blob(GoingBlob { is_freed: *lost == holders, ..blob });
    }
}

fn loose_blob(facts: GrantFacts, now: SystemTime) -> GoingBlob {
    let GrantFacts { repository, digest, size, expires_at, .. } = facts;
    let when = if expires_at > now { BlobEnd::LeaseEnds(expires_at) } else { BlobEnd::LeaseEnded(expires_at) };
    GoingBlob { repository: Some(repository), digest, size, when, is_freed: false }
}

/// Blobs that no repository holds.
async fn unheld_blobs<F: FnMut(Foreseen)>(metadata: &Metadata, account: &mut Account<F>) -> Result<(), Error> {
    let mut after = Review::FIRST;
    loop {
        let page = metadata.review_blobs(ReviewPage { after, only_due: false, limit: PAGE }).await?;
        let Some((last, _)) = page.found.last() else { return Ok(()) };
        after = *last;
        for facts in page.found.into_iter().filter_map(|(_, facts)| facts).filter(|facts| facts.held_by.is_none()) {
            let (digest, size) = (facts.digest, facts.size);
            account.lose_blob(GoingBlob { repository: None, digest, size, when: BlobEnd::Unheld, is_freed: true });
        }
    }
}
