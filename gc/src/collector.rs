//! Passes over all steps, again and again while the server runs.

use crate::{Collected, Error, Event, Findings, Halt, House, Pace, Rules, Step, history, objects, retention, uploads};
use longshore_metadata::{Deleted, Metadata, Review};
use longshore_storage::Storage;
use std::time::Duration;

/// Runs the steps. Any number of them may run at the same time, on any replicas.
#[derive(Debug, Clone)]
pub struct Collector(House);

impl Collector {
    /// A collector for this database and these objects.
    pub fn new(metadata: Metadata, storage: Storage, rules: Rules) -> Self {
        let pace = Pace::new(rules.share);
        let (clock, retention_walks, history_walks) = Default::default();
        Self(House { metadata, storage, rules, clock, pace, retention_walks, history_walks })
    }

    /// One pass over all steps, until none of them finds anything more to do. What it does is reported batch by batch.
    ///
    /// # Errors
    /// The first one; what was reported before it stays done.
    pub async fn pass(&self, mut report: impl FnMut(Event)) -> Result<(), Error> {
        let mut passed = self.steps(&mut report).await;
        if matches!(passed, Err(Error::ClockMoved)) {
            self.0.metadata.hold_collection().await?;
        }
        match self.0.metadata.overdue_for().await {
            Ok(overdue) => report(Event::Overdue(overdue)),
            Err(error) => passed = passed.and(Err(error.into())),
        }
        passed
    }

    async fn steps(&self, report: &mut impl FnMut(Event)) -> Result<(), Error> {
        let mut halt = self.halt().await?;
        self.add_up_usage().await?;
        if halt.is_none() {
            match self.take_away(report).await {
                Ok(()) | Err(Error::TooMuch) => halt = self.halt().await?,
                Err(error) => return Err(error),
            }
        }
        match halt {
            None => objects::delete_condemned(&self.0, report).await,
            // The bytes of what should not have gone are still there: they stay.
            Some(halt) => {
                report(Event::Halted(halt));
                Ok(())
            }
        }
    }

    /// Takes out of the database whatever nothing keeps.
    async fn take_away(&self, report: &mut impl FnMut(Event)) -> Result<(), Error> {
        uploads::expire(&self.0, report).await?;
        uploads::forget_deleted(&self.0).await?;
        history::forget_old(&self.0).await?;
        retention::look_through(&self.0, report).await?;
        for step in [Step::Manifests, Step::Grants, Step::Blobs] {
            self.0.all(step, report).await?;
        }
        Ok(())
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
        let mut collected = Collected::default();
        uploads::expire(&self.0, &mut |event| collected += event).await?;
        Ok(collected.uploads)
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
        let mut collected = Collected::default();
        objects::delete_condemned(&self.0, &mut |event| collected += event).await?;
        Ok(collected.objects)
    }

    async fn halt(&self) -> Result<Option<Halt>, Error> {
        let state = self.0.metadata.begin_collection().await?;
        self.0.clock.look(state.now)?;
        Ok(Halt::of(&state))
    }

    /// Passes every `interval` until the future is dropped: `report` is told what they do, batch by batch, and `passed` of each how it
    /// ended, and what it did in all. A failed pass is tried again.
    pub async fn run(
        &self,
        interval: Duration,
        report: impl Fn(&Event),
        passed: impl Fn(&Collected, Result<(), &Error>),
    ) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut collected = Collected::default();
            let outcome = self.pass(|event| {
                report(&event);
                collected += event;
            });
            let outcome = outcome.await;
            passed(&collected, outcome.as_ref().copied());
        }
    }
}

impl House {
    /// Whether something holds collection up since the pass began: another replica may have met the breaker, or the clock may
    /// have been moved.
    ///
    /// # Errors
    /// [`Error::Metadata`]; [`Error::ClockMoved`] where we are the first to see it.
    pub(crate) async fn is_halted(&self) -> Result<bool, Error> {
        let state = self.metadata.collection_state().await?;
        self.clock.look(state.now)?;
        Ok(Halt::of(&state).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{Place, place};
    use crate::{BATCH, Foreseen};
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

    /// By the clock that was moved they are due, and sessions have expired.
    #[tokio::test]
    async fn a_clock_that_is_moved_within_a_pass_lets_nothing_go() {
        let place = place(HOUR).await;
        let ((condemned, key), (open, _)) = (place.upload(HOUR).await, place.upload(HOUR).await);
        assert!(place.metadata.cancel_upload(condemned).await.unwrap());
        let collector = place.collector();
        collector.pass(|_| {}).await.unwrap();
        place.execute("DROP VIEW clock").await;
        place
            .execute("CREATE VIEW clock AS SELECT CAST((unixepoch('subsec') + 7200) * 1000000 AS INTEGER) AS now")
            .await;
        assert!(matches!(collector.delete_condemned().await, Err(Error::ClockMoved)));
        assert!(place.is_there(&key).await);
        place.execute("DROP VIEW clock").await;
        place
            .execute("CREATE VIEW clock AS SELECT CAST((unixepoch('subsec') + 14400) * 1000000 AS INTEGER) AS now")
            .await;
        assert!(matches!(collector.expire_uploads().await, Err(Error::ClockMoved)));
        let sessions = place.metadata.open_sessions(None, 10).await.unwrap().sessions;
        assert_eq!(sessions.iter().map(|session| session.id).collect::<Vec<_>>(), [open.id]);
    }

    #[tokio::test]
    async fn what_another_replica_stops_is_stopped_here_too() {
        let rules = Rules { undo: Duration::ZERO, ..Rules::default() };
        let place = Place { rules, ..place(Duration::ZERO).await };
        place.promise_nothing().await;
        place.push_object("app", "layer").await;
        let (collector, (condemned, key)) = (place.collector(), place.upload(HOUR).await);
        assert!(place.metadata.cancel_upload(condemned).await.unwrap());
        place.execute("UPDATE gc_state SET stopped_at = 1, stopped_why = 'another replica' WHERE id = 1").await;
        collector.0.all(Step::Grants, &mut |event| panic!("{event:?}")).await.unwrap();
        assert_eq!(collector.delete_condemned().await.unwrap(), Deleted::default());
        assert!(place.is_there(&key).await);
        place.metadata.resume_collection().await.unwrap();
        let collected = place.pass().await;
        assert_eq!((collected.grants.count, collected.objects.count), (1, 2));
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
        let mut collected = Collected::default();
        let outcome = place.collector().pass(|event| collected += event).await;
        assert!(matches!(outcome, Err(Error::Storage(_))), "{outcome:?}");
        assert!(!place.is_there(&other_key).await);
        assert_eq!(collected.objects, one_object(), "and what was done is not forgotten");
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
            let collected = place.pass().await;
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
        let collected = place.pass().await;
        assert_eq!((collected.grants.count, collected.blobs.count), (1, 0));
        assert!(matches!(collected.halt, Some(Halt::Stopped(_))), "{:?}", collected.halt);
        let collected = place.pass().await;
        assert!(collected.is_nothing() && collected.halt.is_some());
        place.metadata.resume_collection().await.unwrap();
        let collected = place.pass().await;
        assert_eq!((collected.blobs.count, collected.objects.count, collected.halt), (1, 1, None));
    }

    /// Manifests are what no undo brings back: the first step that meets the breaker is the last of the pass.
    #[tokio::test]
    async fn too_many_manifests_stop_everything_that_comes_after_them() {
        let breaker = longshore_metadata::Breaker { percent: 50, floor: 0 };
        let rules = Rules { undo: Duration::ZERO, breaker, ..Rules::default() };
        let place = Place { rules, ..place(Duration::ZERO).await };
        place.promise_nothing().await;
        place.push_object("app", "loose").await;
        for name in ["one", "two", "three"] {
            place.push_manifest("app", name, &[], &[]).await;
        }
        let collected = place.pass().await;
        assert_eq!((collected.manifests.count, collected.grants.count), (0, 0));
        let Some(Halt::Stopped(why)) = collected.halt else { panic!("{collected:?}") };
        assert_eq!(why, "it would have deleted 3 of 3 manifests within a day, more than 50 %");
        assert!(place.pass().await.is_nothing());
        place.metadata.resume_collection().await.unwrap();
        let collected = place.pass().await;
        assert_eq!((collected.manifests.count, collected.blobs.count, collected.halt), (3, 1, None));
    }

    #[tokio::test]
    async fn what_a_pass_does_is_told_batch_by_batch() {
        let rules = Rules { undo: Duration::ZERO, ..Rules::default() };
        let place = Place { rules, ..place(Duration::ZERO).await };
        place.promise_nothing().await;
        for number in 0..=BATCH {
            place.push_manifest("app", &format!("manifest {number}"), &[], &[]).await;
        }
        let mut told = Vec::new();
        place.collector().pass(|event| told.push(event)).await.unwrap();
        let manifests = told.into_iter().filter_map(|event| match event {
            Event::Manifests(deleted) => Some(deleted.count),
            _ => None,
        });
        assert_eq!(manifests.collect::<Vec<_>>(), [u64::from(BATCH), 1]);
    }

    #[tokio::test]
    async fn what_was_done_before_an_error_is_told() {
        let rules = Rules { undo: Duration::ZERO, ..Rules::default() };
        let place = Place { rules, ..place(Duration::ZERO).await };
        place.promise_nothing().await;
        place.push_object("app", "layer").await;
        place.push_manifest("app", "manifest", &["layer"], &[]).await;
        place.execute("CREATE TRIGGER fails BEFORE DELETE ON blobs BEGIN SELECT RAISE(ABORT, 'it fails'); END").await;
        let mut collected = Collected::default();
        let outcome = place.collector().pass(|event| collected += event).await;
        assert!(matches!(outcome, Err(Error::Metadata(_))), "{outcome:?}");
        assert_eq!((collected.manifests.count, collected.grants.count, collected.blobs.count), (1, 1, 0));
        place.execute("DROP TRIGGER fails").await;
        let collected = place.pass().await;
        assert_eq!((collected.manifests.count, collected.grants.count, collected.blobs.count), (0, 0, 1));
    }
}
