//! One object on its way from the object store to all who read it now.
//!
//! Its segments are fetched by tasks that belong to no reader: whoever needs a segment first starts one, everybody waits
//! for the same, and a client that hangs up stops nothing. What has come is held while somebody still needs it and memory
//! allows; a slow reader keeps nobody back, for what it needs again is fetched again.

use crate::{ObjectKey, hot::segment_of};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// How many segments are fetched ahead of a reader at first, and at most: doubled each time that one has to wait, so that
/// one whose client is slow holds little.
const AHEAD_AT_FIRST: u64 = 1;
const AHEAD_AT_MOST: u64 = 16;
/// Segments that are fetched by one request at most.
const RUN: u64 = 8;

/// Why a segment did not come.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// There is no such object, or it is shorter.
    Lost,
    /// The store failed.
    Failed(String),
}

/// What becomes of a segment; none while it is on its way.
pub(super) type Landing = Option<Result<Bytes, Failure>>;

/// An object that somebody reads.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) key: ObjectKey,
    pub(super) size: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    slots: BTreeMap<u64, Slot>,
    /// The segments that each reader still needs.
    readers: HashMap<u64, Range<u64>>,
    next_reader: u64,
    ahead: u64,
    /// Whether what comes is kept in the hot cache.
    is_admitted: bool,
}

#[derive(Debug)]
enum Slot {
    Coming(watch::Receiver<Landing>),
    There(Bytes),
}

/// What a reader finds of its next segment.
#[derive(Debug)]
pub(super) enum Step {
    There(Bytes),
    Coming(watch::Receiver<Landing>),
    /// Nobody has asked for it.
    Missing,
}

/// Segments next to each other that nobody has asked for.
pub(super) type Run = Range<u64>;

impl Flight {
    pub(super) fn new(key: ObjectKey, size: u64) -> Self {
        let state = State {
            slots: BTreeMap::new(),
            readers: HashMap::new(),
            next_reader: 0,
            ahead: AHEAD_AT_FIRST,
            is_admitted: false,
        };
        Self { key, size, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader of these bytes joins; answers its number.
    pub(super) fn join(&self, bytes: &Range<u64>, is_admitted: bool) -> u64 {
        let mut state = self.state();
        let reader = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(reader, segments_of(bytes));
        state.is_admitted |= is_admitted;
        reader
    }

    pub(super) fn leave(&self, reader: u64) {
        let mut state = self.state();
        state.readers.remove(&reader);
        state.forget_passed();
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.state().is_admitted
    }

    /// What there is of the next segment of this reader, which needs all before it no more. One that has to wait makes us
    /// fetch further ahead.
    pub(super) fn step(&self, reader: u64, number: u64) -> Step {
        let mut state = self.state();
        state.pass(reader, number);
        let step = match state.slots.get(&number) {
            Some(Slot::There(bytes)) => return Step::There(bytes.clone()),
            Some(Slot::Coming(landing)) => Step::Coming(landing.clone()),
            None => Step::Missing,
        };
        state.ahead = (state.ahead * 2).min(AHEAD_AT_MOST);
        step
    }

    /// This reader needs what comes before the segment no more.
    pub(super) fn pass(&self, reader: u64, number: u64) {
        self.state().pass(reader, number);
    }

    /// What is worth fetching now for this reader: its next segment where nobody has asked for it, and those ahead once
    /// they are worth a request.
    pub(super) fn next_run(&self, reader: u64, number: u64) -> Option<Run> {
        let state = self.state();
        let needed_end = state.readers.get(&reader).map_or(number + 1, |needed| needed.end);
        let end = (number + 1 + state.ahead).min(needed_end);
        let first = (number..end).find(|number| !state.slots.contains_key(number))?;
        let last = (first..end).find(|number| state.slots.contains_key(number)).unwrap_or(end);
        let run = first..last.min(first + RUN);
        let is_worth_it =
            first == number || run.end == needed_end || run.end - run.start >= state.ahead.div_ceil(2).min(RUN);
        is_worth_it.then_some(run)
    }

    /// Begins to fetch the segments of a run that nobody has begun in between: their senders, in order. They end where
    /// somebody has.
    pub(super) fn begin(&self, run: Run) -> Vec<watch::Sender<Landing>> {
        let mut state = self.state();
        let mut senders = Vec::new();
        for number in run {
            if state.slots.contains_key(&number) {
                break;
            }
            let (sender, receiver) = watch::channel(None);
            state.slots.insert(number, Slot::Coming(receiver));
            senders.push(sender);
        }
        senders
    }

    /// A segment has come. It is held if somebody will need it.
    pub(super) fn land(&self, number: u64, bytes: &Bytes) {
        let mut state = self.state();
        if state.readers.len() > 1 || state.distance(number).is_some() {
            state.slots.insert(number, Slot::There(bytes.clone()));
        } else {
            state.slots.remove(&number);
        }
    }

    /// A segment will not come: whoever needs it asks again.
    pub(super) fn give_up(&self, number: u64) {
        self.state().slots.remove(&number);
    }

    /// The segments that are held, each with how many segments the next reader of it is away; none if nobody needs it.
    pub(super) fn held(&self) -> Vec<(u64, Option<u64>)> {
        let state = self.state();
        let held = state.slots.iter().filter(|(_, slot)| matches!(slot, Slot::There(_)));
        held.map(|(number, _)| (*number, state.distance(*number))).collect()
    }

    /// Lets go of a segment that is held.
    pub(super) fn let_go(&self, number: u64) {
        let mut state = self.state();
        if matches!(state.slots.get(&number), Some(Slot::There(_))) {
            state.slots.remove(&number);
        }
    }
}

impl State {
    fn distance(&self, number: u64) -> Option<u64> {
        self.readers.values().filter(|needed| needed.contains(&number)).map(|needed| number - needed.start).min()
    }

    fn pass(&mut self, reader: u64, number: u64) {
        if let Some(needed) = self.readers.get_mut(&reader) {
            needed.start = number;
        }
        self.forget_passed();
    }

    /// One reader alone, or none, holds nothing that it has passed.
    fn forget_passed(&mut self) {
        let needed = match self.readers.len() {
            0 => 0..0,
            1 => self.readers.values().next().cloned().unwrap_or_default(),
            _ => return,
        };
        self.slots.retain(|number, slot| matches!(slot, Slot::Coming(_)) || needed.contains(number));
    }
}

/// The segments that these bytes lie in.
fn segments_of(bytes: &Range<u64>) -> Range<u64> {
    if bytes.is_empty() { 0..0 } else { segment_of(bytes.start)..segment_of(bytes.end - 1) + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hot::SEGMENT as MIB;

    fn flight(segments: u64) -> Flight {
        Flight::new(ObjectKey::random(), segments * MIB)
    }

    fn arrive(flight: &Flight, run: Run) {
        assert_eq!(flight.begin(run.clone()).len() as u64, run.end - run.start);
        for number in run {
            flight.land(number, &Bytes::from_static(b"segment"));
        }
    }

    #[test]
    fn a_reader_that_waits_is_read_ahead_for_and_one_that_does_not_is_not() {
        let flight = flight(100);
        let reader = flight.join(&(0..100 * MIB), false);
        assert!(matches!(flight.step(reader, 0), Step::Missing));
        assert_eq!(flight.next_run(reader, 0), Some(0..3));
        arrive(&flight, 0..3);
        assert!(matches!(flight.step(reader, 0), Step::There(_)));
        assert_eq!(flight.next_run(reader, 0), None, "all of it is there");
        assert!(matches!(flight.step(reader, 1), Step::There(_)));
        assert_eq!(flight.next_run(reader, 1), Some(3..4), "half of what is fetched ahead");
        // It waits again and again: up to the most.
        for number in 10..20 {
            assert!(matches!(flight.step(reader, number), Step::Missing));
        }
        assert_eq!(flight.next_run(reader, 20), Some(20..28));
        arrive(&flight, 20..28);
        assert_eq!(flight.next_run(reader, 20), Some(28..36));
    }

    #[test]
    fn nothing_is_fetched_beyond_the_range() {
        let flight = flight(100);
        let reader = flight.join(&(5 * MIB + 1..6 * MIB + 1), false);
        flight.step(reader, 5);
        assert_eq!(flight.next_run(reader, 5), Some(5..7));
    }

    #[test]
    fn two_who_need_the_same_fetch_it_once() {
        let flight = flight(8);
        let first = flight.join(&(0..8 * MIB), false);
        let second = flight.join(&(0..8 * MIB), false);
        assert!(matches!(flight.step(first, 0), Step::Missing));
        let run = flight.next_run(first, 0).unwrap();
        let senders = flight.begin(run.clone());
        assert_eq!(senders.len() as u64, run.end - run.start);
        assert!(matches!(flight.step(second, 0), Step::Coming(_)));
        assert!(flight.begin(run).is_empty(), "somebody has begun it");
    }

    #[test]
    fn one_alone_holds_nothing_that_it_has_passed_and_two_hold_it_for_who_comes_later() {
        let flight = flight(8);
        let first = flight.join(&(0..8 * MIB), false);
        arrive(&flight, 0..4);
        flight.step(first, 3);
        assert_eq!(flight.held(), [(3, Some(0))]);
        let second = flight.join(&(0..8 * MIB), false);
        arrive(&flight, 0..3);
        flight.step(second, 2);
        assert_eq!(flight.held(), [(0, None), (1, None), (2, Some(0)), (3, Some(0))]);
        flight.let_go(0);
        assert!(matches!(flight.step(second, 0), Step::Missing));
        flight.leave(second);
        assert_eq!(flight.held(), [(3, Some(0))]);
    }

    #[test]
    fn a_segment_is_as_far_as_its_next_reader() {
        let flight = flight(8);
        let readers: Vec<u64> = (0..2).map(|_| flight.join(&(0..8 * MIB), false)).collect();
        let ends_early = flight.join(&(0..6 * MIB), false);
        arrive(&flight, 0..8);
        for (reader, at) in [(readers[0], 1), (readers[1], 4), (ends_early, 5)] {
            flight.step(reader, at);
        }
        let distances: Vec<_> = flight.held().into_iter().map(|(_, distance)| distance).collect();
        assert_eq!(distances, [None, Some(0), Some(1), Some(2), Some(0), Some(0), Some(2), Some(3)]);
    }
}
