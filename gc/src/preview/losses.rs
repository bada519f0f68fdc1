//! Tags that go by a rule, and the manifests that go with them, by themselves, or with what kept them.

use super::{Account, Foreseen, GoingManifest, Kept, PAGE, StayingManifest};
use crate::retention::Survey;
use crate::{Error, Pace, Rules, Verdict, verdict};
use longshore_metadata::{KeptManifest, ManifestFacts, Metadata, OldGeneration, Review, ReviewPage};
use longshore_oci::RepositoryName;
use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

/// Manifests, and what they lose.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Those that go, in the order in which that was found.
    all: Vec<Review>,
    seen: HashSet<Review>,
    /// Tags, indexes and subjects that kept it and go.
    keepers: HashMap<Review, u64>,
}

impl Losses {
    /// The manifests that go, now or later, and those that go with them.
    pub(super) async fn follow<F: FnMut(Foreseen)>(
        metadata: &Metadata,
        rules: &Rules,
        account: &mut Account<F>,
    ) -> Result<Vec<Review>, Error> {
        let mut losses = Self::default();
        losses.lose_all_tags(metadata, rules, account).await?;
        losses.lose_unkept(metadata, rules, account).await?;
        losses.follow_tags(metadata, account).await?;
        let mut begin = 0;
        while begin < losses.all.len() {
            let end = losses.all.len().min(begin + PAGE as usize);
            for manifest in metadata.manifests_kept_by(&losses.all[begin..end]).await? {
                losses.lose_keeper(manifest, 1, account);
            }
            begin = end;
        }
        losses.tell_kept(metadata, rules, account).await?;
        Ok(losses.all)
    }

    /// The tags that go by a rule, in the repositories that rules are for.
    async fn lose_all_tags<F: FnMut(Foreseen)>(
        &mut self,
        metadata: &Metadata,
        rules: &Rules,
        account: &mut Account<F>,
    ) -> Result<(), Error> {
        if rules.retention.rules.is_empty() {
            return Ok(());
        }
        let mut after = String::new();
        loop {
            let names = metadata.list_repositories(&after, PAGE).await?;
            let Some(last) = names.last() else { return Ok(()) };
            after = last.to_string();
            for repository in names.iter().filter(|repository| rules.retention.concerns(repository)) {
                self.lose_tags(metadata, rules, repository, account).await?;
            }
        }
    }

    /// The tags of a repository that go by a rule, and the build caches that tags no longer need.
    async fn lose_tags<F: FnMut(Foreseen)>(
        &mut self,
        metadata: &Metadata,
        rules: &Rules,
        repository: &RepositoryName,
        account: &mut Account<F>,
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
                    account.lose_tag(repository, facts, rule);
                } else if let (true, Some((_, kept))) = (facts.is_build_cache, caches) {
                    for old in metadata.old_generations(repository, &facts.tag, kept).await? {
                        self.lose_generation(old, account);
                    }
                }
            }
        }
    }

    fn lose_generation<F: FnMut(Foreseen)>(&mut self, old: OldGeneration, account: &mut Account<F>) {
        let OldGeneration { digest, size, condemned } = old;
        let since = Some(condemned.untagged_since);
        let manifest = GoingManifest { repository: condemned.repository, digest, size, since };
        self.lose(condemned.review.thing(), manifest, account);
    }

    /// The manifests that wait in the queue and go by themselves, now or when their time is over.
    async fn lose_unkept<F: FnMut(Foreseen)>(
        &mut self,
        metadata: &Metadata,
        rules: &Rules,
        account: &mut Account<F>,
    ) -> Result<(), Error> {
        each_waiting(metadata, |manifest, facts, now| {
            if !self.seen.contains(&manifest) {
                self.review(manifest, facts, (rules, now), account);
            }
        })
        .await
    }

    fn review<F: FnMut(Foreseen)>(
        &mut self,
        manifest: Review,
        facts: ManifestFacts,
        (rules, now): (&Rules, SystemTime),
        account: &mut Account<F>,
    ) {
        let verdict = verdict::of_manifest(Some(&facts), rules, now);
        let ManifestFacts { repository, digest, size, untagged_since: since, .. } = facts;
        match verdict {
            Verdict::Goes => self.lose(manifest, GoingManifest { repository, digest, size, since }, account),
            // It goes when its time is over, and takes with it what it keeps.
            Verdict::Until(until, reason) => {
                if self.note(manifest) {
                    account.lose_later(StayingManifest { repository, digest, size, until, reason });
                }
            }
            // What keeps it may go: that is told at the end.
            Verdict::Kept(_) => {}
        }
    }

    /// The manifests that lose their last tag.
    async fn follow_tags<F: FnMut(Foreseen)>(
        &mut self,
        metadata: &Metadata,
        account: &mut Account<F>,
    ) -> Result<(), Error> {
        let named: Vec<Review> = self.keepers.keys().copied().collect();
        for page in named.chunks(PAGE as usize) {
            for manifest in metadata.manifests_with_keepers(page).await? {
                self.lose_keeper(manifest, 0, account);
            }
        }
        Ok(())
    }

    fn lose_keeper<F: FnMut(Foreseen)>(&mut self, manifest: KeptManifest, lost: u64, account: &mut Account<F>) {
        let KeptManifest { review, repository, digest, size, keepers } = manifest;
        let all_lost = self.keepers.entry(review).or_default();
        *all_lost += lost;
        if *all_lost >= keepers {
            self.lose(review, GoingManifest { repository, digest, size, since: None }, account);
        }
    }

    /// The manifests that wait in the queue and that something keeps which does not go. They are read once more, for there may
    /// be many of them, and what goes had to be known first.
    async fn tell_kept<F: FnMut(Foreseen)>(
        &self,
        metadata: &Metadata,
        rules: &Rules,
        account: &mut Account<F>,
    ) -> Result<(), Error> {
        each_waiting(metadata, |manifest, facts, now| {
            if self.seen.contains(&manifest) {
                return;
            }
            if let Verdict::Kept(reason) = verdict::of_manifest(Some(&facts), rules, now) {
                let ManifestFacts { repository, digest, size, .. } = facts;
                let reason = Some(reason).filter(|_| !self.keepers.contains_key(&manifest));
                account.keep_manifest(Kept { repository, digest, size, reason });
            }
        })
        .await
    }

    fn lose<F: FnMut(Foreseen)>(&mut self, manifest: Review, told: GoingManifest, account: &mut Account<F>) {
        if self.note(manifest) {
            account.lose_manifest(told);
        }
    }

    /// Notes that a manifest goes, at whatever time: what goes with it is followed when all are known. False where that was
    /// noted already.
    fn note(&mut self, manifest: Review) -> bool {
        let is_new = self.seen.insert(manifest);
        if is_new {
            self.all.push(manifest);
        }
        is_new
    }
}

/// Looks at each manifest that waits in the queue, due or not, with what is known of it and the time at which it was read.
async fn each_waiting(
    metadata: &Metadata,
    mut look: impl FnMut(Review, ManifestFacts, SystemTime),
) -> Result<(), Error> {
    let mut after = Review::FIRST;
    loop {
        let page = metadata.review_manifests(ReviewPage { after, only_due: false, limit: PAGE }).await?;
        let Some((last, _)) = page.found.last() else { return Ok(()) };
        after = *last;
        for (review, facts) in page.found {
            if let Some(facts) = facts {
                look(review.thing(), facts, page.now);
            }
        }
    }
}
