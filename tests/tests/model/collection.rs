//! Whether garbage is collected: what a clock that was moved holds up, and what too many deletions do. Told from what has
//! happened, and compared with what passes do.

use crate::{
    operation::{HOUR, REPLICAS},
    play::Outcome,
    world::PROMISE,
};
use longshore_metadata::Breaker;
use std::time::Duration;

/// How many manifests and how many blobs may go within [`WINDOW`]: so few that it happens.
pub(crate) const BREAKER: Breaker = Breaker { percent: 40, floor: 2 };
const WINDOW: Duration = Duration::from_secs(24 * 3600);
/// A clock that is so far from where it should be was moved.
const MOVED: Duration = Duration::from_secs(900);
/// A look is written down where the last one is so old.
const LOOKED_AT: Duration = Duration::from_secs(60);

/// What a pass must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreseen {
    /// What there is to do.
    Goes,
    /// Nothing until then.
    Waits(Duration),
    /// Nothing until somebody has looked.
    Stopped,
    /// Nothing: it finds that the clock was moved.
    Moved,
}

/// Times are as the database tells them.
#[derive(Debug, Clone)]
pub(crate) struct Collection {
    /// What the clock said to the last look that was written down.
    seen: Duration,
    /// What it said last to each process that has looked.
    looked: [Option<Duration>; REPLICAS],
    /// Nothing is collected before that.
    resumes: Duration,
    is_stopped: bool,
    deletions: Deletions,
}

/// How many there are, or may go, of what only so many may go of within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) manifests: i64,
    pub(crate) blobs: i64,
}

/// What went within a window.
#[derive(Debug, Clone)]
struct Deletions {
    began: Duration,
    manifests: Gone,
    blobs: Gone,
    /// Somebody has looked, and let it go on.
    is_allowed: bool,
}

/// Things of a kind that went.
#[derive(Debug, Clone, Copy, Default)]
struct Gone {
    count: i64,
    /// How many there were at most with them when a collector came to them: it counts all of them once.
    all: i64,
}

impl Collection {
    pub(crate) fn new(now: Duration) -> Self {
        let deletions = Deletions::since(now, false);
        Self { seen: now, looked: [None; REPLICAS], resumes: Duration::ZERO, is_stopped: false, deletions }
    }

    /// As after a restore: what was promised before is promised anew.
    pub(crate) fn held(now: Duration) -> Self {
        Self { resumes: now + PROMISE, ..Self::new(now) }
    }

    /// Whether the clock says something to a process's next look that it should not.
    pub(crate) fn is_surprising(&self, process: usize, now: Duration) -> bool {
        let is_unseen = now + MOVED < self.seen || now > self.seen + PROMISE;
        is_unseen || self.looked[process].is_some_and(|looked| looked.abs_diff(now) > MOVED)
    }

    /// Whether a process's next pass does what there is to do.
    pub(crate) fn goes(&self, process: usize, now: Duration) -> bool {
        !self.is_stopped && !self.waits(now) && !self.is_surprising(process, now)
    }

    /// A pass of a process begins.
    pub(crate) fn begin(&mut self, process: usize, now: Duration) -> Foreseen {
        let is_surprising = self.is_surprising(process, now);
        let has_moved = self.looked[process].replace(now).is_some_and(|looked| looked.abs_diff(now) > MOVED);
        if is_surprising {
            self.resumes = now + PROMISE;
        }
        if is_surprising || self.seen.abs_diff(now) >= LOOKED_AT {
            self.seen = now;
        }
        if has_moved {
            Foreseen::Moved
        } else if self.is_stopped {
            Foreseen::Stopped
        } else if self.waits(now) {
            Foreseen::Waits(self.resumes)
        } else {
            Foreseen::Goes
        }
    }

    /// A step of a process has looked at the clock.
    pub(crate) fn looked(&mut self, process: usize, now: Duration) {
        self.looked[process] = Some(now);
    }

    /// A process has ended: the next one has not looked yet.
    pub(crate) fn ended(&mut self, process: usize) {
        self.looked[process] = None;
    }

    /// All have, and time has gone by, while collectors looked at the clock or nobody did.
    pub(crate) fn moved_to(&mut self, now: Duration, is_watched: bool) {
        self.looked = [None; REPLICAS];
        if is_watched {
            self.seen = now;
        }
    }

    /// The database counts in a window that began then: a collector may have begun it that deleted nothing.
    pub(crate) fn counts_since(&mut self, now: Duration, began: Duration) -> Outcome {
        let last = self.deletions.began;
        if began == last {
            return Ok(());
        }
        if began != now || (last..last + WINDOW).contains(&now) {
            return Err(format!("a window began at {began:?}, the last one at {last:?}, now {now:?}"));
        }
        self.deletions = Deletions::since(now, false);
        Ok(())
    }

    /// A pass, or a step of one, left so many.
    pub(crate) fn went(&mut self, before: Counts, after: Counts) -> Outcome {
        let is_allowed = self.deletions.is_allowed;
        self.deletions.manifests.more(before.manifests, after.manifests, is_allowed)?;
        self.deletions.blobs.more(before.blobs, after.blobs, is_allowed)
    }

    /// It was stopped, while so many might go.
    pub(crate) fn stop(&mut self, may_go: Counts) -> Outcome {
        if !self.is_stopped {
            let Deletions { manifests, blobs, is_allowed, .. } = self.deletions;
            let is_many = manifests.count + may_go.manifests > floor() || blobs.count + may_go.blobs > floor();
            if is_allowed || !is_many {
                return Err(format!("it was stopped before {may_go:?}, after {:?}", self.deletions));
            }
        }
        self.is_stopped = true;
        Ok(())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Somebody has looked, and lets it go on, whatever holds it up.
    pub(crate) fn resume(&mut self, now: Duration) {
        self.deletions = Deletions::since(now, true);
        (self.seen, self.resumes, self.is_stopped) = (now, Duration::ZERO, false);
    }

    /// Whether it waits for its promises to end.
    pub(crate) fn waits(&self, now: Duration) -> bool {
        self.resumes > now
    }
}

impl Deletions {
    fn since(now: Duration, is_allowed: bool) -> Self {
        Self { began: now, manifests: Gone::default(), blobs: Gone::default(), is_allowed }
    }
}

impl Gone {
    /// Some of those that were there went.
    fn more(&mut self, before: i64, after: i64, is_allowed: bool) -> Outcome {
        self.all = self.all.max(self.count + before);
        if before == after {
            return Ok(());
        }
        let (count, all) = (self.count + before - after, self.all);
        if count > floor() && !is_allowed && count * 100 > all * i64::from(BREAKER.percent) {
            return Err(format!("{count} of {all} went within a day"));
        }
        self.count = count;
        Ok(())
    }
}

fn floor() -> i64 {
    BREAKER.floor.try_into().unwrap()
}

#[test]
fn a_clock_that_was_moved_holds_collection_up_and_one_that_goes_on_does_not() {
    let mut collection = Collection::new(100 * HOUR);
    assert_eq!(collection.begin(0, 100 * HOUR), Foreseen::Goes);
    assert_eq!(collection.begin(1, 124 * HOUR), Foreseen::Goes);
    assert_eq!(collection.begin(0, 124 * HOUR), Foreseen::Moved);
    assert_eq!(collection.begin(1, 124 * HOUR), Foreseen::Waits(148 * HOUR));
    collection.moved_to(148 * HOUR, true);
    assert_eq!(collection.begin(0, 148 * HOUR), Foreseen::Goes);
    collection.moved_to(173 * HOUR, false);
    assert_eq!(collection.begin(0, 173 * HOUR), Foreseen::Waits(197 * HOUR));
}
