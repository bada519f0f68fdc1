//! Passes over all steps, again and again while the server runs.

use crate::{Clock, Error, House, Pace, Rules, blobs, grants, manifests, objects, uploads};
use longshore_metadata::{CollectionState, Deleted, Metadata};
use longshore_storage::Storage;
use std::time::{Duration, SystemTime};

/// Runs the steps. Any number of them may run at the same time, on any replicas.
#[derive(Debug, Clone)]
pub struct Collector(House);

/// What a pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Upload sessions that had expired.
    pub uploads: u64,
    /// Manifests that nothing kept.
    pub manifests: Deleted,
    /// Holds of repositories on blobs that nothing kept.
    pub grants: Deleted,
    /// Blobs that no repository held.
    pub blobs: Deleted,
    /// Objects whose bytes are gone now.
    pub objects: Deleted,
    /// What held the pass up: nothing was done after that.
    pub halt: Option<Halt>,
    /// For how long the oldest review has been due that was left.
    pub overdue: Duration,
}

impl Collected {
    /// Whether it found nothing to do.
    pub fn is_nothing(&self) -> bool {
        let deleted = [self.manifests, self.grants, self.blobs, self.objects];
        self.uploads == 0 && deleted.iter().all(|deleted| deleted.count == 0)
    }
}

/// Why nothing is collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The clock was moved: what was promised by it is promised anew.
    Until(SystemTime),
    /// Somebody has to look at it.
    Stopped(String),
}

impl Halt {
    /// What holds collection up in this state, if anything.
    pub fn of(state: &CollectionState) -> Option<Self> {
        let stopped = state.stopped.clone().map(Self::Stopped);
        stopped.or_else(|| state.waits_until.map(Self::Until))
    }
}

impl Collector {
    /// A collector for this database and these objects.
    pub fn new(metadata: Metadata, storage: Storage, rules: Rules) -> Self {
        let pace = Pace::new(rules.share);
        Self(House { metadata, storage, rules, clock: Clock::default(), pace })
    }

    /// One pass over all steps, until none of them finds anything more to do.
    ///
    /// # Errors
    /// The first one; what was done before it stays done.
    pub async fn pass(&self) -> Result<Collected, Error> {
        match self.steps().await {
            Err(Error::ClockMoved) => {
                self.0.metadata.hold_collection().await?;
                Err(Error::ClockMoved)
            }
            outcome => outcome,
        }
    }

    async fn steps(&self) -> Result<Collected, Error> {
        let mut collected = Collected { halt: self.halt().await?, ..Collected::default() };
        if collected.halt.is_some() {
            return Ok(collected);
        }
        collected.uploads = uploads::expire(&self.0).await?;
        collected.manifests = manifests::collect(&self.0).await?;
        collected.grants = grants::collect(&self.0).await?;
        collected.blobs = blobs::collect(&self.0).await?;
        // The bytes of what should not have gone are still there: they stay.
        collected.halt = self.halt().await?;
        if collected.halt.is_none() {
            collected.objects = objects::delete_condemned(&self.0).await?;
        }
        collected.overdue = self.0.metadata.overdue_for().await?;
        Ok(collected)
    }

    async fn halt(&self) -> Result<Option<Halt>, Error> {
        let state = self.0.metadata.begin_collection().await?;
        self.0.clock.look(state.now)?;
        Ok(Halt::of(&state))
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
        let house = House { metadata, storage, rules: Rules::default(), clock: Clock::default(), pace: Pace::new(100) };
        Place { house, folder }
    }

    /// That was never recorded to have any bytes.
    fn one_object() -> Deleted {
        Deleted { count: 1, bytes: 0 }
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
        assert_eq!(place.pass().await, Collected { uploads: 1, objects: one_object(), ..Collected::default() });
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
        assert_eq!(place.pass().await, Collected { objects: one_object(), ..Collected::default() });
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
