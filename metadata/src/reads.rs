//! The reads that are answered from memory while that is right, and from the database else; see [`crate::cache`].
//!
//! What is found in memory needs no await and no allocation. The way to the database is boxed, so that the future of a
//! hit stays small. Those who ask for the same at the same moment send one of them there, and wait.
//!
//! Bytes that come from a row are compared with their digest on their way: damaged ones are kept in no memory, and answered
//! as if there were none, so that a push brings them again. Those of a manifest that is known to be damaged are not read.

use crate::cache::Question;
use crate::{BlobContent, BlobRecord, DamagedRow, ManifestRecord, Metadata, Result};
use longshore_oci::{Digest, RepositoryName, Tag};

impl Metadata {
    /// The manifest of this digest.
    pub async fn find_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<ManifestRecord>> {
        match self.cache.manifest(repository, digest) {
            Some(record) => Ok(Some(record)),
            None => Box::pin(self.read_manifest(repository, digest)).await,
        }
    }

    async fn read_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<ManifestRecord>> {
        let question = Question::Manifest(repository, digest);
        let query = async {
            let reading = self.cache.begin(question);
            let found = self.sound_manifest(repository, on_engine!(self.find_manifest(repository, digest))?).await;
            if let (Some(reading), Some(record)) = (reading, &found) {
                reading.keep_manifest(record);
            }
            Ok(found)
        };
        let look = || self.cache.manifest(repository, digest);
        self.cache.ask(|asking| &asking.manifests, question, look, query).await
    }

    /// The manifest that the tag names.
    pub async fn find_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<ManifestRecord>> {
        match self.cache.tag(repository, tag) {
            Some(record) => Ok(Some(record)),
            None => Box::pin(self.read_tag(repository, tag)).await,
        }
    }

    async fn read_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<ManifestRecord>> {
        let question = Question::Tag(repository, tag);
        let query = async {
            let reading = self.cache.begin(question);
            let found = self.sound_manifest(repository, on_engine!(self.find_tag(repository, tag))?).await;
            if let (Some(reading), Some(record)) = (reading, &found) {
                reading.keep_tag(record);
            }
            Ok(found)
        };
        let look = || self.cache.tag(repository, tag);
        self.cache.ask(|asking| &asking.manifests, question, look, query).await
    }

    /// The manifest, unless it is damaged.
    async fn sound_manifest(
        &self,
        repository: &RepositoryName,
        found: Option<ManifestRecord>,
    ) -> Option<ManifestRecord> {
        let record = found?;
        let damaged = DamagedRow::of(Some(repository), &record.digest, &record.body);
        let Some(row) = damaged else { return Some(record) };
        self.remember_damage(row).await;
        None
    }

    /// The blob, unless it is damaged as far as that is seen from here.
    async fn sound_blob(&self, digest: &Digest, found: Option<BlobRecord>) -> Option<BlobRecord> {
        let record = found?;
        let damaged = match &record.content {
            BlobContent::Inline(bytes) => DamagedRow::of(None, digest, bytes),
            BlobContent::Object { .. } => None,
        };
        let Some(row) = damaged else { return Some(record) };
        self.remember_damage(row).await;
        None
    }

    /// What is damaged is not there, also where the database takes no writes: whoever reads it next sees it anew.
    async fn remember_damage(&self, row: DamagedRow) {
        let (repository, digest) = (row.repository.clone(), row.digest);
        let marked = self.mark_damaged_row(row).await;
        let repository = repository.as_ref().map(RepositoryName::as_str);
        match marked {
            Ok(true) => {
                tracing::error!(repository, %digest, "what is in the database is damaged: nobody can pull it until it is pushed anew");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(repository, %digest, %error, "what is in the database is damaged, and that cannot be written down");
            }
        }
    }

    /// The blob with its inline bytes, if the repository holds it.
    pub async fn find_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<BlobRecord>> {
        match self.cache.blob(repository, digest) {
            Some(record) => Ok(Some(record)),
            None => Box::pin(self.read_blob(repository, digest)).await,
        }
    }

    async fn read_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<BlobRecord>> {
        let question = Question::Blob(repository, digest);
        let query = async {
            let reading = self.cache.begin(question);
            let found = self.sound_blob(digest, on_engine!(self.find_blob(repository, digest))?).await;
            if let (Some(reading), Some(record)) = (reading, &found) {
                reading.keep_blob(record);
            }
            Ok(found)
        };
        let look = || self.cache.blob(repository, digest);
        self.cache.ask(|asking| &asking.blobs, question, look, query).await
    }

    /// The size of the blob, if the repository holds it; and from now on it stays for the promised time even if no
    /// manifest comes to name it. Writes only when less than the promise remains.
    pub async fn promise_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>> {
        match self.cache.promise(repository, digest) {
            Some(size) => Ok(Some(size)),
            None => Box::pin(self.read_promise(repository, digest)).await,
        }
    }

    async fn read_promise(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>> {
        let question = Question::Promise(repository, digest);
        let query = async {
            let reading = self.cache.begin(question);
            let found = on_engine!(self.promise_blob(repository, digest))?;
            if let (Some(reading), Some(promised)) = (reading, &found) {
                reading.keep_promise(promised);
            }
            Ok(found.map(|promised| promised.size))
        };
        let look = || self.cache.promise(repository, digest);
        self.cache.ask(|asking| &asking.promises, question, look, query).await
    }
}
