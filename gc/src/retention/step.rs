//! Looking through repositories, each once an interval by whichever replica comes first.

use super::{PAGE, Retained, Survey};
use crate::{BATCH, Error, Event, House, manifests};
use longshore_metadata::{CondemnedTag, TagFacts, TagPage, TagsOutcome};
use longshore_oci::RepositoryName;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Names of repositories that are read together.
const REPOSITORIES: u32 = 500;

/// Looks through every repository that a rule is for and that is due.
///
/// # Errors
/// [`Error::TooMuch`] where too many tags, or build caches, would have gone: nothing is collected from then on.
pub(crate) async fn look_through(house: &House, report: &mut impl FnMut(Event)) -> Result<(), Error> {
    let retention = &house.rules.retention;
    // Twice an interval: a repository is due an interval after somebody looked through it.
    if retention.rules.is_empty() || !house.retention_walks.is_time(retention.interval / 2) {
        return Ok(());
    }
    let mut after = String::new();
    loop {
        let names = house.metadata.repositories_to_look_through(&after, retention.interval, REPOSITORIES).await?;
        let Some(last) = names.last() else { return Ok(()) };
        after = last.to_string();
        for repository in names.iter().filter(|repository| retention.concerns(repository)) {
            if house.metadata.look_through(repository, retention.interval).await? {
                report(Event::Retained(Retained { repositories: 1, ..Retained::default() }));
                Look { house, repository, reported: BTreeMap::new() }.run(report).await?;
            }
        }
    }
}

/// A look through one repository.
struct Look<'house> {
    house: &'house House,
    repository: &'house RepositoryName,
    /// What rules that only report would have deleted, by their names.
    reported: BTreeMap<&'house str, Reported>,
}

/// What a rule that only reports would have deleted.
#[derive(Debug, Default)]
struct Reported {
    tags: u64,
    build_caches: u64,
}

impl<'house> Look<'house> {
    async fn run(mut self, report: &mut impl FnMut(Event)) -> Result<(), Error> {
        let House { metadata, rules, clock, pace, .. } = self.house;
        let survey = Survey::read(metadata, &rules.retention, self.repository, *pace, Some(clock)).await?;
        let mut after = String::new();
        loop {
            let began = Instant::now();
            let page = metadata.tag_page(self.repository, &after, PAGE).await?;
            let Some(last) = page.tags.last() else { break };
            clock.look(page.now)?;
            after = last.tag.to_string();
            let caches = self.delete_tags(&survey, page, report).await?;
            self.delete_old_caches(&caches, report).await?;
            pace.rest(began).await;
        }
        self.tell_of_reported(report);
        Ok(())
    }

    /// Deletes the tags of a page that go. Answers those that stay and name a build cache.
    async fn delete_tags(
        &mut self,
        survey: &Survey<'house>,
        page: TagPage,
        report: &mut impl FnMut(Event),
    ) -> Result<Vec<TagFacts>, Error> {
        let (mut condemned, mut caches) = (Vec::new(), Vec::new());
        for facts in page.tags {
            match survey.verdict(&facts, page.now).goes_by() {
                Some(rule) if rule.dry_run => self.reported.entry(&rule.name).or_default().tags += 1,
                Some(rule) => condemned.push(CondemnedTag { facts, by: format!("retention: {}", rule.name) }),
                None if facts.is_build_cache => caches.push(facts),
                None => {}
            }
        }
        let breaker = self.house.rules.retention.breaker;
        for batch in condemned.chunks(BATCH as usize) {
            match self.house.metadata.delete_tags(self.repository, batch.to_vec(), breaker).await? {
                TagsOutcome::Deleted(tags) => report(Event::Retained(Retained { tags, ..Retained::default() })),
                TagsOutcome::Stopped => return Err(Error::TooMuch),
            }
        }
        Ok(caches)
    }

    /// Deletes what these tags named before the last few build caches, and nothing else keeps.
    async fn delete_old_caches(&mut self, tags: &[TagFacts], report: &mut impl FnMut(Event)) -> Result<(), Error> {
        let Some((rule, kept)) = self.house.rules.retention.build_caches(self.repository) else { return Ok(()) };
        for facts in tags {
            let old = self.house.metadata.old_generations(self.repository, &facts.tag, kept).await?;
            if rule.dry_run {
                self.reported.entry(&rule.name).or_default().build_caches += old.len() as u64;
                continue;
            }
            let old: Vec<_> = old.into_iter().map(|generation| generation.condemned).collect();
            for batch in old.chunks(BATCH as usize) {
                let build_caches = manifests::delete(self.house, batch.to_vec()).await?;
                report(Event::Retained(Retained { build_caches, ..Retained::default() }));
            }
        }
        Ok(())
    }

    fn tell_of_reported(&self, report: &mut impl FnMut(Event)) {
        for (rule, Reported { tags, build_caches }) in &self.reported {
            report(Event::Retained(Retained { reported: *tags, ..Retained::default() }));
            if tags + build_caches > 0 {
                let repository = self.repository;
                tracing::info!(%repository, rule, tags, build_caches, "a retention rule that only reports would delete tags");
            }
        }
    }
}
