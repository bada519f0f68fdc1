//! What can be asked of the cache, borrowed from the caller: looking something up allocates nothing.

use longshore_oci::{Digest, RepositoryName, Tag};
use moka::Equivalent;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question<'a> {
    /// Which manifest a tag names.
    Tag(&'a RepositoryName, &'a Tag),
    /// A manifest.
    Manifest(&'a RepositoryName, &'a Digest),
    /// A blob's content, or where it is.
    Blob(&'a RepositoryName, &'a Digest),
    /// Whether a blob stays for the promised time. It changes when the blob does, and shares its counter.
    Promise(&'a RepositoryName, &'a Digest),
}

/// A blob that stays for the promised time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promised {
    /// In bytes.
    pub(crate) size: u64,
    /// By how much its lease outlasts the promise.
    pub(crate) spare: Duration,
}

impl<'a> Question<'a> {
    pub(super) fn repository(&self) -> &'a RepositoryName {
        match self {
            Self::Tag(repository, _)
            | Self::Manifest(repository, _)
            | Self::Blob(repository, _)
            | Self::Promise(repository, _) => repository,
        }
    }

    /// What is asked for within the repository, as bytes. (A manifest and a blob of one digest share a counter: they are
    /// hardly ever the same thing, and it would be harmless.)
    pub(super) fn thing(&self) -> &'a [u8] {
        match self {
            Self::Tag(_, tag) => tag.as_str().as_bytes(),
            Self::Manifest(_, digest) | Self::Blob(_, digest) | Self::Promise(_, digest) => Digest::hash(digest),
        }
    }
}

/// A question with its hashes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) question: Question<'a>,
    pub(super) repository_hash: u64,
    pub(super) hash: u64,
}

/// A question that is kept, beside its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    hash: u64,
    repository: RepositoryName,
    thing: Thing,
}

#[derive(Debug, PartialEq, Eq)]
enum Thing {
    Tag(Tag),
    Manifest(Digest),
    Blob(Digest),
    Promise(Digest),
}

impl Asked<'_> {
    pub(super) fn to_key(self) -> Key {
        let thing = match self.question {
            Question::Tag(_, tag) => Thing::Tag(tag.clone()),
            Question::Manifest(_, digest) => Thing::Manifest(*digest),
            Question::Blob(_, digest) => Thing::Blob(*digest),
            Question::Promise(_, digest) => Thing::Promise(*digest),
        };
        Key { hash: self.hash, repository: self.question.repository().clone(), thing }
    }
}

impl Key {
    /// As it was asked.
    pub(super) fn question(&self) -> Question<'_> {
        match &self.thing {
            Thing::Tag(tag) => Question::Tag(&self.repository, tag),
            Thing::Manifest(digest) => Question::Manifest(&self.repository, digest),
            Thing::Blob(digest) => Question::Blob(&self.repository, digest),
            Thing::Promise(digest) => Question::Promise(&self.repository, digest),
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.hash == key.hash && self.question == key.question()
    }
}
