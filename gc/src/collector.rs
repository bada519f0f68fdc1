//! Passes over all steps, again and again while the server runs.

use crate::{Error, House, objects, uploads};
use longshore_metadata::Metadata;
use longshore_storage::Storage;
use std::time::Duration;

/// Runs the steps.
#[derive(Debug, Clone)]
pub struct Collector(House);

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Upload sessions that had expired.
    pub uploads: u64,
    /// Objects whose bytes are gone now.
    pub objects: u64,
}

impl Collector {
    /// A collector for this database and these objects.
    pub fn new(metadata: Metadata, storage: Storage) -> Self {
        Self(House { metadata, storage })
    }

    /// One pass over all steps, until none of them finds anything more to do.
    ///
    /// # Errors
    /// The first one; what was done before it stays done.
    pub async fn pass(&self) -> Result<Collected, Error> {
        let uploads = uploads::expire(&self.0).await?;
        let objects = objects::delete_condemned(&self.0).await?;
        Ok(Collected { uploads, objects })
    }

    /// Passes every `interval`, each reported, until the future is dropped. A failed pass is reported and tried again.
    pub async fn run(&self, interval: Duration, report: impl Fn(&Result<Collected, Error>)) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            report(&self.pass().await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_metadata::{ConnectOptions, Lifetimes, NewUpload, UploadAddress, UploadId};
    use longshore_oci::Algorithm;
    use longshore_storage::{BlobHasher, Error as StorageError, FileStore, ObjectKey};

    struct Place {
        house: House,
        folder: tempfile::TempDir,
    }

    async fn place(object_delay: Duration) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("longshore.db").display());
        let options =
            ConnectOptions { url, max_connections: 2, acquire_timeout: Duration::from_secs(60), cache_size: 0 };
        let metadata = Metadata::connect(&options).await.unwrap();
        metadata.migrate().await.unwrap();
        let promise = Duration::from_secs(60);
        metadata.set_lifetimes(Lifetimes { promise, review_delay: promise, object_delay }).await.unwrap();
        let storage = Storage::Files(FileStore::open(folder.path(), 0).unwrap());
        Place { house: House { metadata, storage }, folder }
    }

    impl Place {
        /// A session with an object of a few bytes.
        async fn upload(&self, lifetime: Duration) -> (UploadAddress, ObjectKey) {
            let repository: longshore_oci::RepositoryName = "app".parse().unwrap();
            let hasher = BlobHasher::new(Algorithm::Sha256);
            let upload =
                NewUpload { repository: repository.clone(), principal: None, hash_state: hasher.save(), lifetime };
            let id: UploadId = self.house.metadata.begin_upload(upload).await.unwrap();
            let key = ObjectKey::random();
            assert!(self.house.metadata.attach_object(id, 0, &key.to_string(), FileStore::BACKEND).await.unwrap());
            self.house.storage.create(key.clone(), hasher, b"bytes".to_vec()).await.unwrap();
            (UploadAddress { repository, id, principal: None }, key)
        }

        async fn is_there(&self, key: &ObjectKey) -> bool {
            match self.house.storage.read(key, 0..5).await {
                Ok(_) => true,
                Err(StorageError::Lost { .. }) => false,
                Err(error) => panic!("{error}"),
            }
        }

        async fn pass(&self) -> Collected {
            Collector(self.house.clone()).pass().await.unwrap()
        }
    }

    #[tokio::test]
    async fn an_expired_upload_goes_with_its_bytes_and_an_open_one_stays() {
        let place = place(Duration::ZERO).await;
        let (_, expired) = place.upload(Duration::ZERO).await;
        let (open, kept) = place.upload(Duration::from_secs(3600)).await;
        assert_eq!(place.pass().await, Collected { uploads: 1, objects: 1 });
        assert!(!place.is_there(&expired).await);
        assert!(place.is_there(&kept).await);
        assert!(place.house.metadata.find_upload(open).await.unwrap().is_some());
        assert_eq!(place.pass().await, Collected::default());
    }

    #[tokio::test]
    async fn condemned_bytes_stay_until_their_time_has_come() {
        let place = place(Duration::from_secs(3600)).await;
        let (address, key) = place.upload(Duration::from_secs(3600)).await;
        assert!(place.house.metadata.cancel_upload(address).await.unwrap());
        assert_eq!(place.pass().await, Collected::default());
        assert!(place.is_there(&key).await);
    }

    #[tokio::test]
    async fn bytes_that_are_gone_already_are_no_error() {
        let place = place(Duration::ZERO).await;
        let (address, key) = place.upload(Duration::from_secs(3600)).await;
        assert!(place.house.metadata.cancel_upload(address).await.unwrap());
        place.house.storage.delete(&key, 5, None).await.unwrap();
        assert_eq!(place.pass().await, Collected { uploads: 0, objects: 1 });
    }

    #[tokio::test]
    async fn one_object_that_cannot_be_deleted_holds_up_no_other() {
        let place = place(Duration::ZERO).await;
        let (stuck, stuck_key) = place.upload(Duration::from_secs(3600)).await;
        let (other, other_key) = place.upload(Duration::from_secs(3600)).await;
        // A folder in the place of its file.
        place.house.storage.delete(&stuck_key, 5, None).await.unwrap();
        let name = stuck_key.to_string().split_off("objects/".len());
        let file = place.folder.path().join("objects").join(&name[30..]).join(&name);
        std::fs::create_dir(&file).unwrap();
        for address in [stuck, other] {
            assert!(place.house.metadata.cancel_upload(address).await.unwrap());
        }
        let outcome = Collector(place.house.clone()).pass().await;
        assert!(matches!(outcome, Err(Error::Storage(_))), "{outcome:?}");
        assert!(!place.is_there(&other_key).await);
    }
}
