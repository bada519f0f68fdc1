//! The past of tags: what they named, and how they come to name it again.

use crate::{Error, NewManifest, Registry, Result};
use longshore_metadata::TagChange;
use longshore_oci::{Digest, Reference, RepositoryName, Tag};
use std::time::SystemTime;

impl Registry {
    /// What happened to a tag, newest first.
    pub async fn tag_history(&self, repository: &RepositoryName, tag: &Tag, limit: u32) -> Result<Vec<TagChange>> {
        Ok(self.metadata.tag_changes(repository, tag, None, limit).await?)
    }

    /// What a tag named at that time.
    pub async fn tag_at(&self, repository: &RepositoryName, tag: &Tag, at: SystemTime) -> Result<TagChange> {
        let found = self.metadata.tag_at(repository, tag, at).await?;
        found.ok_or_else(|| Error::ManifestUnknown { reference: Reference::Tag(tag.clone()) })
    }

    /// Lets the tag name a manifest that it named before. One that a client has deleted since is pushed again: what it
    /// needs has been kept as long as it.
    pub async fn restore_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        by: Option<&str>,
    ) -> Result<()> {
        let (media_type, body) = match self.metadata.find_manifest(repository, digest).await? {
            Some(found) => (found.media_type.to_string(), found.body),
            None => {
                let deleted = self.metadata.deleted_manifest(repository, digest).await?;
                let deleted =
                    deleted.ok_or_else(|| Error::ManifestUnknown { reference: Reference::Digest(*digest) })?;
                (deleted.media_type, deleted.body.into())
            }
        };
        // By its digest first: whatever algorithm that is of.
        let pushed = NewManifest {
            reference: Reference::Digest(*digest),
            tags: vec![tag.clone()],
            content_type: Some(media_type),
            body,
        };
        self.push_manifest(repository, by, pushed).await?;
        Ok(())
    }
}
