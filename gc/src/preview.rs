//! What would go, when, and why the rest stays: the collector's own facts and verdicts, followed to their end without
//! deleting anything.
//!
//! Whatever may go is in the queue, or is kept only by what is, or by a tag that a rule deletes: so this is work in proportion
//! to garbage, and to the tags that rules are for.

use crate::retention::Survey;
use crate::{Error, Pace, Reason, RetentionRule, Rules, TagVerdict, Verdict, verdict};
use longshore_metadata::{
    KeptManifest, Metadata, NeededBlob, OldGeneration, Review, ReviewPage, TagFacts, WaitingBytes,
};
use longshore_oci::{Digest, RepositoryName, Tag};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::SystemTime,
};

/// Reviews that are read together.
const PAGE: u32 = 500;

/// What a collection would do.
#[derive(Debug, Default)]
pub struct Preview {
    /// Tags that would go by a rule.
    pub tags: Vec<GoingTag>,
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

/// A tag that would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoingTag {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its name.
    pub tag: Tag,
    /// What it names.
    pub digest: Digest,
    /// The rule by which it goes.
    pub rule: String,
    /// Whether the rule only reports. What follows is counted as if it did not.
    pub is_only_reported: bool,
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
    let mut losses = Losses::default();
    for repository in concerned(metadata, rules).await? {
        losses.lose_tags(metadata, rules, &repository, preview).await?;
    }
    losses.lose_unkept(metadata, rules, preview).await?;
    losses.follow_tags(metadata, preview).await?;
    let mut begin = 0;
    while begin < losses.all.len() {
        let end = losses.all.len().min(begin + PAGE as usize);
        for manifest in metadata.manifests_kept_by(&losses.all[begin..end]).await? {
            losses.lose_keeper(manifest, 1, preview);
        }
        begin = end;
    }
    Ok(losses.all)
}

/// The repositories that rules of retention are for.
async fn concerned(metadata: &Metadata, rules: &Rules) -> Result<Vec<RepositoryName>, Error> {
    let mut concerned = Vec::new();
    if rules.retention.rules.is_empty() {
        return Ok(concerned);
    }
    let mut after = String::new();
    loop {
        let names = metadata.list_repositories(&after, PAGE).await?;
        let Some(last) = names.last() else { return Ok(concerned) };
        after = last.to_string();
        concerned.extend(names.into_iter().filter(|repository| rules.retention.concerns(repository)));
    }
}

/// Manifests, and what they lose.
#[derive(Debug, Default)]
struct Losses {
    /// Those that go, in the order in which that was found.
    all: Vec<Review>,
    seen: HashSet<Review>,
    /// Tags, indexes and subjects that kept it and go.
    keepers: HashMap<Review, u64>,
}

impl Losses {
    fn lose_keeper(&mut self, manifest: KeptManifest, lost: u64, preview: &mut Preview) {
        let KeptManifest { review, repository, digest, size, keepers } = manifest;
        let all_lost = self.keepers.entry(review).or_default();
        *all_lost += lost;
        if *all_lost >= keepers && self.seen.insert(review) {
            preview.lose_manifest(repository, digest, size, None);
            self.all.push(review);
        }
    }

    /// The tags of a repository that go by a rule, and the build caches that tags no longer need.
    async fn lose_tags(
        &mut self,
        metadata: &Metadata,
        rules: &Rules,
        repository: &RepositoryName,
        preview: &mut Preview,
    ) -> Result<(), Error> {
        let retention = &rules.retention;
        let survey = Survey::read(metadata, retention, repository, Pace::new(100), None).await?;
        let caches = retention.build_caches(repository);
        let mut after = String::new();
        loop {
            let page = metadata.tag_page(repository, &after, PAGE).await?;
            let Some(last) = page.tags.last() else { return Ok(()) };
            after = last.tag.to_string();
            for facts in page.tags {
                if let Some(rule) = survey.verdict(&facts, page.now).goes_by() {
                    *self.keepers.entry(facts.manifest).or_default() += 1;
                    preview.lose_tag(repository, facts, rule);
                } else if let (true, Some((_, kept))) = (facts.is_build_cache, caches) {
                    for old in metadata.old_generations(repository, &facts.tag, kept).await? {
                        self.lose_generation(old, preview);
                    }
                }
            }
        }
    }

    fn lose_generation(&mut self, old: OldGeneration, preview: &mut Preview) {
        let review = old.condemned.review.thing();
        if self.seen.insert(review) {
            let since = Some(old.condemned.untagged_since);
            preview.lose_manifest(old.condemned.repository, old.digest, old.size, since);
            self.all.push(review);
        }
    }

    /// The manifests that wait in the queue and go by themselves.
    async fn lose_unkept(&mut self, metadata: &Metadata, rules: &Rules, preview: &mut Preview) -> Result<(), Error> {
        let mut after = Review::FIRST;
        loop {
            let page = metadata.review_manifests(ReviewPage { after, only_due: false, limit: PAGE }).await?;
            let Some((last, _)) = page.found.last() else { return Ok(()) };
            after = *last;
            for (review, facts) in page.found {
                let verdict = verdict::of_manifest(facts.as_ref(), rules, page.now);
                let Some(facts) = facts.filter(|_| !self.seen.contains(&review.thing())) else { continue };
                match verdict {
                    Verdict::Goes => {
                        preview.lose_manifest(facts.repository, facts.digest, facts.size, facts.untagged_since);
                        self.seen.insert(review.thing());
                        self.all.push(review.thing());
                    }
                    Verdict::Until(until, reason) => {
                        let (repository, digest) = (facts.repository, facts.digest);
                        preview.staying.push(Staying { repository, digest, until, reason });
                    }
                    Verdict::Kept(_) => {}
                }
            }
        }
    }

    /// The manifests that lose their last tag.
    async fn follow_tags(&mut self, metadata: &Metadata, preview: &mut Preview) -> Result<(), Error> {
        let named: Vec<Review> = self.keepers.keys().copied().collect();
        for page in named.chunks(PAGE as usize) {
            for manifest in metadata.manifests_with_keepers(page).await? {
                self.lose_keeper(manifest, 0, preview);
            }
        }
        Ok(())
    }
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
    fn lose_tag(&mut self, repository: &RepositoryName, facts: TagFacts, rule: &RetentionRule) {
        let (repository, rule, is_only_reported) = (repository.clone(), rule.name.clone(), rule.dry_run);
        self.tags.push(GoingTag { repository, tag: facts.tag, digest: facts.digest, rule, is_only_reported });
    }

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

/// What rules of retention say of a tag; none where there is no such tag.
///
/// # Errors
/// [`Error::Metadata`] where the database fails.
pub async fn why_tag<'rules>(
    metadata: &Metadata,
    rules: &'rules Rules,
    repository: &'rules RepositoryName,
    tag: &Tag,
) -> Result<Option<TagVerdict<'rules>>, Error> {
    let survey = Survey::read(metadata, &rules.retention, repository, Pace::new(100), None).await?;
    let found = metadata.tag_facts(repository, tag).await?;
    Ok(found.map(|(now, facts)| survey.verdict(&facts, now)))
}
