//! One object on its way from the object store to all who read it now.
//!
//! Its segments are fetched by tasks that belong to no reader: whoever needs a segment first starts one, everybody waits
//! for the same, and a client that hangs up stops nothing. What has come is held while somebody still needs it and memory
//! allows. Where it does not, those who keep pace move together (docs/adr/0015): what one of them is about to read stays,
//! and whoever is ahead waits for memory. A slow reader keeps nobody back: what it needs again is fetched again.

use super::readers::Readers;
use crate::{ObjectKey, hot::segment_of};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// How many segments are fetched ahead of a reader at first, and at most: doubled each time that one has to wait, so that
/// one whose client is slow holds little.
const AHEAD_AT_FIRST: u64 = 1;
/// Six requests at a time carry from S3 what a fast reader takes, where two come to less than twice one connection
/// (docs/adr/0015). How much of it there is memory for says [`super::room::Room::most_ahead`].
const AHEAD_AT_MOST: u64 = 48;
/// From here on it is not doubled, but grows by a little: one that waited a few times only while it began does not hold all
/// of that.
const AHEAD_SOON: u64 = 16;
const AHEAD_MORE: u64 = 4;

/// Why a segment did not come.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// There is no such object, or it is shorter.
    Lost,
    /// The store failed.
    Failed(String),
    /// There was no memory for it, or no turn at the store.
    NoRoom,
}

/// What a segment came to.
pub(super) type Landed = Result<Bytes, Failure>;

/// What becomes of a segment.
#[derive(Debug, Clone)]
pub(super) enum Landing {
    /// It waits for memory, or for its turn at the store.
    Waiting,
    /// The store is asked for it.
    Asked,
    /// It is there, or will not come.
    Landed(Landed),
}

/// An object that somebody reads.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) key: ObjectKey,
    pub(super) size: u64,
    /// Whether its bytes pass the caches by: those that read an object in this way, and those that do not, share nothing.
    pub(super) is_straight: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    slots: BTreeMap<u64, Slot>,
    readers: Readers,
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

/// A segment that is held, and that nobody who keeps pace is about to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) number: u64,
    /// How many segments its next reader is away; none if nobody needs it.
    pub(super) distance: Option<u64>,
}

impl Flight {
    pub(super) fn new(key: ObjectKey, size: u64, is_straight: bool) -> Self {
        let state =
            State { slots: BTreeMap::new(), readers: Readers::default(), ahead: AHEAD_AT_FIRST, is_admitted: false };
        Self { key, size, is_straight, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader of these bytes joins; answers its number.
    pub(super) fn join(&self, bytes: &Range<u64>, is_admitted: bool) -> u64 {
        let mut state = self.state();
        state.is_admitted |= is_admitted;
        state.readers.join(segments_of(bytes))
    }

    pub(super) fn leave(&self, reader: u64, is_short: bool) {
        let mut state = self.state();
        state.readers.leave(reader);
        state.forget_passed(is_short);
    }

    /// Whether anybody reads it.
    pub(super) fn is_wanted(&self) -> bool {
        self.state().readers.count() > 0
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.state().is_admitted
    }

    /// The reader has sent on what it was given, and needs this segment now. Where memory is short, what all have passed is
    /// let go of. Answers how long the segment before took the reader, where it is through with that.
    pub(super) fn arrive(&self, reader: u64, number: u64, is_short: bool) -> Option<Duration> {
        let mut state = self.state();
        let took = state.readers.arrive(reader, number);
        state.forget_passed(is_short);
        took
    }

    /// Whether this reader takes longer than that for a segment.
    pub(super) fn is_slow(&self, reader: u64, slow_after: Duration) -> bool {
        self.state().readers.is_slow(reader, slow_after)
    }

    /// There is no memory for what this reader needs: it makes do with little for some segments.
    pub(super) fn leave_behind(&self, reader: u64) {
        self.state().readers.leave_behind(reader);
    }

    /// What there is of a segment that a reader needs now. One that has to wait makes us fetch further ahead.
    pub(super) fn step(&self, number: u64) -> Step {
        let mut state = self.state();
        let step = match state.slots.get(&number) {
            Some(Slot::There(bytes)) => return Step::There(bytes.clone()),
            Some(Slot::Coming(landing)) => Step::Coming(landing.clone()),
            None => Step::Missing,
        };
        let more = if state.ahead < AHEAD_SOON { state.ahead } else { AHEAD_MORE };
        state.ahead = (state.ahead + more).min(AHEAD_AT_MOST);
        step
    }

    /// This reader is given something, after which it will need this segment.
    pub(super) fn hand(&self, reader: u64, next: u64) {
        self.state().readers.hand(reader, next);
    }

    /// What is worth fetching now for this reader, `most` segments at a time and not further ahead than `reach`: its next
    /// segment where nobody has asked for it, and those ahead once they are worth a request.
    pub(super) fn next_run(&self, reader: u64, number: u64, most: u64, reach: u64) -> Option<Run> {
        let state = self.state();
        let ahead = state.ahead.min(reach);
        let needed_end = state.readers.end(reader).unwrap_or(number + 1);
        let end = (number + 1 + ahead).min(needed_end);
        let first = (number..end).find(|number| !state.slots.contains_key(number))?;
        let last = (first..end).find(|number| state.slots.contains_key(number)).unwrap_or(end);
        let run = first..last.min(first + most);
        let is_worth_it =
            first == number || run.end == needed_end || run.end - run.start >= ahead.div_ceil(2).min(most);
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
            let (sender, receiver) = watch::channel(Landing::Waiting);
            state.slots.insert(number, Slot::Coming(receiver));
            senders.push(sender);
        }
        senders
    }

    /// A segment has come. It is held if somebody will need it; where memory is not short, also for who comes later.
    pub(super) fn land(&self, number: u64, bytes: &Bytes, is_short: bool) {
        let mut state = self.state();
        let may_be_needed = state.readers.count() > 1 && !is_short;
        if may_be_needed || state.readers.distance(number).is_some() {
            state.slots.insert(number, Slot::There(bytes.clone()));
        } else {
            state.slots.remove(&number);
        }
    }

    /// A segment will not come: whoever needs it asks again.
    pub(super) fn give_up(&self, number: u64) {
        self.state().slots.remove(&number);
    }

    /// What may be let go of, where a reader that takes longer than that for a segment is slow. What a reader that keeps
    /// pace is about to read may not be: as far as it is there without a gap from where the reader is. (Beyond a gap it
    /// may: to fill that takes memory.)
    pub(super) fn spare(&self, slow_after: Duration) -> Vec<Spare> {
        let state = self.state();
        let reach_of = state.readers.reach_of_fast(slow_after);
        let mut spare = Vec::new();
        let (mut reach, mut next) = (0, 0);
        for (&number, slot) in &state.slots {
            if !matches!(slot, Slot::There(_)) {
                continue;
            }
            if number != next {
                reach = 0;
            }
            next = number + 1;
            reach = reach.max(reach_of.get(&number).copied().unwrap_or_default());
            if number >= reach {
                spare.push(Spare { number, distance: state.readers.distance(number) });
            }
        }
        spare
    }

    /// Lets go of all segments that are held.
    pub(super) fn let_go_of_all(&self) {
        self.state().slots.retain(|_, slot| matches!(slot, Slot::Coming(_)));
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
    /// One reader alone, or none, holds nothing that it has passed; nor do several where memory is short.
    fn forget_passed(&mut self, is_short: bool) {
        if self.readers.count() < 2 {
            let needed = self.readers.any().unwrap_or_default();
            self.slots.retain(|number, slot| matches!(slot, Slot::Coming(_)) || needed.contains(number));
        } else if is_short {
            let first = self.readers.first();
            while let Some(slot) = self.slots.first_entry() {
                if *slot.key() >= first || matches!(slot.get(), Slot::Coming(_)) {
                    break;
                }
                slot.remove();
            }
        }
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

    const RUN: u64 = 8;
    /// Further than anything is fetched ahead.
    const FAR: u64 = 1000;
    const SLOW: Duration = Duration::from_secs(1);

    fn flight(segments: u64) -> Flight {
        Flight::new(ObjectKey::random(), segments * MIB, false)
    }

    fn all(flight: &Flight) -> u64 {
        flight.join(&(0..flight.size), false)
    }

    fn arrive(flight: &Flight, run: Run) {
        assert_eq!(flight.begin(run.clone()).len() as u64, run.end - run.start);
        for number in run {
            flight.land(number, &Bytes::from_static(b"segment"), false);
        }
    }

    fn held(flight: &Flight) -> Vec<u64> {
        let state = flight.state();
        let held = state.slots.iter().filter(|(_, slot)| matches!(slot, Slot::There(_)));
        held.map(|(number, _)| *number).collect()
    }

    fn spare(flight: &Flight) -> Vec<(u64, Option<u64>)> {
        flight.spare(SLOW).into_iter().map(|spare| (spare.number, spare.distance)).collect()
    }

    #[test]
    fn a_reader_that_waits_is_read_ahead_for_and_one_that_does_not_is_not() {
        let flight = flight(100);
        let reader = all(&flight);
        assert!(matches!(flight.step(0), Step::Missing));
        assert_eq!(flight.next_run(reader, 0, RUN, FAR), Some(0..3));
        arrive(&flight, 0..3);
        assert!(matches!(flight.step(0), Step::There(_)));
        assert_eq!(flight.next_run(reader, 0, RUN, FAR), None, "all of it is there");
        assert!(matches!(flight.step(1), Step::There(_)));
        assert_eq!(flight.next_run(reader, 1, RUN, FAR), Some(3..4), "half of what is fetched ahead");
        // It waits again and again: up to the most.
        for number in 10..30 {
            assert!(matches!(flight.step(number), Step::Missing));
        }
        assert_eq!(flight.next_run(reader, 30, 2, FAR), Some(30..32), "where there is little memory");
        for begin in (30..78).step_by(RUN as usize) {
            let run = begin..begin + RUN;
            assert_eq!(flight.next_run(reader, 30, RUN, FAR), Some(run.clone()));
            assert_eq!(flight.begin(run.clone()).len() as u64, run.end - run.start);
            if begin == 38 {
                assert_eq!(flight.next_run(reader, 30, RUN, RUN), None, "where others need memory as well");
            }
        }
        assert_eq!(flight.next_run(reader, 30, RUN, FAR), None);
    }

    #[test]
    fn nothing_is_fetched_beyond_the_range() {
        let flight = flight(100);
        let reader = flight.join(&(5 * MIB + 1..6 * MIB + 1), false);
        flight.step(5);
        assert_eq!(flight.next_run(reader, 5, RUN, FAR), Some(5..7));
    }

    #[test]
    fn two_who_need_the_same_fetch_it_once() {
        let flight = flight(8);
        let (first, _second) = (all(&flight), all(&flight));
        assert!(matches!(flight.step(0), Step::Missing));
        let run = flight.next_run(first, 0, RUN, FAR).unwrap();
        let senders = flight.begin(run.clone());
        assert_eq!(senders.len() as u64, run.end - run.start);
        assert!(matches!(flight.step(0), Step::Coming(_)));
        assert!(flight.begin(run).is_empty(), "somebody has begun it");
    }

    #[test]
    fn one_alone_holds_nothing_that_it_has_passed_and_two_hold_it_for_who_comes_later() {
        let flight = flight(8);
        let first = all(&flight);
        arrive(&flight, 0..4);
        flight.arrive(first, 3, false);
        assert_eq!(held(&flight), [3]);
        let second = all(&flight);
        arrive(&flight, 0..3);
        flight.arrive(second, 2, false);
        assert_eq!(held(&flight), [0, 1, 2, 3]);
        flight.leave(second, false);
        assert_eq!(held(&flight), [3]);
    }

    #[test]
    fn where_memory_is_short_nothing_is_held_that_all_have_passed() {
        let flight = flight(8);
        let (first, second) = (all(&flight), all(&flight));
        arrive(&flight, 0..8);
        flight.arrive(first, 5, true);
        assert_eq!(held(&flight).len(), 8);
        flight.arrive(second, 3, true);
        assert_eq!(held(&flight), [3, 4, 5, 6, 7]);
        assert!(matches!(flight.step(1), Step::Missing));
        flight.land(1, &Bytes::from_static(b"late"), true);
        assert_eq!(held(&flight), [3, 4, 5, 6, 7], "nobody needs it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_those_who_keep_pace_are_about_to_read_is_not_spared() {
        let flight = flight(8);
        let (first, second) = (all(&flight), all(&flight));
        let ends_early = flight.join(&(0..6 * MIB), false);
        arrive(&flight, 0..8);
        for (reader, at) in [(first, 4), (second, 1), (ends_early, 5)] {
            flight.hand(reader, at);
        }
        assert_eq!(spare(&flight), [(0, None)]);
        // One falls behind, the others wait: what only it needs may go.
        flight.arrive(first, 4, false);
        flight.arrive(ends_early, 5, false);
        tokio::time::advance(SLOW * 7).await;
        assert!(flight.is_slow(second, SLOW));
        assert!(!flight.is_slow(second, SLOW * 3));
        assert_eq!(spare(&flight), [(0, None), (1, Some(0)), (2, Some(1)), (3, Some(2))]);
        flight.let_go(3);
        assert_eq!(held(&flight), [0, 1, 2, 4, 5, 6, 7]);
    }

    #[test]
    fn what_lies_beyond_a_gap_is_spared() {
        let flight = flight(8);
        let (_first, second) = (all(&flight), all(&flight));
        arrive(&flight, 0..2);
        arrive(&flight, 3..6);
        assert_eq!(spare(&flight), [(3, Some(3)), (4, Some(4)), (5, Some(5))]);
        flight.hand(second, 4);
        assert_eq!(spare(&flight), [(3, Some(3))]);
        assert_eq!(flight.begin(2..3).len(), 1);
        assert_eq!(spare(&flight), [(3, Some(3))], "that it is on its way says nothing about when it comes");
    }
}
