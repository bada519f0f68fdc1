//! What is damaged in the store, and whole in the caches of this process, is written to the store again from there.

use super::Scrubber;
use crate::{Error, length::key_of};
use futures_util::TryStreamExt;
use longshore_metadata::{
    CommitOutcome, CommitUpload, NewUpload, StoredContent, StoredObject, UploadAddress, UploadId,
};
use longshore_storage::{BlobHasher, ObjectKey, ObjectStream};
use std::time::Duration;

/// A process that dies at it leaves a session, which ends after this with all that it has written.
const LIFETIME: Duration = Duration::from_secs(3600);

impl Scrubber {
    /// Gives the blob of a damaged object its bytes again, as a push would: under a new key, and what was damaged is condemned.
    /// False where the caches do not hold all of it, or hold something else. That a store takes nothing is told, and no error:
    /// the next round tries again.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub(super) async fn mend(&self, object: &StoredObject) -> Result<bool, Error> {
        let cached = key_of(object).ok().and_then(|key| self.storage.read_cached(&key, object.size));
        let Some(bytes) = cached else { return Ok(false) };
        let Some(repository) = self.metadata.holder_of(object).await? else { return Ok(false) };
        let hasher = BlobHasher::new(object.digest.algorithm());
        let hash_state = hasher.save();
        let upload = NewUpload { repository: repository.clone(), principal: None, hash_state, lifetime: LIFETIME };
        let id = self.metadata.begin_upload(upload).await?;
        let is_mended = match self.write_again(id, object, hasher, bytes).await {
            Err(Error::Storage(error)) => {
                tracing::warn!(key = object.key, %error, "a damaged object was not written again from the cache");
                false
            }
            outcome => outcome?,
        };
        if !is_mended {
            self.metadata.cancel_upload(UploadAddress { id, repository, principal: None }).await?;
        }
        Ok(is_mended)
    }

    async fn write_again(
        &self,
        id: UploadId,
        object: &StoredObject,
        hasher: BlobHasher,
        mut bytes: ObjectStream,
    ) -> Result<bool, Error> {
        let key = ObjectKey::random();
        if !self.metadata.attach_object(id, 0, &key.to_string(), self.storage.backend()).await? {
            return Ok(false);
        }
        let mut writer = self.storage.create(key, hasher, Vec::new()).await?;
        while let Some(piece) = bytes.try_next().await? {
            writer.write(piece).await?;
        }
        if writer.hash().await?.digest() != object.digest {
            self.storage.undo(writer, 0).await?;
            return Ok(false);
        }
        writer.finish().await?;
        let content = StoredContent::AttachedObject;
        let commit = CommitUpload { id, fence: 0, digest: object.digest, size: object.size, content };
        Ok(self.metadata.commit_upload(commit).await? == CommitOutcome::Committed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{Place, place};
    use crate::scrub::Damage;
    use crate::scrub::tests::AT_ONCE;
    use longshore_oci::Digest;
    use longshore_storage::{Backend, Delivery, RemoteStore, Storage, memory_backend};
    use std::sync::Arc;

    const MIB: u64 = 1024 * 1024;

    /// A place whose objects are in an object store, with a layer that was pulled.
    async fn pulled() -> (Place, Arc<dyn Backend>, ObjectKey, Digest) {
        let backend = memory_backend();
        let storage = Storage::Remote(RemoteStore::new(backend.clone(), 64 * MIB, 16 * MIB));
        let place = Place { storage, ..place(Duration::ZERO).await };
        let digest = place.push_object("app", "layer").await;
        let key = place.key_of("app", &digest).await;
        assert_eq!(read(&place, &key, &digest).await, b"layer");
        (place, backend, key, digest)
    }

    async fn read(place: &Place, key: &ObjectKey, digest: &Digest) -> Vec<u8> {
        let reader = place.storage.open_object(key, 5, digest).await.unwrap();
        let pieces: Vec<_> = reader.range(0..5, Delivery::Copied).try_collect().await.unwrap();
        pieces.concat()
    }

    fn keys(damaged: &[Damage]) -> Vec<String> {
        damaged.iter().filter_map(|damage| damage.key.clone()).collect()
    }

    #[tokio::test]
    async fn what_the_cache_holds_takes_the_place_of_what_is_damaged() {
        for damage in [Some("Layer"), None] {
            let (place, backend, damaged, digest) = pulled().await;
            match damage {
                Some(bytes) => backend.put(&damaged, vec![bytes.into()]).await.unwrap(),
                None => backend.delete(&damaged).await.unwrap(),
            }
            let report = place.scrub(AT_ONCE).await;
            assert_eq!(
                (keys(&report.damaged), report.recovered),
                (vec![damaged.to_string()], vec![damaged.to_string()])
            );
            let mended = place.key_of("app", &digest).await;
            assert_ne!(mended, damaged);
            assert_eq!(backend.size(&mended).await.unwrap(), 5, "it is in the store, and not in memory alone");
            assert_eq!(read(&place, &mended, &digest).await, b"layer");
            assert_eq!(place.scrub(AT_ONCE).await.damaged, []);
            assert!(place.metadata.open_sessions(None, 10).await.unwrap().sessions.is_empty());
            assert_eq!(place.metadata.waiting_bytes().await.unwrap().count, 1, "what was damaged is condemned");
        }
    }

    #[tokio::test]
    async fn what_no_cache_holds_or_a_damaged_one_stays_damaged() {
        let (place, backend, key, digest) = pulled().await;
        backend.put(&key, vec!["Layer".into()]).await.unwrap();
        // The process was started anew, and has pulled what is wrong.
        let storage = Storage::Remote(RemoteStore::new(backend.clone(), 64 * MIB, 16 * MIB));
        let place = Place { storage, ..place };
        for is_pulled in [false, true] {
            if is_pulled {
                assert_eq!(read(&place, &key, &digest).await, b"Layer");
            }
            let report = place.scrub(AT_ONCE).await;
            assert_eq!((keys(&report.damaged), report.recovered), (vec![key.to_string()], Vec::new()), "{is_pulled}");
            assert!(place.metadata.find_blob(&"app".parse().unwrap(), &digest).await.unwrap().is_none());
            assert!(place.metadata.open_sessions(None, 10).await.unwrap().sessions.is_empty(), "{is_pulled}");
        }
    }
}
