//! What a write may change of what others have read.

use super::Cache;
use longshore_oci::{Digest, RepositoryName, Tag};

/// Something that may be another now, or gone. What is new is no change: that it was absent has not been kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// How long things are promised, or nobody knows what.
    Everything,
    /// Several things of a repository, or nobody knows which.
    Repository(RepositoryName),
    /// What the tag names.
    Tag(RepositoryName, Tag),
    /// The manifest's media type, or whether it can be read.
    Manifest(RepositoryName, Digest),
    /// Whether the repository holds the blob.
    Blob(RepositoryName, Digest),
}

impl Change {
    /// Reads a notification of the database: a repository's name; or that, a space, and a tag; or something of a newer
    /// release.
    pub(crate) fn from_notification(payload: &str) -> Self {
        let parsed = match payload.split_once(' ') {
            None => payload.parse().ok().map(Self::Repository),
            Some((repository, tag)) => {
                repository.parse().ok().zip(tag.parse().ok()).map(|(repository, tag)| Self::Tag(repository, tag))
            }
        };
        parsed.unwrap_or(Self::Everything)
    }
}

/// Changes that are made known when this is dropped: it goes with a write, to the end of it, whatever end that is.
#[derive(Debug)]
#[must_use = "it is to be dropped after the commit"]
pub(crate) struct Announcement {
    cache: Cache,
    changes: Vec<Change>,
}

impl Announcement {
    pub(super) fn new(cache: Cache, changes: Vec<Change>) -> Self {
        Self { cache, changes }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        for change in &self.changes {
            self.cache.changed(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_are_read() {
        let app: RepositoryName = "team/app".parse().unwrap();
        assert_eq!(Change::from_notification("team/app"), Change::Repository(app.clone()));
        assert_eq!(Change::from_notification("team/app v1"), Change::Tag(app, "v1".parse().unwrap()));
        for unknown in ["", "*", "?", "team/app ", " v1", "team/app v1 v2", "Team"] {
            assert_eq!(Change::from_notification(unknown), Change::Everything, "{unknown:?}");
        }
    }
}
