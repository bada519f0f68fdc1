//! What the operator says about tags.

use longshore_metadata::Breaker;
use longshore_oci::{ImmutableTags, RepositoryName, TagScope};
use std::time::Duration;

/// All rules about tags. For a tag, the first rule counts that is for it and says something about tags.
#[derive(Debug, Clone)]
pub struct Retention {
    /// In the order in which they count.
    pub rules: Vec<RetentionRule>,
    /// Tags that no rule deletes, unless it says so.
    pub immutable: ImmutableTags,
    /// How often a repository is looked through.
    pub interval: Duration,
    /// How many tags may go before that is taken for a mistake.
    pub breaker: Breaker,
}

impl Default for Retention {
    fn default() -> Self {
        let breaker = Breaker { percent: 50, floor: 1000 };
        Self { rules: Vec::new(), immutable: ImmutableTags::default(), interval: Duration::from_secs(3600), breaker }
    }
}

/// A rule about tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// What people call it, and what the history of a tag says that it deletes.
    pub name: String,
    /// The tags that it is for.
    pub scope: TagScope,
    /// What keeps a tag: what nothing keeps goes.
    pub keep: Keep,
    /// A tag whose manifest says how long it lives goes when that is over, whatever else would keep it or not.
    pub expire_annotated: bool,
    /// How long a manifest of its repositories stays that nothing keeps, if that is longer than elsewhere.
    pub untagged_after: Option<Duration>,
    /// Of BuildKit's caches that one tag has named, how many stay: older ones go at once.
    pub build_caches: Option<u32>,
    /// It deletes tags that may not move too.
    pub even_immutable: bool,
    /// It deletes nothing, and says what it would delete.
    pub dry_run: bool,
}

/// What keeps a tag: any of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// That it is there.
    pub all: bool,
    /// That it is one of the last so many that were pushed.
    pub last_pushed: Option<u32>,
    /// That it is one of the last so many that were pulled.
    pub last_pulled: Option<u32>,
    /// That it was pushed not longer ago.
    pub pushed_within: Option<Duration>,
    /// That it was pulled not longer ago.
    pub pulled_within: Option<Duration>,
}

impl Keep {
    /// Whether there is anything that keeps a tag.
    pub fn is_anything(&self) -> bool {
        *self != Self::default()
    }
}

impl RetentionRule {
    /// Whether it says something about tags. One that does not may still be about what no tag names.
    pub fn is_about_tags(&self) -> bool {
        self.keep.is_anything() || self.expire_annotated
    }
}

impl Retention {
    fn of<'a>(&'a self, repository: &'a RepositoryName) -> impl Iterator<Item = &'a RetentionRule> {
        self.rules.iter().filter(|rule| rule.scope.has_repository(repository))
    }

    /// The rules about tags of the repository, in their order.
    pub(crate) fn tag_rules<'a>(&'a self, repository: &'a RepositoryName) -> impl Iterator<Item = &'a RetentionRule> {
        self.of(repository).filter(|rule| rule.is_about_tags())
    }

    /// The rule about build caches of the repository, and how many generations it keeps.
    pub(crate) fn build_caches<'a>(&'a self, repository: &'a RepositoryName) -> Option<(&'a RetentionRule, u32)> {
        self.of(repository).find_map(|rule| rule.build_caches.map(|kept| (rule, kept)))
    }

    /// Whether there is anything to look for in the repository.
    pub(crate) fn concerns(&self, repository: &RepositoryName) -> bool {
        self.tag_rules(repository).next().is_some() || self.build_caches(repository).is_some()
    }

    /// How long a manifest of the repository stays that nothing keeps, and the rule that has it stay longer than `undo`. Never
    /// shorter than that: so long a tag can be brought back, wherever it was.
    pub(crate) fn untagged_after<'a>(
        &'a self,
        repository: &'a RepositoryName,
        undo: Duration,
    ) -> (Duration, Option<&'a RetentionRule>) {
        let ruled = self.of(repository).find_map(|rule| rule.untagged_after.map(|time| (time, Some(rule))));
        ruled.filter(|(time, _)| *time > undo).unwrap_or((undo, None))
    }
}
