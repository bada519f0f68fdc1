//! What a preview asks of the database beside what waits in the queue.

use crate::{GrantFacts, Metadata, Result, UploadId};
use longshore_oci::{Digest, RepositoryName};
use std::time::SystemTime;

/// An upload session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// Its name.
    pub id: UploadId,
    /// Where it is.
    pub repository: RepositoryName,
    /// The bytes that it has received and that are kept.
    pub received: u64,
    /// When it expires, or has expired, unless somebody goes on with it before.
    pub expires_at: SystemTime,
}

/// Some sessions, and when they were read.
#[derive(Debug, Clone)]
pub struct SessionPage {
    /// What the database's clock said.
    pub now: SystemTime,
    /// In the order in which they expire.
    pub sessions: Vec<OpenSession>,
}

/// A manifest that needs a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobUser {
    /// Its number: pages go by it.
    pub number: i64,
    /// Its digest.
    pub digest: Digest,
}

impl Metadata {
    /// A page of the sessions that have not ended, expired or not, in the order in which they expire, after this one.
    pub async fn open_sessions(&self, after: Option<&OpenSession>, limit: u32) -> Result<SessionPage> {
        on_engine!(self.open_sessions(after, limit))
    }

    /// A repository's hold on a blob with what keeps it, whether a review of it is due or not, and when it was read.
    pub async fn grant_facts(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(SystemTime, GrantFacts)>> {
        on_engine!(self.grant_facts(repository, digest))
    }

    /// Manifests of the repository that need the blob, after this number.
    pub async fn users_of_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BlobUser>> {
        on_engine!(self.users_of_blob(repository, digest, after, limit))
    }
}
