//! How one reader gets the bytes of an object of an object store: a piece after the other, from the hot cache, with all who
//! read the object now, or, where there is no memory for that, a little by itself.

use super::{
    fetch::{self, Answer},
    flight::{Failure, Landed, Landing, Step},
    flights::{Flights, Route, Seat},
    patience::{Deadlines, Patience},
};
use crate::{
    Error, ObjectKey, Result,
    hot::{segment, segment_of},
    read::part,
};
use bytes::Bytes;
use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// What is read at a time where there is no memory for whole segments.
const LEAN: u64 = 128 * 1024;
/// How long any piece may take, whatever it waits for.
const LONGEST: Duration = Duration::from_secs(60);
/// So often a segment is asked for that does not come, nor an error: the fetch had too little memory for it, or died.
const ATTEMPTS: u32 = 16;

/// An object of an object store, for one who reads it.
#[derive(Debug, Clone)]
pub(crate) struct RemoteObject {
    flights: Arc<Flights>,
    key: ObjectKey,
    size: u64,
    route: Route,
    /// How long its reader has waited until it was opened.
    waited: Duration,
    /// The segment in which the last range ended, unless that was its end: the next range may begin in it, as those of a client do
    /// that asks for many chunks of a layer.
    last: Arc<Mutex<Option<(u64, Bytes)>>>,
}

impl RemoteObject {
    pub(super) fn new(flights: Arc<Flights>, key: ObjectKey, size: u64, route: Route, waited: Duration) -> Self {
        Self { flights, key, size, route, waited, last: Arc::default() }
    }

    /// The segment, where the last range ended in it.
    fn left_over(&self, number: u64) -> Option<Bytes> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(last, _)| *last == number).map(|(_, bytes)| bytes.clone())
    }

    /// Keeps a segment in which this range ends for the range that follows, where memory is not short.
    fn leave_over(&self, number: u64, bytes: &Bytes, range: &Range<u64>) {
        let is_worth_it = range.end < segment(number, self.size).end && !self.flights.room.is_short();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = is_worth_it.then(|| (number, bytes.clone()));
    }

    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// The first bytes of a range that is not empty, and the reader's place for those that follow.
    ///
    /// # Errors
    /// [`Error::ReadersOverloaded`] where memory or turns stay used up; [`Error::Backend`] where the store fails or does
    /// not answer; [`Error::Lost`] where it has no such bytes.
    pub(crate) async fn piece(
        &self,
        range: Range<u64>,
        patience: Patience,
        seat: Option<Seat>,
    ) -> Result<(Bytes, Option<Seat>)> {
        let number = segment_of(range.start);
        if let Some(seat) = &seat {
            seat.arrive(number);
        }
        if self.route.is_admitted()
            && let Some(bytes) = self.flights.hot.get(&self.key, number).await
        {
            if seat.is_none()
                && let Some(disk) = &self.flights.disk
            {
                // It has not come for this reader: it is worth having after a restart as well.
                disk.touch(&self.key, number);
            }
            return Ok(self.give(part(&bytes, self.start(number), &range), &range, seat));
        }
        if let Some(bytes) = self.left_over(number) {
            self.leave_over(number, &bytes, &range);
            return Ok(self.give(part(&bytes, self.start(number), &range), &range, seat));
        }
        let seat = seat.unwrap_or_else(|| self.flights.join(&self.key, self.size, &range, self.route));
        let bytes = timeout(LONGEST, self.fetched(&seat, number, &range, patience.deadlines(self.waited))).await;
        let bytes = bytes.map_err(|_| self.failed("nothing of it came for a minute"))??;
        Ok(self.give(bytes, &range, Some(seat)))
    }

    /// Hands these bytes of the beginning of a range to the reader. Where memory is short, a slow one does not keep a
    /// whole segment from the others for what it is about to send of it.
    fn give(&self, mut bytes: Bytes, range: &Range<u64>, seat: Option<Seat>) -> (Bytes, Option<Seat>) {
        let Some(seat) = seat else { return (bytes, None) };
        if self.flights.room.is_short() && bytes.len() as u64 > LEAN && seat.is_slow() {
            bytes.truncate(LEAN as usize);
            if let Some(charge) = self.flights.hot.try_charge(LEAN) {
                bytes = charge.hold(bytes.to_vec());
            }
        }
        seat.hand(segment_of(range.start + bytes.len() as u64));
        (bytes, Some(seat))
    }

    async fn fetched(&self, seat: &Seat, number: u64, range: &Range<u64>, until: Deadlines) -> Result<Bytes> {
        match self.segment(seat, number, until.segment).await? {
            Some(bytes) => {
                self.leave_over(number, &bytes, range);
                Ok(part(&bytes, self.start(number), range))
            }
            None => self.read_lean(range.start..range.end.min(segment(number, self.size).end), until.little).await,
        }
    }

    /// The segment, once it is there; none where there is no memory for it until then.
    async fn segment(&self, seat: &Seat, number: u64, until: Instant) -> Result<Option<Bytes>> {
        let mut attempts = 0;
        loop {
            let step = seat.held.step(number);
            let is_missing = matches!(step, Step::Missing);
            if is_missing && self.flights.room.is_short() && seat.is_slow() {
                return Ok(None);
            }
            if let Some(run) = seat.next_run(number) {
                fetch::begin(&seat.held, run, is_missing);
            }
            match step {
                Step::There(bytes) => return Ok(Some(bytes)),
                Step::Coming(landing) => match landed(landing, until).await {
                    Some(Ok(bytes)) => return Ok(Some(bytes)),
                    Some(Err(Failure::NoRoom)) => {
                        seat.leave_behind();
                        return Ok(None);
                    }
                    Some(Err(Failure::Lost)) => return Err(Error::Lost { key: self.key.clone() }),
                    Some(Err(Failure::Failed(reason))) => return Err(self.failed(&reason)),
                    None => {}
                },
                Step::Missing => attempts += 1,
            }
            if attempts == ATTEMPTS {
                return Err(self.failed("it could not be fetched"));
            }
        }
    }

    /// A little of the object, for one reader only.
    async fn read_lean(&self, range: Range<u64>, until: Instant) -> Result<Bytes> {
        let range = range.start..range.end.min(range.start + LEAN);
        let length = range.end - range.start;
        let flights = &self.flights;
        let charge = flights.hot.charge_within(length, until - Instant::now()).await.ok_or_else(|| flights.refuse())?;
        let _turn = flights.turn(until).await.ok_or_else(|| flights.refuse())?;
        let mut answer = Answer::new(flights.first_byte.read(&*flights.backend, &self.key, range).await?);
        let mut bytes = Vec::with_capacity(length as usize);
        while let Some(piece) = answer.next(&self.key).await? {
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() as u64 == length { Ok(charge.hold(bytes)) } else { Err(Error::Lost { key: self.key.clone() }) }
    }

    fn start(&self, number: u64) -> u64 {
        segment(number, self.size).start
    }

    fn failed(&self, reason: &str) -> Error {
        Error::Backend { key: self.key.clone(), reason: reason.to_owned() }
    }
}

/// What a segment on its way comes to; that there is no room where the store is not asked for it by then. None where nobody
/// fetches it any more.
async fn landed(mut landing: watch::Receiver<Landing>, until: Instant) -> Option<Landed> {
    let is_asked = landing.wait_for(|landing| !matches!(landing, Landing::Waiting));
    match timeout_at(until, is_asked).await.map(|asked| asked.is_ok()) {
        Ok(true) => {}
        Ok(false) => return None,
        Err(_) => return Some(Err(Failure::NoRoom)),
    }
    let landed = landing.wait_for(|landing| matches!(landing, Landing::Landed(_))).await.ok()?;
    match &*landed {
        Landing::Landed(outcome) => Some(outcome.clone()),
        Landing::Waiting | Landing::Asked => None,
    }
}
