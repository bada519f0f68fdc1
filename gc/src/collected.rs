//! What a pass does, told as it happens: whoever adds it up has it all, however the pass ends.

use crate::Retained;
use longshore_metadata::{CollectionState, Deleted};
use std::time::{Duration, SystemTime};

/// Something that a pass has done, or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// So many upload sessions had expired, and have ended.
    UploadsExpired(u64),
    /// Rules of retention looked through some repositories, and did this there.
    Retained(Retained),
    /// Manifests that nothing kept are gone.
    Manifests(Deleted),
    /// Holds of repositories on blobs that nothing kept are gone.
    Grants(Deleted),
    /// Blobs that no repository held are gone.
    Blobs(Deleted),
    /// The bytes of objects are gone.
    Objects(Deleted),
    /// Something holds the pass up: nothing is done after that.
    Halted(Halt),
    /// For so long the oldest review has been due that was left.
    Overdue(Duration),
}

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

impl std::ops::AddAssign<Event> for Collected {
    fn add_assign(&mut self, event: Event) {
        match event {
            Event::UploadsExpired(count) => self.uploads += count,
            Event::Retained(retained) => self.retained += retained,
            Event::Manifests(deleted) => self.manifests += deleted,
            Event::Grants(deleted) => self.grants += deleted,
            Event::Blobs(deleted) => self.blobs += deleted,
            Event::Objects(deleted) => self.objects += deleted,
            Event::Halted(halt) => self.halt = Some(halt),
            Event::Overdue(overdue) => self.overdue = overdue,
        }
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
