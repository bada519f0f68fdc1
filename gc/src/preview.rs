//! What would go, when, and why the rest stays: the collector's own facts and verdicts, followed to their end without
//! deleting anything.
//!
//! Whatever may go is in the queue, or is kept only by what is: so this is work in proportion to garbage too.

use crate::{Error, Reason, Rules, Verdict, verdict};
use longshore_metadata::{KeptManifest, Metadata, NeededBlob, Review, ReviewPage, WaitingBytes};
use longshore_oci::{Digest, RepositoryName};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::SystemTime,
};

/// Reviews that are read together.
const PAGE: u32 = 500;

/// What a collection would do.
#[derive(Debug, Default)]
pub struct Preview {
    /// Manifests that would go, with what goes with them.
    pub going: Vec<Going>,
    /// Manifests that would go if nothing happened, and why they stay until when.
    pub staying: Vec<Staying>,
    /// By repository, what it would hold no more.
    pub repositories: BTreeMap<RepositoryName, Share>,
    /// What would be deleted of the store, once what is promised and what is read has had its time.
    pub freed: Share,
    /// What is condemned already.
    pub waiting: WaitingBytes,
}

/// Things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Manifests.
    pub manifests: u64,
    /// Blobs.
    pub blobs: u64,
    /// The bytes of both.
    pub bytes: u64,
}

/// A manifest that would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Since when nothing keeps it; none where it goes with the last that keeps it.
    pub since: Option<SystemTime>,
}

/// A manifest that stays for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staying {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Until when.
    pub until: SystemTime,
    /// What keeps it so long.
    pub reason: Reason,
}

/// Looks at everything that waits, due or not.
///
/// # Errors
/// [`Error::Metadata`] where the database fails.
pub async fn preview(metadata: &Metadata, rules: &Rules) -> Result<Preview, Error> {
    let mut preview = Preview { waiting: metadata.waiting_bytes().await?, ..Preview::default() };
    let going = manifests(metadata, rules, &mut preview).await?;
    let mut grants = Grants::default();
    for page in going.chunks(PAGE as usize) {
        for needed in metadata.blobs_needed_by(page).await? {
            grants.lose_user(needed, &mut preview);
        }
    }
    loose_grants(metadata, &mut grants, &mut preview).await?;
    loose_blobs(metadata, &mut preview).await?;
    Ok(preview)
}

/// The manifests that go, and those that go with them.
async fn manifests(metadata: &Metadata, rules: &Rules, preview: &mut Preview) -> Result<Vec<Review>, Error> {
    let mut all = Vec::new();
    let mut after = Review::FIRST;
    loop {
        let page = metadata.review_manifests(ReviewPage { after, only_due: false, limit: PAGE }).await?;
        let Some((last, _)) = page.found.last() else { break };
        after = *last;
        for (review, facts) in page.found {
            let verdict = verdict::of_manifest(facts.as_ref(), rules, page.now);
            match (verdict, facts) {
                (Verdict::Goes, Some(facts)) => {
                    preview.lose_manifest(facts.repository, facts.digest, facts.size, facts.untagged_since);
                    all.push(review.thing());
                }
                (Verdict::Until(until, reason), Some(facts)) => {
                    let (repository, digest) = (facts.repository, facts.digest);
                    preview.staying.push(Staying { repository, digest, until, reason });
                }
                _ => {}
            }
        }
    }
    let mut kept: HashMap<Review, u64> = HashMap::new();
    let mut seen: HashSet<Review> = all.iter().copied().collect();
    let mut begin = 0;
    while begin < all.len() {
        let end = all.len().min(begin + PAGE as usize);
        for manifest in metadata.manifests_kept_by(&all[begin..end]).await? {
            let lost = kept.entry(manifest.review).or_default();
            *lost += 1;
            let KeptManifest { review, repository, digest, size, keepers } = manifest;
            if *lost == keepers && seen.insert(review) {
                preview.lose_manifest(repository, digest, size, None);
                all.push(review);
            }
        }
        begin = end;
    }
    Ok(all)
}

/// Holds on blobs, and what they lose.
#[derive(Debug, Default)]
struct Grants {
    /// Manifests that needed it and go.
    users: HashMap<Review, u64>,
    /// Repositories that held the blob and hold it no more.
    holders: HashMap<i64, u64>,
    gone: HashSet<Review>,
}

impl Grants {
    fn lose_user(&mut self, needed: NeededBlob, preview: &mut Preview) {
        let lost = self.users.entry(needed.review).or_default();
        *lost += 1;
        if *lost == needed.users {
            self.lose_grant(needed.review, needed.repository, needed.size, needed.holders, preview);
        }
    }

    fn lose_grant(
        &mut self,
        grant: Review,
        repository: RepositoryName,
        size: u64,
        holders: u64,
        preview: &mut Preview,
    ) {
        if !self.gone.insert(grant) {
            return;
        }
        preview.repositories.entry(repository).or_default().add_blob(size);
        let lost = self.holders.entry(grant.blob()).or_default();
        *lost += 1;
        if *lost == holders {
            preview.freed.add_blob(size);
        }
    }
}

/// Blobs that no manifest of their repository needs.
async fn loose_grants(metadata: &Metadata, grants: &mut Grants, preview: &mut Preview) -> Result<(), Error> {
    let mut after = Review::FIRST;
    loop {
        let page = metadata.review_grants(ReviewPage { after, only_due: false, limit: PAGE }).await?;
        let Some((last, _)) = page.found.last() else { return Ok(()) };
        after = *last;
        // What is promised goes when it is promised no longer; what a manifest needs has been looked at.
        let loose = page.found.into_iter().filter_map(|(review, facts)| {
            facts.filter(|facts| facts.needed_by.is_none()).map(|facts| (review.thing(), facts))
        });
        let loose: Vec<_> = loose.collect();
        let reviews: Vec<Review> = loose.iter().map(|(review, _)| *review).collect();
        let holders = metadata.count_holders(&reviews).await?;
        for ((review, facts), (_, holders)) in loose.into_iter().zip(holders) {
            grants.lose_grant(review, facts.repository, facts.size, holders, preview);
        }
    }
}

/// Blobs that no repository holds.
async fn loose_blobs(metadata: &Metadata, preview: &mut Preview) -> Result<(), Error> {
    let mut after = Review::FIRST;
    loop {
        let page = metadata.review_blobs(ReviewPage { after, only_due: false, limit: PAGE }).await?;
        let Some((last, _)) = page.found.last() else { return Ok(()) };
        after = *last;
        for facts in page.found.into_iter().filter_map(|(_, facts)| facts) {
            if facts.held_by.is_none() {
                preview.freed.add_blob(facts.size);
            }
        }
    }
}

impl Preview {
    fn lose_manifest(&mut self, repository: RepositoryName, digest: Digest, size: u64, since: Option<SystemTime>) {
        for share in [self.repositories.entry(repository.clone()).or_default(), &mut self.freed] {
            share.manifests += 1;
            share.bytes += size;
        }
        self.going.push(Going { repository, digest, since });
    }
}

impl Share {
    fn add_blob(&mut self, size: u64) {
        self.blobs += 1;
        self.bytes += size;
    }
}

/// Why a manifest stays, or that it goes; none where there is no such manifest.
///
/// # Errors
/// [`Error::Metadata`] where the database fails.
pub async fn why(
    metadata: &Metadata,
    rules: &Rules,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<Verdict>, Error> {
    let now = metadata.collection_state().await?.now;
    let facts = metadata.manifest_facts(repository, digest).await?;
    Ok(facts.map(|facts| verdict::of_manifest(Some(&facts), rules, now)))
}
