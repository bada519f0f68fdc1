//! All objects that somebody reads from the object store now, and the memory that they share.

use super::{
    Backend, fetch,
    flight::{Flight, Landing, Run, Step},
    hedge::FirstByte,
};
use crate::{
    Error, ObjectKey, Result,
    hot::{Charge, HotSegments, segment, segment_of},
    read::part,
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::{
    cmp::Reverse,
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// What is read at a time where there is no memory for whole segments.
const LEAN: u64 = 128 * 1024;
/// So many reads are asked of the store at a time: each has buffers that the budget does not count.
const REQUESTS: usize = 128;
/// How long a reader waits for memory before its client is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads of one object store.
#[derive(Debug)]
pub(crate) struct Flights {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) hot: HotSegments,
    pub(super) first_byte: FirstByte,
    turns: Semaphore,
    flights: Mutex<HashMap<ObjectKey, Weak<Flight>>>,
}

impl Flights {
    pub(super) fn new(backend: Arc<dyn Backend>, hot: HotSegments) -> Self {
        let turns = Semaphore::new(REQUESTS);
        Self { backend, hot, first_byte: FirstByte::default(), turns, flights: Mutex::default() }
    }

    /// The right to ask the store for something.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        self.turns.acquire().await.map_err(|_| Error::ShuttingDown)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<ObjectKey, Weak<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins those who read the object.
    fn join(self: &Arc<Self>, key: &ObjectKey, size: u64, bytes: &Range<u64>, is_admitted: bool) -> Seat {
        let mut flights = self.flights();
        let known = flights.get(key).and_then(Weak::upgrade).filter(|flight| flight.size == size);
        let flight = known.unwrap_or_else(|| {
            let flight = Arc::new(Flight::new(key.clone(), size));
            flights.insert(key.clone(), Arc::downgrade(&flight));
            flight
        });
        let reader = flight.join(bytes, is_admitted);
        Seat { flight, reader, flights: self.clone() }
    }

    /// Lets go of so many held segments: those that nobody needs, then those whose next reader is the farthest away, as
    /// long as it is farther than this.
    async fn make_room(&self, segments: usize, farther_than: u64) {
        let flights: Vec<_> = self.flights().values().filter_map(Weak::upgrade).collect();
        let held = flights.iter().flat_map(|flight| flight.held().into_iter().map(move |held| (flight, held)));
        let mut held: Vec<_> = held
            .map(|(flight, (number, distance))| (distance.unwrap_or(u64::MAX), number, flight))
            .filter(|(distance, ..)| *distance > farther_than)
            .collect();
        held.sort_unstable_by_key(|(distance, number, _)| (Reverse(*distance), *number));
        for (_, number, flight) in held.into_iter().take(segments) {
            flight.let_go(number);
        }
        self.hot.settle().await;
    }

    /// Memory for the first segments of a run. What is fetched ahead pushes nothing out.
    async fn charge(&self, flight: &Flight, run: &Run, is_waited_for: bool) -> Vec<Charge> {
        let take = |numbers: Run| numbers.map_while(|number| self.hot.try_charge(segment_size(number, flight.size)));
        let mut charges: Vec<_> = take(run.clone()).collect();
        if is_waited_for && (charges.len() as u64) < run.end - run.start {
            // What is about to be read is not given up for what is to be read a little later.
            let length = run.end - run.start;
            self.make_room((length - charges.len() as u64) as usize, length).await;
            charges.extend(take(run.start + charges.len() as u64..run.end));
        }
        if is_waited_for && charges.is_empty() {
            self.make_room(1, 0).await;
            charges.extend(take(run.start..run.start + 1));
        }
        charges
    }

    /// Fetches as much of a run as there is memory for; answers whether that is anything.
    async fn fetch(self: &Arc<Self>, flight: &Arc<Flight>, run: Run, is_waited_for: bool) -> bool {
        let charges = self.charge(flight, &run, is_waited_for).await;
        let senders = flight.begin(run.start..run.start + charges.len() as u64);
        let segments: Vec<_> = senders.into_iter().zip(charges).collect();
        let has_begun = !segments.is_empty();
        if has_begun {
            tokio::spawn(fetch::fetch(self.clone(), flight.clone(), run.start, segments));
        }
        has_begun
    }

    /// A little of the object, for one reader only.
    async fn read_lean(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let range = range.start..range.end.min(range.start + LEAN);
        let length = range.end - range.start;
        let charge = self.hot.charge_within(length, PATIENCE).await.ok_or(Error::ReadersOverloaded)?;
        let _turn = self.turn().await?;
        let pieces = self.first_byte.read(&*self.backend, key, range).await?;
        let bytes: Vec<Bytes> = pieces.try_collect().await?;
        let bytes = bytes.concat();
        if bytes.len() as u64 == length { Ok(charge.hold(bytes)) } else { Err(Error::Lost { key: key.clone() }) }
    }
}

/// The place of a reader among those of an object.
#[derive(Debug)]
pub(crate) struct Seat {
    flight: Arc<Flight>,
    reader: u64,
    flights: Arc<Flights>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flight.leave(self.reader);
        let mut flights = self.flights.flights();
        // Those who fetch for it hold it too: whoever comes before they end joins it.
        if Arc::strong_count(&self.flight) == 1 {
            flights.remove(&self.flight.key);
        }
    }
}

/// An object of an object store, for one who reads it.
#[derive(Debug, Clone)]
pub(crate) struct RemoteObject {
    flights: Arc<Flights>,
    key: ObjectKey,
    size: u64,
    is_admitted: bool,
}

impl RemoteObject {
    pub(super) fn new(flights: Arc<Flights>, key: ObjectKey, size: u64, is_admitted: bool) -> Self {
        Self { flights, key, size, is_admitted }
    }

    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// The first bytes of a range that is not empty, and the reader's place for those that follow.
    pub(crate) async fn piece(&self, range: Range<u64>, seat: Option<Seat>) -> Result<(Bytes, Option<Seat>)> {
        let number = segment_of(range.start);
        let start = segment(number, self.size).start;
        if self.is_admitted
            && let Some(bytes) = self.flights.hot.get(&self.key, number).await
        {
            if let Some(seat) = &seat {
                seat.flight.pass(seat.reader, number);
            }
            return Ok((part(&bytes, start, &range), seat));
        }
        let seat = seat.unwrap_or_else(|| self.flights.join(&self.key, self.size, &range, self.is_admitted));
        let bytes = match self.segment(&seat, number).await? {
            Some(bytes) => part(&bytes, start, &range),
            None => {
                self.flights.read_lean(&self.key, range.start..range.end.min(segment(number, self.size).end)).await?
            }
        };
        Ok((bytes, Some(seat)))
    }

    /// The segment, once it is there; none where there is no memory for it.
    async fn segment(&self, seat: &Seat, number: u64) -> Result<Option<Bytes>> {
        let (flights, flight) = (&self.flights, &seat.flight);
        loop {
            let step = flight.step(seat.reader, number);
            let is_missing = matches!(step, Step::Missing);
            if let Some(run) = flight.next_run(seat.reader, number) {
                let has_begun = flights.fetch(flight, run, is_missing).await;
                if is_missing && !has_begun && matches!(flight.step(seat.reader, number), Step::Missing) {
                    return Ok(None);
                }
            }
            match step {
                Step::There(bytes) => return Ok(Some(bytes)),
                Step::Coming(landing) => {
                    if let Some(landed) = self.landed(landing).await? {
                        return Ok(Some(landed));
                    }
                }
                Step::Missing => {}
            }
        }
    }

    /// What a segment on its way comes to; none where nobody fetches it any more.
    async fn landed(&self, mut landing: watch::Receiver<Landing>) -> Result<Option<Bytes>> {
        let Ok(landed) = landing.wait_for(Option::is_some).await else { return Ok(None) };
        match &*landed {
            Some(Ok(bytes)) => Ok(Some(bytes.clone())),
            Some(Err(failure)) => Err(failure.of(&self.key)),
            None => Ok(None),
        }
    }
}

fn segment_size(number: u64, size: u64) -> u64 {
    let range = segment(number, size);
    range.end - range.start
}
