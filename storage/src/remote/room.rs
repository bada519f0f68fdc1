//! Memory for what is fetched: who gets it where there is too little, and what is let go of for it.
//!
//! Whoever finds some takes it. Where there is none, fetches wait for it in one queue, in the order in which they came, each
//! for as much as a request is worth; so a hundred objects that are read at a time are read in turn, a few MiB each, and
//! not all at once by crumbs. What they wait for comes from readers that send on what they have; of a reader that does
//! not, what it has not come to is taken.

use super::flight::{Flight, Run};
use super::flights::Flights;
use crate::hot::{Charge, HotSegments, SEGMENT, segment};
use std::{
    cmp::Reverse,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a fetch waits for memory before its readers make do with less.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How often the first in the queue looks for what could be let go of; and how long it waits for more where it has some.
const TICK: Duration = Duration::from_millis(100);
/// Segments that are fetched by one request at most.
const RUN: u64 = 8;
/// So far ahead of one reader, in segments, is fetched in any case, as far as there is memory.
pub(super) const NEAR: u64 = 16;
/// So many fetches have room beside each other at least.
const FETCHES: u64 = 4;

/// The queue.
#[derive(Debug)]
pub(super) struct Room {
    queue: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    most_at_once: u64,
}

impl Room {
    pub(super) fn new(hot: &HotSegments) -> Self {
        let most_at_once = (hot.not_cached() / SEGMENT / FETCHES).clamp(1, RUN);
        Self { queue: tokio::sync::Mutex::default(), waiting: AtomicUsize::new(0), most_at_once }
    }

    /// Whether somebody waits for memory.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Segments that are fetched by one request at most.
    pub(super) fn most_at_once(&self) -> u64 {
        self.most_at_once
    }

    /// How many segments are fetched ahead of one reader at most: beyond [`NEAR`], no more than there is memory left for.
    /// So one alone has half of the memory at most, and several meet where each has as much as is left for the next.
    pub(super) fn most_ahead(&self, hot: &HotSegments) -> u64 {
        let usage = hot.usage();
        (usage.capacity.saturating_sub(usage.bytes) / SEGMENT).max(NEAR)
    }
}

/// One that waits for memory.
struct Waiting<'room>(&'room Room);

impl<'room> Waiting<'room> {
    fn new(room: &'room Room) -> Self {
        room.waiting.fetch_add(1, Ordering::Relaxed);
        Self(room)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Flights {
    /// Memory for the first segments of a run, as much as there is; nothing where somebody waits for it.
    pub(super) fn charge_now(&self, flight: &Flight, run: Run) -> Vec<Charge> {
        if self.room.is_short() {
            return Vec::new();
        }
        run.map_while(|number| self.hot.try_charge(length(number, flight.size))).collect()
    }

    /// Memory for a run, or for the beginning of it where the rest would take long; none where all would.
    pub(super) async fn charge(&self, flight: &Flight, run: Run) -> Vec<Charge> {
        let deadline = Instant::now() + PATIENCE;
        let _waiting = Waiting::new(&self.room);
        let Ok(_first) = timeout_at(deadline, self.room.queue.lock()).await else { return Vec::new() };
        let mut charges = Vec::new();
        for number in run.clone() {
            if !flight.is_wanted() {
                break;
            }
            let until = if charges.is_empty() { deadline } else { Instant::now() + TICK };
            let bytes = length(number, flight.size);
            match self.charge_until(bytes, run.end - number, flight, until).await {
                Some(charge) => charges.push(charge),
                None => break,
            }
        }
        charges
    }

    /// Memory for a segment, the first of so many; none if it does not come until then, or all have gone who read it.
    async fn charge_until(&self, bytes: u64, segments: u64, flight: &Flight, until: Instant) -> Option<Charge> {
        if let Some(charge) = self.hot.try_charge(bytes) {
            return Some(charge);
        }
        let mut charge = pin!(self.hot.charge_within(bytes, PATIENCE));
        loop {
            self.make_room(segments).await;
            match timeout(TICK, &mut charge).await {
                Ok(charge) => return charge,
                Err(_) if Instant::now() >= until || !flight.is_wanted() => return None,
                Err(_) => {}
            }
        }
    }

    /// Lets go of so many segments that are held: those that nobody needs, then those whose next reader is slow, the
    /// farthest away first.
    async fn make_room(&self, segments: u64) {
        let (flights, slow_after) = (self.now(), self.pace.slow_after());
        let spare = flights.iter().flat_map(|flight| flight.spare(slow_after).into_iter().map(move |it| (it, flight)));
        let mut spare: Vec<_> = spare.collect();
        spare.sort_unstable_by_key(|(spare, _)| (Reverse(spare.distance.unwrap_or(u64::MAX)), spare.number));
        for (spare, flight) in spare.into_iter().take(usize::try_from(segments).unwrap_or(usize::MAX)) {
            flight.let_go(spare.number);
        }
        self.hot.settle().await;
    }
}

fn length(number: u64, size: u64) -> u64 {
    let range = segment(number, size);
    range.end - range.start
}
