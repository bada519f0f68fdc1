//! What retention rules are told of tags, and what they ask of the database.

use crate::{CondemnedManifest, DeleteOutcome, Review};
use longshore_oci::{Digest, ImmutableTags, RepositoryName, Tag};
use std::time::SystemTime;

/// A tag, as rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFacts {
    /// Its name.
    pub tag: Tag,
    /// The manifest that it names; names that manifest to other calls too.
    pub manifest: Review,
    /// The manifest's digest.
    pub digest: Digest,
    /// When the tag was last pushed, whether that moved it or not.
    pub pushed_at: SystemTime,
    /// When it was last pulled or looked at, as far as anybody has recorded.
    pub last_pulled_at: Option<SystemTime>,
    /// Whether the manifest is a cache of BuildKit's.
    pub is_build_cache: bool,
    /// How long the manifest says that its tags live, by the annotation `land.longshore.expires-after` or
    /// `quay.expires-after`.
    pub expires_after: Option<String>,
}

/// Some tags of a repository, and when they were read.
#[derive(Debug, Clone)]
pub struct TagPage {
    /// What the database's clock said.
    pub now: SystemTime,
    /// In byte order of their names.
    pub tags: Vec<TagFacts>,
}

/// A tag to delete, if it is still as it was found.
#[derive(Debug, Clone)]
pub struct CondemnedTag {
    /// What was found.
    pub facts: TagFacts,
    /// Whom the history is to name.
    pub by: String,
}

/// How the deletion of tags went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagsOutcome {
    /// Those that were as they had been found are gone: so many of them.
    Deleted(u64),
    /// None was deleted: they would have been too many, and are until somebody says that they are not.
    Stopped,
}

/// A manifest that a tag named before, and that nothing keeps now.
#[derive(Debug, Clone)]
pub struct OldGeneration {
    /// Its digest.
    pub digest: Digest,
    /// Of its body, in bytes.
    pub size: u64,
    /// Since when nothing keeps it, and what to call it to delete it.
    pub condemned: CondemnedManifest,
}

/// A manifest to delete, unless a tag keeps it from that.
#[derive(Debug, Clone)]
pub struct DeleteManifest {
    /// Where.
    pub repository: RepositoryName,
    /// Which.
    pub digest: Digest,
    /// By whom.
    pub by: Option<String>,
    /// It stays while a tag names it that is one of these.
    pub immutable: ImmutableTags,
}

/// How the deletion of a manifest went that a tag may keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardedDelete {
    /// No such tag kept it.
    Ended(DeleteOutcome),
    /// This one did: nothing was deleted.
    Immutable {
        /// The tag.
        tag: Tag,
    },
}
