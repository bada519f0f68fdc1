//! `retention` and `immutable_tags`: which tags stay, and which may not move.

use crate::show::in_one_line;
use crate::{Settings, duration};
use longshore_oci::{RepositoryPattern, TagPattern};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A rule about the tags of some repositories: what keeps them, so that the others go. For a tag, the first rule counts
/// that is for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionRule {
    /// What it is called in the history of a tag that it deletes.
    pub name: String,
    /// The repositories. Default: all.
    #[serde(serialize_with = "in_one_line")]
    pub repositories: Vec<RepositoryPattern>,
    /// Their tags. Default: all.
    pub tags: TagPattern,
    /// Those of the tags that the rule is not for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub except_tags: Option<TagPattern>,
    /// Keeps every tag, so that the rules below it do not count for them.
    pub keep_all: bool,
    /// Keeps the last so many tags that were pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last_pushed: Option<u32>,
    /// Keeps the last so many tags that were pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last_pulled: Option<u32>,
    /// Keeps a tag for so long after it was last pushed.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub keep_pushed_within: Option<Duration>,
    /// Keeps a tag for so long after it was last pulled.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub keep_pulled_within: Option<Duration>,
    /// Whether a tag goes when its manifest's annotation says so, whatever else keeps it. Default false.
    pub expire_annotated: bool,
    /// How long a manifest stays that nothing keeps, where that is to be longer than `gc.undo`.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub untagged_after: Option<Duration>,
    /// Of the build caches that a tag has named, how many stay; older ones go at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_caches: Option<u32>,
    /// Whether it deletes immutable tags too. Default false.
    pub even_immutable: bool,
    /// Whether it only says what it would delete. Default false.
    pub dry_run: bool,
}

impl Default for RetentionRule {
    fn default() -> Self {
        Self {
            name: String::new(),
            repositories: vec![RepositoryPattern::all()],
            tags: TagPattern::all(),
            except_tags: None,
            keep_all: false,
            keep_last_pushed: None,
            keep_last_pulled: None,
            keep_pushed_within: None,
            keep_pulled_within: None,
            expire_annotated: false,
            untagged_after: None,
            build_caches: None,
            even_immutable: false,
            dry_run: false,
        }
    }
}

/// Tags that may not move: once they name a manifest they name no other, and neither can be deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImmutableTagsRule {
    /// What it is called where it refuses something.
    pub name: String,
    /// The repositories. Default: all.
    #[serde(serialize_with = "in_one_line")]
    pub repositories: Vec<RepositoryPattern>,
    /// Their tags. Default: all.
    pub tags: TagPattern,
    /// Those of the tags that may move after all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub except_tags: Option<TagPattern>,
}

impl Default for ImmutableTagsRule {
    fn default() -> Self {
        Self {
            name: String::new(),
            repositories: vec![RepositoryPattern::all()],
            tags: TagPattern::all(),
            except_tags: None,
        }
    }
}

/// Longer names are for nobody to read.
const LONGEST_NAME: usize = 64;
/// What has to be compared is held in memory.
const COUNTS: RangeInclusive<u32> = 1..=10_000;
const DURATIONS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3650 * 86_400);

const CONDITIONS: &str = "keep_last_pushed, keep_last_pulled, keep_pushed_within, keep_pulled_within, keep_all or \
    expire_annotated";

/// What is wrong with the rules of retention, in their order.
pub(crate) fn broken_retention(settings: &Settings) -> Vec<String> {
    let mut broken = broken_names(settings.retention.iter().map(|rule| (&*rule.name, &*rule.repositories)));
    for rule in &settings.retention {
        let faults = rule.faults(settings).into_iter();
        broken.extend(faults.map(|fault| format!("rule {:?} {fault}", rule.name)));
    }
    broken
}

/// What is wrong with the rules of immutability, in their order.
pub(crate) fn broken_immutable_tags(settings: &Settings) -> Vec<String> {
    broken_names(settings.immutable_tags.iter().map(|rule| (&*rule.name, &*rule.repositories)))
}

fn broken_names<'a>(rules: impl Iterator<Item = (&'a str, &'a [RepositoryPattern])>) -> Vec<String> {
    let mut broken = Vec::new();
    let mut names = BTreeSet::new();
    for (number, (name, repositories)) in rules.enumerate() {
        let is_printable = name.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        if name.trim().is_empty() || name.len() > LONGEST_NAME || !is_printable {
            let number = number + 1;
            broken
                .push(format!("rule {number} has no usable name: give it one of 1 to {LONGEST_NAME} printable ASCII"));
        } else if !names.insert(name) {
            broken.push(format!("two rules are called {name:?}: give one another name"));
        }
        if repositories.is_empty() {
            broken.push(format!("rule {name:?} is for no repositories: name some, or remove the key for all of them"));
        }
    }
    broken
}

impl RetentionRule {
    fn keeps_by_comparison(&self) -> bool {
        self.keep_last_pushed.is_some()
            || self.keep_last_pulled.is_some()
            || self.keep_pushed_within.is_some()
            || self.keep_pulled_within.is_some()
    }

    fn is_about_tags(&self) -> bool {
        self.keep_all || self.expire_annotated || self.keeps_by_comparison()
    }

    fn faults(&self, settings: &Settings) -> Vec<String> {
        let mut faults = Vec::new();
        let names_tags = self.tags != TagPattern::all() || self.except_tags.is_some();
        if !self.is_about_tags() {
            if self.untagged_after.is_none() && self.build_caches.is_none() {
                faults.push(format!("keeps nothing, so that every tag would go: give it {CONDITIONS}"));
            } else if names_tags {
                faults.push(format!("names tags and does not say what keeps them: give it {CONDITIONS}, or no tags"));
            }
        }
        if self.keep_all && (self.expire_annotated || self.keeps_by_comparison()) {
            faults.push("has keep_all beside other conditions, which count for nothing then: remove either".to_owned());
        }
        self.ranges(&mut faults);
        let needs_pulls = self.keep_last_pulled.is_some() || self.keep_pulled_within.is_some();
        if needs_pulls && settings.database.pull_statistics.is_zero() {
            faults.push("needs to know what was pulled: set database.pull_statistics to more than 0s".to_owned());
        }
        if let Some(time) = self.untagged_after
            && time < settings.gc.undo
        {
            let (time, undo) = (duration::format(time), duration::format(settings.gc.undo));
            faults.push(format!(
                "has untagged_after {time}, shorter than gc.undo ({undo}), for which a tag can be brought back: \
                 lower gc.undo, and give a longer untagged_after to the repositories that need it"
            ));
        }
        faults
    }

    fn ranges(&self, faults: &mut Vec<String>) {
        let counts = [
            ("keep_last_pushed", self.keep_last_pushed),
            ("keep_last_pulled", self.keep_last_pulled),
            ("build_caches", self.build_caches),
        ];
        for (key, count) in counts {
            if let Some(count) = count.filter(|count| !COUNTS.contains(count)) {
                let (from, to) = (COUNTS.start(), COUNTS.end());
                faults.push(format!("has {key} {count}, which is out of range: choose {from} to {to}"));
            }
        }
        let durations = [
            ("keep_pushed_within", self.keep_pushed_within),
            ("keep_pulled_within", self.keep_pulled_within),
            ("untagged_after", self.untagged_after),
        ];
        for (key, time) in durations {
            if let Some(time) = time.filter(|time| !DURATIONS.contains(time)) {
                let (time, from, to) = (time, *DURATIONS.start(), *DURATIONS.end());
                let [time, from, to] = [time, from, to].map(duration::format);
                faults.push(format!("has {key} {time}, which is out of range: choose {from} to {to}"));
            }
        }
    }
}
