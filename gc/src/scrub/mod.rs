//! Reads every object again, and all that is in rows, and compares the bytes with the digest, round after round. What is
//! damaged is served no more, so that whoever needs it pushes it anew; nothing is deleted.
//!
//! One process is at it at a time, whichever has the claim, so that the rate is that of the whole registry. How far it came
//! is in the database. Whoever is asked to read by a person takes the claim from a process that reads by itself.

mod mend;
mod rate;
mod rows;
#[cfg(test)]
mod tests;
mod verify;

use crate::{Error, length::key_of};
use longshore_metadata::{InRows, Metadata, RowsRead, ScrubClaim, Scrubbed, StoredObject};
use longshore_oci::{Digest, RepositoryName};
use longshore_storage::Storage;
use rate::Rate;
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use verify::{Found, GONE};

/// A process that dies leaves its claim to others after this.
const HOLD: Duration = Duration::from_secs(300);
/// What was read is saved this often at least.
const SAVED_EVERY: Duration = Duration::from_secs(30);
/// Objects that are looked up, and saved, together at most.
const BATCH: u32 = 100;
/// So many objects that are gone, and none that is there, are not damage: the store is another one.
const MOST_GONE: u32 = 20;

/// What the operator decides.
#[derive(Debug, Clone, Copy)]
pub struct ScrubRules {
    /// Every object is read once in so long.
    pub period: Duration,
    /// In bytes a second, never more than this.
    pub rate: u64,
}

/// Where a round that somebody asks for begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundFrom {
    /// Where the one that is under way has come to; at the beginning where none is.
    WhereItIs,
    /// At the beginning: what was read some days ago is read again.
    Beginning,
}

/// Reads objects.
#[derive(Debug, Clone)]
pub struct Scrubber {
    metadata: Metadata,
    storage: Storage,
    rules: ScrubRules,
}

/// What a pass read and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Objects that were read.
    pub objects: u64,
    /// Manifests and small blobs that were read, in their rows.
    pub rows: u64,
    /// The bytes of all of these.
    pub bytes: u64,
    /// Those whose bytes are wrong or gone; nobody is served them any more.
    pub damaged: Vec<Damage>,
    /// Those that were damaged and are right again: keys of objects, or what is in rows. What this pass found damaged and wrote
    /// again, from a cache, is among both.
    pub recovered: Vec<String>,
    /// Whether all objects have been read now.
    pub is_finished: bool,
}

impl std::ops::AddAssign<&Self> for ScrubReport {
    fn add_assign(&mut self, later: &Self) {
        self.objects += later.objects;
        self.rows += later.rows;
        self.bytes += later.bytes;
        self.damaged.extend_from_slice(&later.damaged);
        self.recovered.extend_from_slice(&later.recovered);
        self.is_finished = later.is_finished;
    }
}

/// Something whose bytes are not what they should be: an object, a small blob in its row, or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The key of an object.
    pub key: Option<String>,
    /// Where a manifest is.
    pub repository: Option<RepositoryName>,
    /// Of the object's blob, or its own.
    pub digest: Digest,
    /// What is wrong.
    pub reason: String,
    /// Whether that was known before.
    pub is_known: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { digest, reason, .. } = self;
        match (&self.key, &self.repository) {
            (Some(key), _) => write!(formatter, "{key} of blob {digest}: {reason}"),
            (None, Some(repository)) => write!(formatter, "{repository}@{digest}: {reason}"),
            (None, None) => write!(formatter, "blob {digest}: {reason}"),
        }
    }
}

impl Scrubber {
    /// A scrubber of these objects.
    pub fn new(metadata: Metadata, storage: Storage, rules: ScrubRules) -> Self {
        Self { metadata, storage, rules }
    }

    /// Goes on with the round, or begins one when it is time, until all objects have been read; each report is of what was
    /// read since the last. Does nothing where another process is at it, or it is not time yet.
    ///
    /// # Errors
    /// [`Error::Metadata`]; [`Error::Storage`] where the store does not answer: that is no damage. The round goes on there
    /// with the next pass. [`Error::WrongStore`] where it has none of many objects: that is no damage either.
    pub async fn pass(&self, report: impl FnMut(&ScrubReport)) -> Result<(), Error> {
        self.round(None, report).await
    }

    /// The same at once, whether it is time or not. A process that is at it leaves the round to this one.
    ///
    /// # Errors
    /// Those of [`Scrubber::pass`]; [`Error::ClaimLost`] where another process has taken it in turn.
    pub async fn round_now(&self, from: RoundFrom, report: impl FnMut(&ScrubReport)) -> Result<(), Error> {
        self.round(Some(from), report).await
    }

    /// A round that was asked for, or one that is due.
    async fn round(&self, asked: Option<RoundFrom>, mut report: impl FnMut(&ScrubReport)) -> Result<(), Error> {
        // Nothing is written where there is nothing to do.
        if asked.is_none() && self.is_done_for_now(&self.metadata.scrub_state().await?) {
            return Ok(());
        }
        let claim = match asked {
            Some(_) => self.metadata.take_scrub(HOLD).await?,
            None => self.metadata.claim_scrub(HOLD).await?,
        };
        let Some(claim) = claim else { return Ok(()) };
        let id = claim.claim;
        let outcome = match self.begin(claim, asked).await {
            Ok(Some((round, rate))) => self.read_all(round, rate, &mut report).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.metadata.release_scrub(id).await?;
        outcome
    }

    fn is_done_for_now(&self, state: &ScrubClaim) -> bool {
        let is_recent = state.began.is_some_and(|began| began + self.rules.period > state.now);
        state.finished.is_some() && is_recent
    }

    /// The round, where it is to go on, and how fast; none where it is not time for a new one.
    async fn begin(&self, claim: ScrubClaim, asked: Option<RoundFrom>) -> Result<Option<(ScrubClaim, Rate)>, Error> {
        let is_under_way = claim.began.is_some() && claim.finished.is_none();
        if is_under_way && asked != Some(RoundFrom::Beginning) {
            let rate = self.rate_of(&claim).await?;
            return Ok(Some((claim, rate)));
        }
        if asked.is_none() && self.is_done_for_now(&claim) {
            return Ok(None);
        }
        let total = self.metadata.begin_scrub(claim.claim).await?.ok_or(Error::ClaimLost)?;
        let rows = RowsRead::UpTo(InRows::Blobs, (0, 0));
        let begun = ScrubClaim { last: 0, total, done: 0, rows, began: Some(claim.now), finished: None, ..claim };
        let rate = Rate::of(self.rules, &begun);
        Ok(Some((begun, rate)))
    }

    async fn read_all(
        &self,
        round: ScrubClaim,
        mut rate: Rate,
        report: &mut impl FnMut(&ScrubReport),
    ) -> Result<(), Error> {
        let ScrubClaim { claim, mut last, rows, .. } = round;
        self.read_rows(claim, rows, &mut rate, report).await?;
        let mut batch = Batch::new(last);
        loop {
            if rate.is_old() {
                rate = self.rate_of(&self.metadata.scrub_state().await?).await?;
            }
            let objects = self.metadata.objects_after(last, BATCH).await?;
            let is_end = objects.is_empty();
            for object in objects {
                last = object.number;
                let found = self.verify(&object, claim, &mut batch, &mut rate).await?;
                self.act(object, found, &mut batch).await?;
                if batch.saved.elapsed() >= SAVED_EVERY {
                    self.save(claim, &mut batch).await?;
                    report(&std::mem::take(&mut batch.report));
                }
            }
            if is_end {
                self.settle(&mut batch).await?;
            }
            batch.report.is_finished = is_end;
            self.save(claim, &mut batch).await?;
            if is_end {
                self.metadata.finish_scrub(claim).await?;
            }
            report(&std::mem::take(&mut batch.report));
            if is_end {
                return Ok(());
            }
        }
    }

    /// Does what is to be done about what was found.
    async fn act(&self, object: StoredObject, found: Found, batch: &mut Batch) -> Result<(), Error> {
        let number = object.number;
        batch.report.objects += 1;
        if batch.is_store_there {
            self.mark_held_back(batch).await?;
        }
        match found {
            Found::Right => {
                batch.right.push(number);
                if object.is_damaged && self.metadata.clear_damage(&object).await? {
                    batch.report.recovered.push(object.key);
                }
            }
            Found::Wrong(reason) => self.mark(object, reason, batch).await?,
            Found::Gone if batch.is_store_there || object.is_damaged => {
                self.mark(object, GONE.to_owned(), batch).await?;
            }
            Found::Gone => batch.hold_back(object)?,
        }
        // Whoever goes on with the round has to come back to those that are held back.
        if batch.held_back.is_empty() {
            batch.last = number;
        }
        Ok(())
    }

    /// Nobody is served the object from now on.
    async fn mark(&self, object: StoredObject, reason: String, batch: &mut Batch) -> Result<(), Error> {
        let (key, digest, is_known) = (object.key.clone(), object.digest, object.is_damaged);
        // One that was deleted, or pushed anew, while it was read is nobody's any more.
        if !is_known && !self.metadata.mark_damaged(object.clone(), reason.clone()).await? {
            return Ok(());
        }
        if self.mend(&object).await? {
            batch.report.recovered.push(key.clone());
        }
        batch.report.damaged.push(Damage { key: Some(key), repository: None, digest, reason, is_known });
        Ok(())
    }

    /// Marks those that were held back: they are gone, and the store is the right one.
    async fn mark_held_back(&self, batch: &mut Batch) -> Result<(), Error> {
        for object in std::mem::take(&mut batch.held_back) {
            self.mark(object, GONE.to_owned(), batch).await?;
        }
        Ok(())
    }

    /// Marks what is held back at the end of a round. A small registry may have lost all it had; of a greater one, of which
    /// this pass read the last few only, some of the first objects have to be there.
    async fn settle(&self, batch: &mut Batch) -> Result<(), Error> {
        if batch.held_back.is_empty() {
            return Ok(());
        }
        let first = self.metadata.objects_after(0, MOST_GONE).await?;
        for object in &first {
            if let Ok(key) = key_of(object) {
                self.look(object, &key, batch).await?;
            }
            if batch.is_store_there {
                return self.mark_held_back(batch).await;
            }
        }
        let gone = first.len() as u64;
        if gone < u64::from(MOST_GONE) { self.mark_held_back(batch).await } else { Err(Error::WrongStore { gone }) }
    }

    async fn save(&self, claim: i64, batch: &mut Batch) -> Result<(), Error> {
        let right = std::mem::take(&mut batch.right);
        let bytes = std::mem::take(&mut batch.unsaved);
        batch.saved = Instant::now();
        let scrubbed = Scrubbed { claim, last: batch.last, bytes, right, hold: HOLD };
        if self.metadata.save_scrub(scrubbed).await? { Ok(()) } else { Err(Error::ClaimLost) }
    }

    /// When the round that is under way began and how far it is, for whoever watches.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub async fn state(&self) -> Result<ScrubClaim, Error> {
        Ok(self.metadata.scrub_state().await?)
    }

    /// How many blobs nobody can read.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub async fn damaged(&self) -> Result<u64, Error> {
        Ok(self.metadata.count_damaged().await?)
    }

    /// How many manifests nobody can read.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub async fn damaged_manifests(&self) -> Result<u64, Error> {
        Ok(self.metadata.count_damaged_manifests().await?)
    }

    /// Passes every `interval` until the future is dropped; what fails is reported and tried again.
    pub async fn run(&self, interval: Duration, mut report: impl FnMut(Result<&ScrubReport, &Error>)) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.pass(|pass| report(Ok(pass))).await {
                // Somebody else goes on.
                Ok(()) | Err(Error::ClaimLost) => {}
                Err(error) => report(Err(&error)),
            }
        }
    }
}

/// What was read and is not saved, and what this pass knows of the store.
#[derive(Debug)]
struct Batch {
    /// All up to this one were read, and marked where they are damaged.
    last: i64,
    /// Whether the store had any object in this pass.
    is_store_there: bool,
    /// Objects that are gone, as long as it had none.
    held_back: Vec<StoredObject>,
    right: Vec<i64>,
    unsaved: u64,
    saved: Instant,
    report: ScrubReport,
}

impl Batch {
    fn new(last: i64) -> Self {
        Self {
            last,
            is_store_there: false,
            held_back: Vec::new(),
            right: Vec::new(),
            unsaved: 0,
            saved: Instant::now(),
            report: ScrubReport::default(),
        }
    }

    /// Keeps one that is gone until it is known whether the store is the right one.
    fn hold_back(&mut self, object: StoredObject) -> Result<(), Error> {
        self.held_back.push(object);
        let gone = self.held_back.len() as u64;
        if gone < u64::from(MOST_GONE) { Ok(()) } else { Err(Error::WrongStore { gone }) }
    }

    fn read(&mut self, bytes: u64) {
        self.unsaved += bytes;
        self.report.bytes += bytes;
    }
}

/// For how long an object may go unread, by the state: since the round before the last began, at worst.
pub fn unread_for(state: &ScrubClaim) -> Duration {
    let since = |time: SystemTime| state.now.duration_since(time).unwrap_or_default();
    state.began.map_or(Duration::ZERO, since)
}
