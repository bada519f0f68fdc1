//! Pushing, pulling and deleting manifests.

use crate::{Error, Purpose, Registry, Result, Rules};
use bytes::Bytes;
use longshore_metadata::{
    DeleteManifest, DeleteOutcome, GuardedDelete, ManifestRecord, NamedBlob, PutManifest, PutManifestOutcome,
};
use longshore_oci::{Algorithm, BlobReference, Digest, Manifest, Reference, RepositoryName, Tag};
use std::sync::Arc;

/// A manifest as it is served.
#[derive(Debug, Clone)]
pub struct StoredManifest {
    /// By which it was found, or which its tag names.
    pub digest: Digest,
    /// As it was pushed.
    pub media_type: Arc<str>,
    /// Its exact bytes.
    pub body: Bytes,
}

/// A manifest to push.
#[derive(Debug, Clone)]
pub struct NewManifest {
    /// What it is pushed as: a tag, or its digest.
    pub reference: Reference,
    /// More tags that are to name it.
    pub tags: Vec<Tag>,
    /// As the client says it.
    pub content_type: Option<String>,
    /// Its exact bytes.
    pub body: Bytes,
}

/// A manifest that was pushed.
#[derive(Debug, Clone)]
pub struct PushedManifest {
    /// Its digest: the client's if it named one.
    pub digest: Digest,
    /// What it refers to.
    pub subject: Option<Digest>,
}

/// A manifest is large if reading it would hold up other requests.
const LARGE_BODY: usize = 64 * 1024;

impl Registry {
    /// Stores a manifest under its digest, and lets the tags name it.
    pub async fn push_manifest(
        &self,
        repository: &RepositoryName,
        by: Option<&str>,
        pushed: NewManifest,
    ) -> Result<PushedManifest> {
        if pushed.tags.len() > self.rules.tags_per_push {
            return Err(Error::TooManyTags { limit: self.rules.tags_per_push });
        }
        let put = self.examine(repository, by, pushed).await?;
        let (digest, subject) = (put.digest, put.subject);
        match self.metadata.put_manifest(put).await? {
            PutManifestOutcome::Stored => Ok(PushedManifest { digest, subject }),
            PutManifestOutcome::Absent { digests } => Err(Error::ManifestBlobUnknown { digests }),
            PutManifestOutcome::Immutable { tag, digest } => {
                let rule = self.immutable_by(repository, &tag);
                Err(Error::TagImmutable { tag, digest, rule })
            }
        }
    }

    /// Hashes and reads what was pushed; a large one beside the event loop, since that takes milliseconds.
    async fn examine(&self, repository: &RepositoryName, by: Option<&str>, pushed: NewManifest) -> Result<PutManifest> {
        let (rules, repository, by) = (self.rules.clone(), repository.clone(), by.map(str::to_owned));
        let is_large = pushed.body.len() > LARGE_BODY;
        let examine = move || pushed.examine(&rules, repository, by);
        if is_large { tokio::task::spawn_blocking(examine).await.map_err(|_| Error::ShuttingDown)? } else { examine() }
    }

    /// The manifest that a tag or a digest names. It counts as pulled, or as looked at.
    pub async fn find_manifest(
        &self,
        repository: RepositoryName,
        reference: Reference,
        purpose: Purpose,
    ) -> Result<StoredManifest> {
        let record = match &reference {
            Reference::Tag(tag) => self.metadata.find_tag(&repository, tag).await?,
            Reference::Digest(digest) => self.metadata.find_manifest(&repository, digest).await?,
        };
        let Some(ManifestRecord { digest, media_type, body }) = record else {
            return Err(Error::ManifestUnknown { reference });
        };
        if let Some(pulls) = &self.pulls {
            pulls.count(repository, reference, digest, purpose);
        }
        Ok(StoredManifest { digest, media_type, body })
    }

    /// Deletes a tag; or a manifest with all its tags, unless an index needs it.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        by: Option<&str>,
        reference: &Reference,
    ) -> Result<()> {
        let unknown = || Error::ManifestUnknown { reference: reference.clone() };
        match reference {
            Reference::Tag(tag) => {
                self.check_may_go(repository, tag).await?;
                let deleted = self.metadata.delete_tag(repository, tag, by).await?;
                if deleted { Ok(()) } else { Err(unknown()) }
            }
            Reference::Digest(digest) => {
                let delete = DeleteManifest {
                    repository: repository.clone(),
                    digest: *digest,
                    by: by.map(str::to_owned),
                    immutable: self.rules.immutable_tags.clone(),
                };
                match self.metadata.delete_manifest_unless_immutable(delete).await? {
                    GuardedDelete::Ended(DeleteOutcome::Deleted) => Ok(()),
                    GuardedDelete::Ended(DeleteOutcome::Unknown) => Err(unknown()),
                    GuardedDelete::Ended(DeleteOutcome::InUse { by }) => {
                        Err(Error::ManifestInUse { digest: *digest, by })
                    }
                    GuardedDelete::Immutable { tag } => {
                        let rule = self.immutable_by(repository, &tag);
                        Err(Error::TagUndeletable { tag, rule })
                    }
                }
            }
        }
    }

    /// A tag may go unless a rule says that it is immutable, or it is not there.
    async fn check_may_go(&self, repository: &RepositoryName, tag: &Tag) -> Result<()> {
        let Some(rule) = self.rules.immutable_tags.rule_for(repository, tag) else { return Ok(()) };
        match self.metadata.find_tag(repository, tag).await? {
            Some(_) => Err(Error::TagUndeletable { tag: tag.clone(), rule: rule.to_owned() }),
            None => Err(Error::ManifestUnknown { reference: Reference::Tag(tag.clone()) }),
        }
    }

    /// The name of the rule by which the tag may not move.
    fn immutable_by(&self, repository: &RepositoryName, tag: &Tag) -> String {
        self.rules.immutable_tags.rule_for(repository, tag).unwrap_or_default().to_owned()
    }
}

impl NewManifest {
    fn examine(mut self, rules: &Rules, repository: RepositoryName, pushed_by: Option<String>) -> Result<PutManifest> {
        let digest = match self.reference {
            Reference::Digest(declared) => verify(&declared, &self.body)?,
            Reference::Tag(tag) => {
                self.tags.push(tag);
                Digest::of(Algorithm::Sha256, &self.body)
            }
        };
        let manifest = Manifest::parse(&self.body, self.content_type.as_deref(), &rules.manifest_limits)?;
        let named = |blob: &BlobReference| NamedBlob { digest: blob.digest, required: blob.required };
        Ok(PutManifest {
            repository,
            digest,
            media_type: manifest.media_type.to_string(),
            annotations: annotations(&manifest),
            blobs: manifest.blobs.iter().map(named).collect(),
            children: manifest.children.iter().map(|child| child.digest).collect(),
            subject: manifest.subject.map(|subject| subject.digest),
            artifact_type: manifest.artifact_type,
            config_media_type: manifest.config_media_type,
            body: self.body.into(),
            tags: self.tags,
            immutable: rules.immutable_tags.clone(),
            pushed_by,
            allow_absent: rules.allow_sparse,
        })
    }
}

fn verify(declared: &Digest, body: &[u8]) -> Result<Digest> {
    let computed = Digest::of(declared.algorithm(), body);
    if computed == *declared { Ok(computed) } else { Err(Error::DigestMismatch { declared: *declared, computed }) }
}

/// The manifest's annotations as JSON: a descriptor in a list of referrers repeats them.
fn annotations(manifest: &Manifest) -> Option<String> {
    (!manifest.annotations.is_empty()).then(|| serde_json::json!(manifest.annotations).to_string())
}
