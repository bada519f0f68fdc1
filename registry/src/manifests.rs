//! Pushing, pulling and deleting manifests.

use crate::{Error, Registry, Result};
use bytes::Bytes;
use longshore_metadata::{DeleteOutcome, ManifestRecord, NamedBlob, PutManifest, PutManifestOutcome};
use longshore_oci::{Algorithm, Digest, Manifest, Reference, RepositoryName, Tag};

/// A manifest as it is served.
#[derive(Debug, Clone)]
pub struct StoredManifest {
    /// By which it was found, or which its tag names.
    pub digest: Digest,
    /// As it was pushed.
    pub media_type: String,
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

impl Registry {
    /// Stores a manifest under its digest, and lets the tags name it.
    pub async fn push_manifest(
        &self,
        repository: &RepositoryName,
        by: Option<&str>,
        reference: &Reference,
        mut tags: Vec<Tag>,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<PushedManifest> {
        if tags.len() > self.rules.tags_per_push {
            return Err(Error::TooManyTags { limit: self.rules.tags_per_push });
        }
        let digest = match reference {
            Reference::Digest(declared) => verify(declared, &body)?,
            Reference::Tag(tag) => {
                tags.push(tag.clone());
                Digest::of(Algorithm::Sha256, &body)
            }
        };
        let manifest = Manifest::parse(&body, content_type, &self.rules.manifest_limits)?;
        let subject = manifest.subject.as_ref().map(|subject| subject.digest);
        let put = PutManifest {
            repository: repository.clone(),
            digest,
            media_type: manifest.media_type.to_string(),
            annotations: annotations(&manifest),
            artifact_type: manifest.artifact_type,
            config_media_type: manifest.config_media_type,
            subject,
            body: body.into(),
            blobs: manifest
                .blobs
                .iter()
                .map(|blob| NamedBlob { digest: blob.digest, required: blob.required })
                .collect(),
            children: manifest.children.iter().map(|child| child.digest).collect(),
            tags,
            pushed_by: by.map(str::to_owned),
            allow_absent: self.rules.allow_sparse,
        };
        match self.metadata.put_manifest(put).await? {
            PutManifestOutcome::Stored => Ok(PushedManifest { digest, subject }),
            PutManifestOutcome::Absent { digests } => Err(Error::ManifestBlobUnknown { digests }),
        }
    }

    /// The manifest that a tag or a digest names.
    pub async fn find_manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<StoredManifest> {
        let record = match reference {
            Reference::Tag(tag) => self.metadata.find_tag(repository, tag).await?,
            Reference::Digest(digest) => self.metadata.find_manifest(repository, digest).await?,
        };
        let ManifestRecord { digest, media_type, body } =
            record.ok_or_else(|| Error::ManifestUnknown { reference: reference.clone() })?;
        Ok(StoredManifest { digest, media_type, body: body.into() })
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
                let deleted = self.metadata.delete_tag(repository, tag, by).await?;
                if deleted { Ok(()) } else { Err(unknown()) }
            }
            Reference::Digest(digest) => match self.metadata.delete_manifest(repository, digest, by).await? {
                DeleteOutcome::Deleted => Ok(()),
                DeleteOutcome::Unknown => Err(unknown()),
                DeleteOutcome::InUse { by } => Err(Error::ManifestInUse { digest: *digest, by }),
            },
        }
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
