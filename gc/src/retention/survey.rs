//! What rules say of the tags of one repository.

use super::{Retention, RetentionRule, expiry};
use crate::{Clock, Error, Pace};
use longshore_metadata::{Metadata, TagFacts};
use longshore_oci::{ImmutableTags, RepositoryName, Tag};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// Tags that are read together.
pub(crate) const PAGE: u32 = 500;

/// What becomes of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagVerdict<'rules> {
    /// It stays: no rule is for it.
    NoRule,
    /// It stays: it may not move, by the rule of this name.
    Immutable(&'rules str),
    /// It stays as long as this is so.
    Kept(&'rules RetentionRule, KeptBy),
    /// It stays until then at least.
    Until(&'rules RetentionRule, SystemTime, KeptBy),
    /// It goes: nothing keeps it that the rule names.
    Goes(&'rules RetentionRule),
    /// It goes: its manifest said that it would live so long.
    Expired(&'rules RetentionRule, Duration),
}

/// What keeps a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptBy {
    /// The rule keeps all of its tags.
    All,
    /// It is one of the last so many that were pushed.
    LastPushed(u32),
    /// It is one of the last so many that were pulled.
    LastPulled(u32),
    /// It was pushed not longer ago.
    PushedWithin(Duration),
    /// It was pulled not longer ago.
    PulledWithin(Duration),
    /// Its manifest says that it lives so long.
    Annotation(Duration),
    /// Its manifest does not say how long it lives, and the rule is for those that do.
    NoAnnotation,
}

impl fmt::Display for KeptBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all of them stay"),
            Self::LastPushed(count) => write!(formatter, "one of the last {count} pushed"),
            Self::LastPulled(count) => write!(formatter, "one of the last {count} pulled"),
            Self::PushedWithin(time) => write!(formatter, "pushed within {}", in_words(*time)),
            Self::PulledWithin(time) => write!(formatter, "pulled within {}", in_words(*time)),
            Self::Annotation(time) => write!(formatter, "its annotation says {}", in_words(*time)),
            Self::NoAnnotation => formatter.write_str("it has no annotation that says how long it lives"),
        }
    }
}

/// A duration as people write it, in its largest units.
fn in_words(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    let mut text = String::new();
    for (unit, length) in [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)] {
        if seconds >= length {
            text.push_str(&format!("{}{unit}", seconds / length));
            seconds %= length;
        }
    }
    if text.is_empty() { format!("{}ms", duration.as_millis()) } else { text }
}

impl<'rules> TagVerdict<'rules> {
    /// The rule by which it goes.
    pub fn goes_by(&self) -> Option<&'rules RetentionRule> {
        match self {
            Self::Goes(rule) | Self::Expired(rule, _) => Some(rule),
            Self::NoRule | Self::Immutable(_) | Self::Kept(..) | Self::Until(..) => None,
        }
    }
}

/// The newest so many tags, in bounded memory.
#[derive(Debug)]
struct Newest {
    most: usize,
    /// The least of them on top.
    keys: BinaryHeap<Reverse<(SystemTime, Tag)>>,
}

impl Newest {
    fn new(most: Option<u32>) -> Self {
        Self { most: most.unwrap_or_default() as usize, keys: BinaryHeap::new() }
    }

    fn offer(&mut self, at: SystemTime, tag: &Tag) {
        if self.keys.len() < self.most {
            self.keys.push(Reverse((at, tag.clone())));
        } else if let Some(mut least) = self.keys.peek_mut()
            && (least.0.0, &least.0.1) < (at, tag)
        {
            *least = Reverse((at, tag.clone()));
        }
    }

    fn has(&self, at: SystemTime, tag: &Tag) -> bool {
        let is_newer = |least: &Reverse<(SystemTime, Tag)>| (least.0.0, &least.0.1) <= (at, tag);
        self.most > 0 && (self.keys.len() < self.most || self.keys.peek().is_some_and(is_newer))
    }
}

/// A rule with what it has to know of all the tags that it is for.
#[derive(Debug)]
struct Ranked<'rules> {
    rule: &'rules RetentionRule,
    pushed: Newest,
    pulled: Newest,
}

/// The rules about tags of one repository, with what they have to know of all of them. First every tag is added, then each
/// is judged.
#[derive(Debug)]
pub(crate) struct Survey<'rules> {
    repository: &'rules RepositoryName,
    immutable: &'rules ImmutableTags,
    rules: Vec<Ranked<'rules>>,
}

impl<'rules> Survey<'rules> {
    pub(crate) fn new(retention: &'rules Retention, repository: &'rules RepositoryName) -> Self {
        let ranked = |rule: &'rules RetentionRule| {
            let (pushed, pulled) = (Newest::new(rule.keep.last_pushed), Newest::new(rule.keep.last_pulled));
            Ranked { rule, pushed, pulled }
        };
        let rules = retention.tag_rules(repository).map(ranked).collect();
        Self { repository, immutable: &retention.immutable, rules }
    }

    /// Reads all tags of the repository, where a rule compares them.
    pub(crate) async fn read(
        metadata: &Metadata,
        retention: &'rules Retention,
        repository: &'rules RepositoryName,
        pace: Pace,
        clock: Option<&Clock>,
    ) -> Result<Self, Error> {
        let mut survey = Self::new(retention, repository);
        let compares = |ranked: &Ranked<'_>| ranked.pushed.most > 0 || ranked.pulled.most > 0;
        if !survey.rules.iter().any(compares) {
            return Ok(survey);
        }
        let mut after = String::new();
        loop {
            let began = Instant::now();
            let page = metadata.tag_page(repository, &after, PAGE).await?;
            let Some(last) = page.tags.last() else { return Ok(survey) };
            clock.map_or(Ok(()), |clock| clock.look(page.now))?;
            after = last.tag.to_string();
            page.tags.iter().for_each(|tag| survey.add(tag));
            pace.rest(began).await;
        }
    }

    /// Takes a tag into account.
    pub(crate) fn add(&mut self, facts: &TagFacts) {
        let Some(place) = self.place_of(facts) else { return };
        let Ranked { rule, pushed, pulled } = &mut self.rules[place];
        if is_immutable(self.immutable, self.repository, rule, facts).is_none() && annotation(rule, facts).is_none() {
            pushed.offer(facts.pushed_at, &facts.tag);
            pulled.offer(used_at(facts), &facts.tag);
        }
    }

    /// What becomes of a tag. Those that were not added are judged beside those that were.
    pub(crate) fn verdict(&self, facts: &TagFacts, now: SystemTime) -> TagVerdict<'rules> {
        let Some(place) = self.place_of(facts) else {
            let rule = self.immutable.rule_for(self.repository, &facts.tag);
            return rule.map_or(TagVerdict::NoRule, TagVerdict::Immutable);
        };
        let ranked = &self.rules[place];
        if let Some(name) = is_immutable(self.immutable, self.repository, ranked.rule, facts) {
            return TagVerdict::Immutable(name);
        }
        ranked.verdict(facts, now)
    }

    /// The first rule that is for the tag.
    fn place_of(&self, facts: &TagFacts) -> Option<usize> {
        self.rules.iter().position(|ranked| ranked.rule.scope.has_tag(&facts.tag))
    }
}

/// The rule of immutability by which the tag stays, whatever this rule says.
fn is_immutable<'rules>(
    immutable: &'rules ImmutableTags,
    repository: &RepositoryName,
    rule: &RetentionRule,
    facts: &TagFacts,
) -> Option<&'rules str> {
    if rule.even_immutable { None } else { immutable.rule_for(repository, &facts.tag) }
}

/// When the tag was last pulled, as rules have it: one that was pushed a moment ago had no time to be pulled yet, and is not older
/// than one that was.
fn used_at(facts: &TagFacts) -> SystemTime {
    facts.last_pulled_at.map_or(facts.pushed_at, |pulled| pulled.max(facts.pushed_at))
}

/// How long the tag lives by its annotation, where the rule listens to that.
fn annotation(rule: &RetentionRule, facts: &TagFacts) -> Option<Duration> {
    let said = facts.expires_after.as_deref().filter(|_| rule.expire_annotated);
    said.and_then(expiry::parse)
}

impl<'rules> Ranked<'rules> {
    fn verdict(&self, facts: &TagFacts, now: SystemTime) -> TagVerdict<'rules> {
        let (rule, keep) = (self.rule, &self.rule.keep);
        if let Some(lives) = annotation(rule, facts) {
            let until = facts.pushed_at + lives;
            let is_over = until <= now;
            return if is_over {
                TagVerdict::Expired(rule, lives)
            } else {
                TagVerdict::Until(rule, until, KeptBy::Annotation(lives))
            };
        }
        if let Some(by) = self.kept_by(facts) {
            return TagVerdict::Kept(rule, by);
        }
        let pushed = keep.pushed_within.map(|time| (facts.pushed_at + time, KeptBy::PushedWithin(time)));
        let pulled = keep.pulled_within.map(|time| (used_at(facts) + time, KeptBy::PulledWithin(time)));
        let longest = pushed.into_iter().chain(pulled).max_by_key(|(until, _)| *until);
        match longest.filter(|(until, _)| *until > now) {
            Some((until, by)) => TagVerdict::Until(rule, until, by),
            None => TagVerdict::Goes(rule),
        }
    }

    /// What keeps it for as long as nothing else happens.
    fn kept_by(&self, facts: &TagFacts) -> Option<KeptBy> {
        let keep = &self.rule.keep;
        if keep.all {
            return Some(KeptBy::All);
        }
        if !keep.is_anything() {
            return Some(KeptBy::NoAnnotation);
        }
        if let Some(count) = keep.last_pushed
            && self.pushed.has(facts.pushed_at, &facts.tag)
        {
            return Some(KeptBy::LastPushed(count));
        }
        let count = keep.last_pulled?;
        self.pulled.has(used_at(facts), &facts.tag).then_some(KeptBy::LastPulled(count))
    }
}
