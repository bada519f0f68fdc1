//! What becomes of a thing that is looked at, and why. The same words serve the collector, which acts on them, and the
//! preview, which tells them.

use crate::Rules;
use longshore_metadata::{BlobFacts, GrantFacts, ManifestFacts};
use longshore_oci::{Digest, RepositoryName, Tag};
use std::{fmt, time::SystemTime};

/// What becomes of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays until something happens to what keeps it.
    Kept(Reason),
    /// It stays until then at least.
    Until(SystemTime, Reason),
    /// It goes.
    Goes,
}

/// What keeps a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A tag names it.
    Tag(Tag),
    /// An index names it.
    Parent(Digest),
    /// It refers to a subject that is there.
    Subject(Digest),
    /// It was tagged while it was looked at.
    Recent,
    /// It was tagged, pushed or pulled not long ago: its tags can be brought back.
    Undo,
    /// It was tagged, pushed or pulled not longer ago than the retention rule of this name says.
    UntaggedAfter(String),
    /// A manifest needs it.
    NeededBy(Digest),
    /// It was promised to whoever pushed it, or asked for it.
    Promised,
    /// A repository holds it.
    HeldBy(RepositoryName),
    /// It is gone already.
    Gone,
}

impl Reason {
    /// The rule of retention that keeps it.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::UntaggedAfter(rule) => Some(rule),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(formatter, "tag {tag}"),
            Self::Parent(digest) => write!(formatter, "index {digest}"),
            Self::Subject(digest) => write!(formatter, "subject {digest}"),
            Self::Recent => formatter.write_str("tagged just now"),
            Self::Undo => formatter.write_str("tagged, pushed or pulled not long ago, by gc.undo"),
            Self::UntaggedAfter(rule) => {
                write!(formatter, "tagged, pushed or pulled not long ago, by untagged_after of the rule {rule:?}")
            }
            Self::NeededBy(digest) => write!(formatter, "manifest {digest}"),
            Self::Promised => formatter.write_str("lease"),
            Self::HeldBy(repository) => write!(formatter, "repository {repository}"),
            Self::Gone => formatter.write_str("gone already"),
        }
    }
}

/// A manifest stays while a tag, an index or its subject keeps it, and for a while after the last of them.
pub(crate) fn of_manifest(facts: Option<&ManifestFacts>, rules: &Rules, now: SystemTime) -> Verdict {
    let Some(facts) = facts else { return Verdict::Kept(Reason::Gone) };
    let keeper = (facts.tag.clone().map(Reason::Tag))
        .or_else(|| facts.parent.map(Reason::Parent))
        .or_else(|| facts.subject.map(Reason::Subject));
    // One without a time has a tag that came while it was read.
    let (None, Some(untagged_since)) = (&keeper, facts.untagged_since) else {
        return Verdict::Kept(keeper.unwrap_or(Reason::Recent));
    };
    let last = facts.last_pulled_at.map_or(untagged_since, |pulled| pulled.max(untagged_since));
    let (stays, rule) = rules.retention.untagged_after(&facts.repository, rules.undo);
    let until = last.max(facts.pushed_at) + stays;
    if until <= now {
        return Verdict::Goes;
    }
    Verdict::Until(until, rule.map_or(Reason::Undo, |rule| Reason::UntaggedAfter(rule.name.clone())))
}

/// A repository holds a blob while a manifest needs it, and for as long as it was promised.
pub(crate) fn of_grant(facts: Option<&GrantFacts>, now: SystemTime) -> Verdict {
    match facts {
        None => Verdict::Kept(Reason::Gone),
        Some(GrantFacts { needed_by: Some(manifest), .. }) => Verdict::Kept(Reason::NeededBy(*manifest)),
        Some(facts) if facts.expires_at > now => Verdict::Until(facts.expires_at, Reason::Promised),
        Some(_) => Verdict::Goes,
    }
}

/// A blob stays while a repository holds it.
pub(crate) fn of_blob(facts: Option<&BlobFacts>) -> Verdict {
    match facts {
        None => Verdict::Kept(Reason::Gone),
        Some(BlobFacts { held_by: Some(repository), .. }) => Verdict::Kept(Reason::HeldBy(repository.clone())),
        Some(_) => Verdict::Goes,
    }
}
