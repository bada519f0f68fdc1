//! What is asked of a store once, at the start, so that a wrong bucket, wrong credentials or a missing permission are told
//! before any client meets them.

use super::RemoteStore;
use crate::{BlobHasher, Error, ObjectKey, Result};
use longshore_oci::Algorithm;

/// What is written.
const PROOF: &[u8] = b"longshore was here";

impl RemoteStore {
    /// Whether an object can be written whole, read back and deleted; the same for one in parts; and whether one in parts is
    /// found and given up that was only begun. Leaves the object that [`RemoteStore::check`] looks at; one that is there
    /// already stays as it is, with its mark.
    pub async fn prove(&self) -> Result<()> {
        self.prove_whole().await?;
        self.prove_in_parts().await?;
        self.prove_given_up().await?;
        match self.backend.size(&ObjectKey::probe()).await {
            Ok(_) => Ok(()),
            Err(Error::Lost { .. }) => self.backend.put(&ObjectKey::probe(), vec![PROOF.into()]).await,
            Err(error) => Err(error),
        }
    }

    async fn prove_whole(&self) -> Result<()> {
        let key = ObjectKey::random();
        self.backend.put(&key, vec![PROOF.into()]).await?;
        self.prove_read(&key).await?;
        self.backend.delete(&key).await
    }

    async fn prove_in_parts(&self) -> Result<()> {
        let key = ObjectKey::random();
        let upload = self.backend.begin(&key).await?;
        if let Err(error) = self.prove_end(&key, &upload).await {
            // Or each start would leave another one there. What failed first says more than what fails now.
            drop(self.backend.abort(&key, &upload).await);
            drop(self.backend.delete(&key).await);
            return Err(error);
        }
        self.backend.delete(&key).await
    }

    async fn prove_end(&self, key: &ObjectKey, upload: &str) -> Result<()> {
        let part = self.backend.put_part(key, upload, 0, vec![PROOF.into()]).await?;
        match self.backend.complete(key, upload, vec![(0, part)]).await {
            // Lost is also what was done at first and asked for again: then the object is there.
            Ok(()) | Err(Error::UploadLost { .. }) => self.prove_read(key).await,
            Err(error) => Err(error),
        }
    }

    async fn prove_given_up(&self) -> Result<()> {
        let key = ObjectKey::random();
        let upload = self.backend.begin(&key).await?;
        let listed = self.backend.uploads(&key).await;
        self.backend.abort(&key, &upload).await?;
        listed.map(drop)
    }

    /// Whether the object is there as it was written.
    async fn prove_read(&self, key: &ObjectKey) -> Result<()> {
        let hash = self.hash(key, Algorithm::Sha256, PROOF.len() as u64).await?;
        let mut expected = BlobHasher::new(Algorithm::Sha256);
        expected.update(PROOF);
        if hash.digest() == expected.digest() { Ok(()) } else { Err(Error::Lost { key: key.clone() }) }
    }
}
