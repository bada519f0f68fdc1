//! Things to put into a registry, and the short way to put them there.

use crate::database::Database;
use longshore_metadata::{
    CommitOutcome, CommitUpload, NamedBlob, NewUpload, PutInlineBlob, PutManifest, PutManifestOutcome, StoredContent,
    UploadAddress,
};
use longshore_oci::{Algorithm, Digest, ImmutableTags, RepositoryName, Tag};
use std::time::Duration;

/// How long an upload session stays without a new byte.
pub(crate) const UPLOAD_LIFETIME: Duration = Duration::from_secs(3600);

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

pub(crate) fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

pub(crate) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

pub(crate) fn tags(names: &[&str]) -> Vec<Tag> {
    names.iter().map(|name| tag(name)).collect()
}

pub(crate) fn digest_of(content: &str) -> Digest {
    Digest::of(Algorithm::Sha256, content.as_bytes())
}

/// A manifest that names nothing, told from others by its body.
pub(crate) fn manifest(repository_name: &str, body: &str) -> PutManifest {
    PutManifest {
        repository: repository(repository_name),
        digest: digest_of(body),
        media_type: IMAGE.to_owned(),
        artifact_type: None,
        config_media_type: None,
        subject: None,
        annotations: None,
        body: body.as_bytes().to_vec(),
        blobs: Vec::new(),
        children: Vec::new(),
        tags: Vec::new(),
        pushed_by: None,
        immutable: ImmutableTags::default(),
        allow_absent: false,
    }
}

/// A manifest of these layers, given by their content.
pub(crate) fn image(repository_name: &str, body: &str, layers: &[&str]) -> PutManifest {
    let blobs = layers.iter().map(|layer| NamedBlob { digest: digest_of(layer), required: true }).collect();
    PutManifest { blobs, ..manifest(repository_name, body) }
}

/// An index of these manifests, given by their bodies.
pub(crate) fn index(repository_name: &str, body: &str, children: &[&str]) -> PutManifest {
    let children = children.iter().map(|child| digest_of(child)).collect();
    PutManifest { children, ..manifest(repository_name, body) }
}

/// The manifest, allowed to name what is not there.
pub(crate) fn sparse(manifest: PutManifest) -> PutManifest {
    PutManifest { allow_absent: true, ..manifest }
}

pub(crate) fn tagged(manifest: PutManifest, names: &[&str]) -> PutManifest {
    PutManifest { tags: tags(names), ..manifest }
}

pub(crate) fn by(manifest: PutManifest, who: &str) -> PutManifest {
    PutManifest { pushed_by: Some(who.to_owned()), ..manifest }
}

pub(crate) fn inline_blob(repository_name: &str, content: &str) -> PutInlineBlob {
    PutInlineBlob {
        repository: repository(repository_name),
        digest: digest_of(content),
        content: content.as_bytes().to_vec(),
    }
}

pub(crate) fn new_upload(repository_name: &str, principal: Option<&str>) -> NewUpload {
    NewUpload {
        repository: repository(repository_name),
        principal: principal.map(str::to_owned),
        hash_state: b"the hash of nothing".to_vec(),
        lifetime: UPLOAD_LIFETIME,
    }
}

impl Database {
    /// Puts a small blob; answers its digest.
    pub(crate) async fn push_blob(&self, repository_name: &str, content: &str) -> Digest {
        self.metadata.put_inline_blob(inline_blob(repository_name, content)).await.unwrap();
        digest_of(content)
    }

    /// Puts a manifest that must be accepted; answers its digest.
    pub(crate) async fn push(&self, manifest: PutManifest) -> Digest {
        let digest = manifest.digest;
        assert_eq!(self.metadata.put_manifest(manifest).await.unwrap(), PutManifestOutcome::Stored);
        digest
    }

    /// Opens a session by nobody in particular.
    pub(crate) async fn open_upload(&self, repository_name: &str) -> UploadAddress {
        let id = self.metadata.begin_upload(new_upload(repository_name, None)).await.unwrap();
        UploadAddress { repository: repository(repository_name), id, principal: None }
    }

    /// Takes the session; answers the fence.
    pub(crate) async fn claim(&self, address: &UploadAddress) -> i64 {
        self.metadata.claim_upload(address.clone(), UPLOAD_LIFETIME).await.unwrap().unwrap().fence
    }

    /// Opens and takes a session, and attaches an object of this key; answers what is to be committed for `content`.
    pub(crate) async fn attached_upload(&self, repository_name: &str, key: &str, content: &str) -> CommitUpload {
        let address = self.open_upload(repository_name).await;
        let fence = self.claim(&address).await;
        assert!(self.metadata.attach_object(address.id, fence, key, "files").await.unwrap());
        CommitUpload {
            id: address.id,
            fence,
            digest: digest_of(content),
            size: content.len() as u64,
            content: StoredContent::AttachedObject,
        }
    }

    /// Uploads a blob into an object of this key; answers its digest.
    pub(crate) async fn upload_blob(&self, repository_name: &str, key: &str, content: &str) -> Digest {
        let commit = self.attached_upload(repository_name, key, content).await;
        assert_eq!(self.metadata.commit_upload(commit).await.unwrap(), CommitOutcome::Committed);
        digest_of(content)
    }
}
