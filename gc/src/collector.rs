//! Passes over all steps, again and again while the server runs.

use crate::{Clock, Error, Findings, House, Pace, Retained, Rules, Step, Walks, objects, retention, uploads};
use longshore_metadata::{CollectionState, Deleted, Metadata, Review};
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
    /// What retention rules did.
    pub retained: Retained,
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
        let tags = self.retained.tags + self.retained.build_caches.count;
        self.uploads == 0 && tags == 0 && deleted.iter().all(|deleted| deleted.count == 0)
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
        Self(House { metadata, storage, rules, clock: Clock::default(), pace, walks: Walks::default() })
    }

    /// One pass over all steps, until none of them finds anything more to do.
    ///
    /// # Errors
    /// The first one; what was done before it stays done.
    pub async fn pass(&self) -> Result<Collected, Error> {
        match self.steps().await {
            Ok(collected) => Ok(Collected { overdue: self.0.metadata.overdue_for().await?, ..collected }),
            Err(Error::ClockMoved) => {
                self.0.metadata.hold_collection().await?;
                Err(Error::ClockMoved)
            }
            Err(error) => Err(error),
        }
    }

    async fn steps(&self) -> Result<Collected, Error> {
        let halt = self.halt().await?;
        self.add_up_usage().await?;
        let mut collected = Collected { halt, ..Collected::default() };
        if collected.halt.is_some() {
            return Ok(collected);
        }
        collected.uploads = uploads::expire(&self.0).await?;
        uploads::forget_deleted(&self.0).await?;
        if let Err(error) = retention::look_through(&self.0, &mut collected.retained).await {
            return self.stopped_by(error, collected).await;
        }
        collected.manifests = self.0.all(Step::Manifests).await?;
        collected.grants = self.0.all(Step::Grants).await?;
        collected.blobs = self.0.all(Step::Blobs).await?;
        // The bytes of what should not have gone are still there: they stay.
        collected.halt = self.halt().await?;
        if collected.halt.is_none() {
            collected.objects = objects::delete_condemned(&self.0).await?;
        }
        Ok(collected)
    }

    /// A pass that its rules of retention have ended.
    async fn stopped_by(&self, error: Error, mut collected: Collected) -> Result<Collected, Error> {
        match error {
            Error::TooMuch => {
                collected.halt = self.halt().await?;
                Ok(collected)
            }
            error => Err(error),
        }
    }

    /// The first half of a step: reads what is due, and decides; none where nothing is due.
    ///
    /// # Errors
    /// [`Error::Metadata`]; [`Error::ClockMoved`].
    pub async fn look(&self, step: Step) -> Result<Option<Findings>, Error> {
        self.0.look(step, Review::FIRST).await
    }

    /// The second half: does what was decided, as far as it is still right.
    ///
    /// # Errors
    /// [`Error::Metadata`]; [`Error::TooMuch`].
    pub async fn act(&self, findings: Findings) -> Result<Deleted, Error> {
        self.0.act(findings).await
    }

    /// Ends every upload session that has expired.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub async fn expire_uploads(&self) -> Result<u64, Error> {
        uploads::expire(&self.0).await
    }

    /// Forgets every deleted manifest that can be brought back no more.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub async fn forget_deleted(&self) -> Result<(), Error> {
        uploads::forget_deleted(&self.0).await
    }

    /// Adds up what has changed in namespaces.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub async fn add_up_usage(&self) -> Result<(), Error> {
        Ok(self.0.metadata.add_up_usage().await?)
    }

    /// Deletes the bytes of every condemned object whose time has come.
    ///
    /// # Errors
    /// [`Error::Metadata`]; [`Error::Storage`] after all others have had their turn.
    pub async fn delete_condemned(&self) -> Result<Deleted, Error> {
        objects::delete_condemned(&self.0).await
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
    use crate::Foreseen;
    use crate::place::{Place, place};
    use longshore_metadata::{PutManifest, PutManifestOutcome};
    use longshore_oci::{Algorithm, Digest};

    const HOUR: Duration = Duration::from_secs(3600);

    /// That was never recorded to have any bytes.
    fn one_object() -> Deleted {
        Deleted { count: 1, bytes: 0 }
    }

    #[tokio::test]
    async fn an_expired_upload_goes_with_its_bytes_and_an_open_one_stays() {
        let place = place(Duration::ZERO).await;
        let (_, expired) = place.upload(Duration::ZERO).await;
        let (open, kept) = place.upload(HOUR).await;
        assert_eq!(place.pass().await, Collected { uploads: 1, objects: one_object(), ..Collected::default() });
        assert!(!place.is_there(&expired).await);
        assert!(place.is_there(&kept).await);
        assert!(place.metadata.find_upload(open).await.unwrap().is_some());
        assert_eq!(place.pass().await, Collected::default());
    }

    #[tokio::test]
    async fn condemned_bytes_stay_until_their_time_has_come() {
        let place = place(HOUR).await;
        let (address, key) = place.upload(HOUR).await;
        assert!(place.metadata.cancel_upload(address).await.unwrap());
        assert_eq!(place.pass().await, Collected::default());
        assert!(place.is_there(&key).await);
    }

    #[tokio::test]
    async fn bytes_that_are_gone_already_are_no_error() {
        let place = place(Duration::ZERO).await;
        let (address, key) = place.upload(HOUR).await;
        assert!(place.metadata.cancel_upload(address).await.unwrap());
        place.storage.delete(&key, 5, None).await.unwrap();
        assert_eq!(place.pass().await, Collected { objects: one_object(), ..Collected::default() });
    }

    #[tokio::test]
    async fn one_object_that_cannot_be_deleted_holds_up_no_other() {
        let place = place(Duration::ZERO).await;
        let (stuck, stuck_key) = place.upload(HOUR).await;
        let (other, other_key) = place.upload(HOUR).await;
        // A folder in the place of its file.
        place.storage.delete(&stuck_key, 5, None).await.unwrap();
        std::fs::create_dir(place.file(&stuck_key)).unwrap();
        for address in [stuck, other] {
            assert!(place.metadata.cancel_upload(address).await.unwrap());
        }
        let outcome = place.collector().pass().await;
        assert!(matches!(outcome, Err(Error::Storage(_))), "{outcome:?}");
        assert!(!place.is_there(&other_key).await);
    }

    /// Everything goes as soon as nothing keeps it, step by step, until nothing is left.
    #[tokio::test]
    async fn what_is_kept_stays_and_the_rest_goes_to_its_last_byte() {
        let place = Place { rules: Rules { undo: Duration::ZERO, ..Rules::default() }, ..place(Duration::ZERO).await };
        place.promise_nothing().await;
        for name in ["kept", "loose"] {
            place.push_object("app", name).await;
            place.push_manifest("app", &format!("manifest of {name}"), &[name], &[]).await;
        }
        let body = "index";
        let index = PutManifest {
            children: vec![Digest::of(Algorithm::Sha256, b"manifest of kept")],
            tags: vec!["latest".parse().unwrap()],
            ..Place::manifest("app", body, &[])
        };
        assert_eq!(place.metadata.put_manifest(index).await.unwrap(), PutManifestOutcome::Stored);
        let (preview, told) = place.preview().await;
        let going = told.iter().filter_map(|foreseen| match foreseen {
            Foreseen::Manifest(going) => Some(going.digest),
            _ => None,
        });
        assert_eq!(going.collect::<Vec<_>>(), [Digest::of(Algorithm::Sha256, b"manifest of loose")]);

        let mut total = (0, 0, 0, 0);
        loop {
            let collected = place.collector().pass().await.unwrap();
            assert_eq!(collected.halt, None);
            if collected.is_nothing() {
                break;
            }
            total.0 += collected.manifests.count;
            total.1 += collected.grants.count;
            total.2 += collected.blobs.bytes;
            total.3 += collected.objects.bytes;
        }
        assert_eq!(total, (1, 1, "loose".len() as u64, "loose".len() as u64));
        assert_eq!(preview.freed.bytes, "loose".len() as u64 + "manifest of loose".len() as u64);
        let app = "app".parse().unwrap();
        for (content, is_there) in [("kept", true), ("loose", false)] {
            let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
            assert_eq!(place.metadata.find_blob(&app, &digest).await.unwrap().is_some(), is_there, "{content}");
        }
    }

    #[tokio::test]
    async fn a_collection_that_was_stopped_deletes_nothing_until_it_is_let_go_on() {
        let breaker = longshore_metadata::Breaker { percent: 1, floor: 0 };
        let rules = Rules { undo: Duration::ZERO, breaker, ..Rules::default() };
        let place = Place { rules, ..place(Duration::ZERO).await };
        place.promise_nothing().await;
        place.push_object("app", "blob").await;
        let collected = place.collector().pass().await.unwrap();
        assert_eq!((collected.grants.count, collected.blobs.count), (1, 0));
        assert!(matches!(collected.halt, Some(Halt::Stopped(_))), "{:?}", collected.halt);
        let collected = place.collector().pass().await.unwrap();
        assert!(collected.is_nothing() && collected.halt.is_some());
        place.metadata.resume_collection().await.unwrap();
        let collected = place.collector().pass().await.unwrap();
        assert_eq!((collected.blobs.count, collected.objects.count, collected.halt), (1, 1, None));
    }
}
