//! Which segments are on the disk, and which go when room is needed: S3-FIFO, in bytes.
//!
//! What comes new is on probation, in a queue that has a tenth of the room once all of it is taken. What nobody has read
//! again when it comes to the head of that queue goes; what somebody has gets into the main queue. There each
//! read is one more round. What went from probation and comes once more, while it is remembered, is not put on
//! probation again. So a large layer that is pulled once pushes out nothing but what is on probation.
//!
//! Nothing here touches the disk. What is to go is named, and counts as on its way until [`Index::gone`]: nobody writes a
//! file that somebody else is about to remove.

use super::{
    ghost::Ghost,
    segment::{SegmentId, Stored},
};
use std::collections::{HashMap, VecDeque};

/// A segment counts for so many bytes at least: that bounds how many there are, and so the memory of this index.
pub(super) const LEAST_WEIGHT: u64 = 64 * 1024;
/// What file systems give to files in.
const BLOCK: u64 = 4 * 1024;
/// The part of the room that is for probation.
const PROBATION: u64 = 10;
/// Reads that are counted.
const MOST_READS: u8 = 3;
/// So many in a row get one more round before one has to go all the same: nobody waits for longer.
const MOST_ROUNDS: usize = 1024;
/// Places in a queue of segments that have left it, beside as many as are in it.
const STALE: usize = 1024;

/// What is on the disk.
#[derive(Debug)]
pub(super) struct Index {
    entries: HashMap<SegmentId, Entry>,
    probation: Queue,
    main: Queue,
    ghost: Ghost,
    /// What all that is there or coming counts for.
    bytes: u64,
    capacity: u64,
    next_place: u32,
}

#[derive(Debug)]
struct Entry {
    checksum: u64,
    length: u32,
    /// Its place in its queue: any other of the same segment is stale.
    place: u32,
    state: State,
    reads: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is being written, and will be put in a queue.
    Coming {
        to_main: bool,
    },
    OnProbation,
    InMain,
    /// Its file is being removed.
    Going,
}

/// Segments in the order that they came.
#[derive(Debug, Default)]
struct Queue {
    places: VecDeque<(SegmentId, u32)>,
    bytes: u64,
    segments: usize,
}

/// Whether there is room for a segment, once those that have to go are removed.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) is_admitted: bool,
    pub(super) victims: Vec<Stored>,
}

impl Index {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            entries: HashMap::new(),
            probation: Queue::default(),
            main: Queue::default(),
            ghost: Ghost::default(),
            bytes: 0,
            capacity,
            next_place: 0,
        }
    }

    /// What it takes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Takes up what was found on the disk, the least recently used first. Answers what is to go.
    pub(super) fn load(&mut self, found: Vec<Stored>) -> Vec<Stored> {
        let (mut taken, mut victims) = (Vec::new(), Vec::new());
        for stored in found.into_iter().rev() {
            let weight = weight(stored.length);
            if self.bytes + weight > self.capacity || self.entries.contains_key(&stored.id) {
                victims.push(stored);
                continue;
            }
            self.bytes += weight;
            let state = State::Coming { to_main: true };
            let entry = Entry { checksum: stored.checksum, length: stored.length, place: 0, state, reads: 0 };
            self.entries.insert(stored.id.clone(), entry);
            taken.push(stored.id);
        }
        for id in taken.into_iter().rev() {
            self.enqueue(id, State::InMain);
        }
        victims
    }

    /// Room for a segment that is not there.
    pub(super) fn admit(&mut self, id: &SegmentId, length: u32) -> Admission {
        if self.entries.contains_key(id) {
            return Admission { is_admitted: false, victims: Vec::new() };
        }
        let weight = weight(length);
        let victims = self.make_room(weight);
        let is_admitted = self.bytes + weight <= self.capacity;
        if is_admitted {
            self.bytes += weight;
            let state = State::Coming { to_main: self.ghost.recall(id) };
            self.entries.insert(id.clone(), Entry { checksum: 0, length, place: 0, state, reads: 0 });
        }
        Admission { is_admitted, victims }
    }

    /// Chooses who has to go so that there is room for so many bytes, as far as there is anything that can go.
    pub(super) fn make_room(&mut self, bytes: u64) -> Vec<Stored> {
        let mut victims = Vec::new();
        while self.bytes + bytes > self.capacity {
            match self.next_victim() {
                Some(victim) => victims.push(victim),
                None => break,
            }
        }
        victims
    }

    /// Chooses a sixteenth of all to go, where the file system has less room than we may take.
    pub(super) fn give_back(&mut self) -> Vec<Stored> {
        self.make_room(self.capacity - self.bytes + self.bytes / 16)
    }

    fn next_victim(&mut self) -> Option<Stored> {
        let mut rounds = 0;
        loop {
            let is_over = self.probation.bytes > self.capacity / PROBATION;
            let from = if is_over || self.main.segments == 0 { State::OnProbation } else { State::InMain };
            let id = self.dequeue(from)?;
            let entry = self.entries.get_mut(&id)?;
            if entry.reads > 0 && rounds < MOST_ROUNDS {
                rounds += 1;
                entry.reads = if from == State::InMain { entry.reads - 1 } else { 0 };
                self.enqueue(id, State::InMain);
                continue;
            }
            let stored = Stored { id, length: entry.length, checksum: entry.checksum };
            entry.state = State::Going;
            self.bytes -= weight(stored.length);
            if from == State::OnProbation {
                self.ghost.remember(&stored.id, self.entries.len());
            }
            return Some(stored);
        }
    }

    /// A segment that was admitted is on the disk. Answers whether it is still wanted.
    pub(super) fn arrived(&mut self, stored: &Stored) -> bool {
        let Some(entry) = self.entries.get_mut(&stored.id) else { return false };
        let State::Coming { to_main } = entry.state else { return false };
        entry.checksum = stored.checksum;
        self.enqueue(stored.id.clone(), if to_main { State::InMain } else { State::OnProbation });
        true
    }

    /// The file of a segment that was admitted, was to go or was removed is not there (any more).
    pub(super) fn gone(&mut self, id: &SegmentId) {
        match self.entries.get(id).map(|entry| (entry.state, entry.length)) {
            Some((State::Coming { .. }, length)) => self.bytes -= weight(length),
            Some((State::Going, _)) => {}
            Some((State::OnProbation | State::InMain, _)) | None => return,
        }
        self.entries.remove(id);
    }

    /// Whether a segment of this length is there.
    pub(super) fn holds(&self, id: &SegmentId, length: u32) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.is_there() && entry.length == length)
    }

    /// A segment of this length, if it is there, for one who reads it.
    pub(super) fn read(&mut self, id: &SegmentId, length: u32) -> Option<Stored> {
        let entry = self.entries.get_mut(id).filter(|entry| entry.is_there() && entry.length == length)?;
        entry.reads = (entry.reads + 1).min(MOST_READS);
        Some(Stored { id: id.clone(), length, checksum: entry.checksum })
    }

    /// A segment was read elsewhere, which shows that it is worth keeping.
    pub(super) fn touch(&mut self, id: &SegmentId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.reads = (entry.reads + 1).min(MOST_READS);
        }
    }

    /// Lets a segment go; its file, if there is one to be removed. What is being written is removed by whoever writes.
    pub(super) fn remove(&mut self, id: &SegmentId) -> Option<Stored> {
        let entry = self.entries.get_mut(id).filter(|entry| entry.state != State::Going)?;
        let before = std::mem::replace(&mut entry.state, State::Going);
        let stored = Stored { id: id.clone(), length: entry.length, checksum: entry.checksum };
        let weight = weight(stored.length);
        self.bytes -= weight;
        let queue = match before {
            State::OnProbation => &mut self.probation,
            State::InMain => &mut self.main,
            State::Coming { .. } | State::Going => return None,
        };
        queue.left(weight);
        queue.tidy(&self.entries);
        Some(stored)
    }

    fn enqueue(&mut self, id: SegmentId, state: State) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.state = state;
        entry.place = self.next_place;
        self.next_place = self.next_place.wrapping_add(1);
        let (place, weight) = (entry.place, weight(entry.length));
        let queue = self.queue(state);
        queue.places.push_back((id, place));
        queue.bytes += weight;
        queue.segments += 1;
    }

    /// Takes the segment that came first out of a queue.
    fn dequeue(&mut self, state: State) -> Option<SegmentId> {
        loop {
            let (id, place) = self.queue(state).places.pop_front()?;
            let entry = self.entries.get(&id).filter(|entry| entry.is_at(place));
            if let Some(weight) = entry.map(|entry| weight(entry.length)) {
                self.queue(state).left(weight);
                return Some(id);
            }
        }
    }

    fn queue(&mut self, state: State) -> &mut Queue {
        if state == State::InMain { &mut self.main } else { &mut self.probation }
    }
}

impl Entry {
    fn is_there(&self) -> bool {
        matches!(self.state, State::OnProbation | State::InMain)
    }

    fn is_at(&self, place: u32) -> bool {
        self.is_there() && self.place == place
    }
}

impl Queue {
    fn left(&mut self, weight: u64) {
        self.bytes -= weight;
        self.segments -= 1;
    }

    /// Drops places of segments that have left, before there are too many of them.
    fn tidy(&mut self, entries: &HashMap<SegmentId, Entry>) {
        if self.places.len() > 2 * self.segments + STALE {
            self.places.retain(|(id, place)| entries.get(id).is_some_and(|entry| entry.is_at(*place)));
        }
    }
}

/// What a segment of this length counts for.
pub(super) fn weight(length: u32) -> u64 {
    u64::from(length).next_multiple_of(BLOCK).max(LEAST_WEIGHT)
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
