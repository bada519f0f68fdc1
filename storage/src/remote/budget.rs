//! What uploads hold in memory on their way to an object store, all of them together.
//!
//! Most of it is *shared*: whoever comes first has it. If that were all, uploads would block each other: of many at once
//! each holds too little for a part, so that none can send and give back. So some of it is kept for *turns*. A turn is
//! memory for one smallest part, taken whole or not at all, and only by an upload that found nothing shared. Those that
//! wait get shared memory or a turn, whatever comes first, in the order in which they came.
//!
//! What is guaranteed, for any number of uploads, as long as store and database answer:
//! - **Some upload can always send.** Whoever has a turn can fill a part whatever others hold, and sends it at once. That
//!   frees what it held of the shared memory too, and its turn when the part is there.
//! - **No client holds a turn for long.** One that has not brought the rest of its part within [`TURN`] while others wait is
//!   told to come back, and what it held is free; it does not matter whether it is silent or only slow.
//! - **So each that waits has its turn**, after those that came before it. None waits for others' clients any longer than
//!   their turns last; it is told to come back only where for [`PATIENCE`] no turn has begun or ended, which is a store that
//!   takes nothing.
//!
//! A silent client may keep what it has of the shared memory, until its connection is given up. In the worst case all of it
//! is held so, and uploads go on in turns alone.

use super::{SMALLEST_PART, segment::SEGMENT};
use crate::{Error, Result};
use futures_util::future::{Either, select};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until, timeout_at},
};

/// What is charged at a time, in bytes.
const CHARGE: usize = 64 * 1024;
/// How long an upload waits while no turn begins or ends, before its client is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client has to fill its part while others wait: 1 MiB a second is enough. Shorter than [`PATIENCE`], so that
/// nobody loses it because of one turn.
const TURN: Duration = Duration::from_secs(5);
/// What a turn holds, in units: an upload that is one byte short of a part may ask for a segment more.
const TURN_UNITS: u32 = (SMALLEST_PART as usize + SEGMENT).div_ceil(CHARGE) as u32;

/// What the memory for uploads holds, in bytes, and how many uploads were told to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UploadMemoryUsage {
    pub(super) bytes: u64,
    pub(super) capacity: u64,
    pub(super) refused: u64,
}

/// The memory for uploads.
#[derive(Debug)]
pub(super) struct UploadMemory {
    /// In units of [`CHARGE`], as all here.
    shared: Arc<Semaphore>,
    /// Some turns.
    turns: Arc<Semaphore>,
    /// How many uploads wait.
    waiting: watch::Sender<usize>,
    /// How many were told to come back.
    refused: AtomicU64,
    capacity: u64,
    began: Instant,
    /// When a turn has last begun or ended: in milliseconds since `began`.
    moved: AtomicU64,
}

impl UploadMemory {
    /// So many bytes, half of them for turns; room for one turn at least.
    pub(super) fn of(bytes: u64) -> Arc<Self> {
        let units = u32::try_from(bytes / CHARGE as u64).unwrap_or(u32::MAX).max(TURN_UNITS);
        let turns = (units / 2 / TURN_UNITS).max(1) * TURN_UNITS;
        Arc::new(Self {
            shared: semaphore(units - turns),
            turns: semaphore(turns),
            waiting: watch::Sender::new(0),
            refused: AtomicU64::new(0),
            capacity: u64::from(units) * CHARGE as u64,
            began: Instant::now(),
            moved: AtomicU64::new(0),
        })
    }

    /// Shared memory, if there is some at once.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let permit = self.shared.clone().try_acquire_many_owned(units(bytes)).ok()?;
        Some(Charge::shared(permit))
    }

    /// Waits for shared memory or a turn.
    pub(super) async fn wait(self: &Arc<Self>, bytes: usize) -> Result<Granted> {
        let _waiting = Waiting::new(self);
        let shared = pin!(self.shared.clone().acquire_many_owned(units(bytes)));
        let turn = pin!(self.turns.clone().acquire_many_owned(TURN_UNITS));
        let mut granted = select(shared, turn);
        let mut until = Instant::now() + PATIENCE;
        loop {
            match timeout_at(until, &mut granted).await {
                Ok(Either::Left((permit, _))) => {
                    return Ok(Granted::Charge(Charge::shared(permit.map_err(closed)?)));
                }
                Ok(Either::Right((permit, _))) => return Ok(Granted::Turn(self.turn(permit.map_err(closed)?))),
                Err(_) => {
                    let moved = self.began + Duration::from_millis(self.moved.load(Ordering::Relaxed));
                    until = moved + PATIENCE;
                    if until <= Instant::now() {
                        return Err(self.refuse());
                    }
                }
            }
        }
    }

    /// Counts an upload that has to go for others' sake; what its client is told.
    pub(super) fn refuse(&self) -> Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Error::Overloaded
    }

    pub(super) fn usage(&self) -> UploadMemoryUsage {
        let free = (self.shared.available_permits() + self.turns.available_permits()) * CHARGE;
        let refused = self.refused.load(Ordering::Relaxed);
        UploadMemoryUsage { bytes: self.capacity.saturating_sub(free as u64), capacity: self.capacity, refused }
    }

    fn turn(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Turn {
        self.note_move();
        Turn { memory: self.clone(), permit, until: Instant::now() + TURN }
    }

    fn note_move(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.fetch_max(now, Ordering::Relaxed);
    }
}

fn semaphore(units: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((units as usize).min(Semaphore::MAX_PERMITS)))
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(CHARGE)).unwrap_or(u32::MAX)
}

fn closed(_: AcquireError) -> Error {
    Error::ShuttingDown
}

/// One that waits, as long as this lives.
struct Waiting<'memory>(&'memory UploadMemory);

impl<'memory> Waiting<'memory> {
    fn new(memory: &'memory UploadMemory) -> Self {
        memory.waiting.send_modify(|waiting| *waiting += 1);
        Self(memory)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

/// What was waited for.
pub(super) enum Granted {
    Charge(Charge),
    Turn(Turn),
}

/// The right to fill one part, whatever others hold. What was drawn from it outlives it: the next turn begins when all of
/// that is given back too.
pub(super) struct Turn {
    memory: Arc<UploadMemory>,
    permit: OwnedSemaphorePermit,
    until: Instant,
}

impl Turn {
    /// Some of its memory, if it has as much left: it has until a part is full.
    pub(super) fn draw(&mut self, bytes: usize) -> Option<Charge> {
        let permit = self.permit.split(units(bytes) as usize)?;
        Some(Charge { shared: None, of_turn: Some(permit) })
    }

    /// Whether it has lasted for too long, and others wait.
    pub(super) fn is_over(&self) -> bool {
        self.until <= Instant::now() && *self.memory.waiting.borrow() > 0
    }

    /// Waits until it is over.
    pub(super) async fn end(&self) {
        sleep_until(self.until).await;
        // The sender is ours: it cannot be gone.
        let _ = self.memory.waiting.subscribe().wait_for(|waiting| *waiting > 0).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.memory.note_move();
    }
}

/// Memory that is an upload's until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    shared: Option<OwnedSemaphorePermit>,
    of_turn: Option<OwnedSemaphorePermit>,
}

impl Charge {
    fn shared(permit: OwnedSemaphorePermit) -> Self {
        Self { shared: Some(permit), of_turn: None }
    }

    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        let permits = [&self.shared, &self.of_turn].into_iter().flatten();
        permits.map(|permit| permit.num_permits() * CHARGE).sum()
    }

    /// Adds another one to this.
    pub(super) fn add(&mut self, more: Self) {
        for (mine, its) in [(&mut self.shared, more.shared), (&mut self.of_turn, more.of_turn)] {
            match (mine, its) {
                (Some(mine), Some(its)) => mine.merge(its),
                (mine @ None, its) => *mine = its,
                (Some(_), None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn all(memory: &UploadMemory) -> u64 {
        let usage = memory.usage();
        usage.capacity - usage.bytes
    }

    #[test]
    fn turns_are_within_the_memory() {
        for mib in [16, 17, 31, 32, 256, 4096] {
            let memory = UploadMemory::of(mib * MIB);
            assert_eq!(all(&memory), mib * MIB, "{mib} MiB");
            let turns = memory.turns.available_permits();
            assert_eq!(turns % TURN_UNITS as usize, 0);
            assert!(turns > 0 && memory.shared.available_permits() >= turns, "{mib} MiB");
        }
    }

    async fn turn(memory: &Arc<UploadMemory>) -> Turn {
        match memory.wait(SEGMENT).await.unwrap() {
            Granted::Turn(turn) => turn,
            Granted::Charge(_) => panic!("there was shared memory"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_begins_when_all_of_the_one_before_is_given_back() {
        let memory = UploadMemory::of(16 * MIB);
        let _all_that_is_shared = memory.take(10 * MIB as usize).unwrap();
        let mut first = turn(&memory).await;
        let drawn = first.draw(SEGMENT).unwrap();
        assert_eq!(drawn.bytes(), SEGMENT);
        drop(first);
        let next = tokio::spawn({
            let memory = memory.clone();
            async move { turn(&memory).await.draw(SMALLEST_PART as usize).is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        drop(drawn);
        assert!(next.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_over_only_when_others_wait() {
        let memory = UploadMemory::of(16 * MIB);
        let _all_that_is_shared = memory.take(10 * MIB as usize).unwrap();
        let first = turn(&memory).await;
        tokio::time::advance(TURN * 10).await;
        assert!(!first.is_over());
        let next = tokio::spawn({
            let memory = memory.clone();
            async move { drop(turn(&memory).await) }
        });
        first.end().await;
        assert!(first.is_over());
        drop(first);
        next.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_to_come_back_when_nothing_moves_and_not_before() {
        let memory = UploadMemory::of(16 * MIB);
        let _all_that_is_shared = memory.take(10 * MIB as usize).unwrap();
        let mut first = turn(&memory).await;
        // Three wait in this order; the first two have a part that takes eight seconds each.
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let memory = memory.clone();
            waiting.push(tokio::spawn(async move {
                let mut turn = turn(&memory).await;
                let part = turn.draw(SEGMENT);
                drop(turn);
                tokio::time::sleep(Duration::from_secs(8)).await;
                drop(part);
            }));
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(8)).await;
        let stuck = first.draw(SEGMENT);
        drop(first);
        tokio::time::sleep(Duration::from_secs(8)).await;
        drop(stuck);
        for waiting in waiting {
            waiting.await.unwrap();
        }
        // Now one keeps what it has for ever.
        let mut last = turn(&memory).await;
        let _stuck = last.draw(SEGMENT);
        drop(last);
        let begun = Instant::now();
        assert!(matches!(memory.wait(SEGMENT).await, Err(Error::Overloaded)));
        // All that is shared, and what was drawn of the turn.
        assert_eq!(memory.usage(), UploadMemoryUsage { bytes: 11 * MIB, capacity: 16 * MIB, refused: 1 });
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
    }
}
