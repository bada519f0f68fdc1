//! What retention rules are told of tags, and what they ask of the database.

use crate::{Breaker, CondemnedManifest, DeleteOutcome, Metadata, Result, Review};
use longshore_oci::{Digest, ImmutableTags, RepositoryName, Tag};
use std::time::{Duration, SystemTime};

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

impl Metadata {
    /// Repositories that nobody has looked through for `interval`, in byte order, after `after`.
    pub async fn repositories_to_look_through(
        &self,
        after: &str,
        interval: Duration,
        limit: u32,
    ) -> Result<Vec<RepositoryName>> {
        on_engine!(self.repositories_to_look_through(after, interval, limit))
    }

    /// Takes the repository to look through: false where somebody has done so within `interval`.
    pub async fn look_through(&self, repository: &RepositoryName, interval: Duration) -> Result<bool> {
        on_engine!(self.look_through(repository, interval))
    }

    /// A page of a repository's tags as rules look at them, in byte order, after `after`.
    pub async fn tag_page(&self, repository: &RepositoryName, after: &str, limit: u32) -> Result<TagPage> {
        on_engine!(self.tag_page(repository, after, limit))
    }

    /// A tag as rules look at it, and when it was read.
    pub async fn tag_facts(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<(SystemTime, TagFacts)>> {
        on_engine!(self.tag_facts(repository, tag))
    }

    /// Deletes those of the repository's tags that were not pushed, moved or pulled since they were found; unless that
    /// were too many.
    pub async fn delete_tags(
        &self,
        repository: &RepositoryName,
        tags: Vec<CondemnedTag>,
        breaker: Breaker,
    ) -> Result<TagsOutcome> {
        on_engine!(self.delete_tags(repository, tags, breaker))
    }

    /// The build caches that the tag named before the last `kept` manifests, and that nothing keeps, newest first.
    pub async fn old_generations(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        kept: u32,
    ) -> Result<Vec<OldGeneration>> {
        on_engine!(self.old_generations(repository, tag, kept))
    }
}
