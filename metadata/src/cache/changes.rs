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
    /// The manifest's media type, whether it can be read, or whether it is there with the tags that name it.
    Manifest(RepositoryName, Digest),
    /// Whether the repository holds the blob.
    Blob(RepositoryName, Digest),
}

impl Change {
    /// Reads a notification of the database, words with a space between them: a repository's name; that and a tag; that,
    /// `manifest` or `blob`, and a digest; or something of a newer release.
    pub(crate) fn from_notification(payload: &str) -> Self {
        Self::parse(payload).unwrap_or(Self::Everything)
    }

    fn parse(payload: &str) -> Option<Self> {
        let words: Vec<&str> = payload.split(' ').collect();
        let repository = words[0].parse().ok()?;
        match words[1..] {
            [] => Some(Self::Repository(repository)),
            [tag] => Some(Self::Tag(repository, tag.parse().ok()?)),
            ["manifest", digest] => Some(Self::Manifest(repository, digest.parse().ok()?)),
            ["blob", digest] => Some(Self::Blob(repository, digest.parse().ok()?)),
            _ => None,
        }
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
    use longshore_oci::Algorithm;

    #[test]
    fn notifications_are_read() {
        let app: RepositoryName = "team/app".parse().unwrap();
        assert_eq!(Change::from_notification("team/app"), Change::Repository(app.clone()));
        assert_eq!(Change::from_notification("team/app v1"), Change::Tag(app.clone(), "v1".parse().unwrap()));
        let digest = Digest::of(Algorithm::Sha512, b"content");
        let manifest = format!("team/app manifest {digest}");
        assert_eq!(Change::from_notification(&manifest), Change::Manifest(app.clone(), digest));
        assert_eq!(Change::from_notification(&format!("team/app blob {digest}")), Change::Blob(app, digest));
        let more = format!("{manifest} more");
        let other = format!("team/app layer {digest}");
        for unknown in
            ["", "*", "?", "team/app ", " v1", "team/app v1 v2", "Team", "team/app manifest x", &more, &other]
        {
            assert_eq!(Change::from_notification(unknown), Change::Everything, "{unknown:?}");
        }
    }
}
