//! Fetching segments from the disk or the object store, for whoever reads the object when they come.

use super::{
    disk::DiskCache,
    flight::{Failure, Landed, Landing, Run},
    flights::Held,
    room,
};
use crate::{
    Error, ObjectKey,
    hot::{Charge, segment},
    read::ByteStream,
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use std::{collections::VecDeque, pin::pin, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// A store that sends less than a trickle in so long, in the middle of an answer, is asked again for the rest.
const PATIENCE: Duration = Duration::from_secs(20);
/// In bytes: 1 KiB a second. A line of 2 Mbit/s has more for each of the 128 requests that it may be shared by.
const TRICKLE: u64 = 20 * 1024;
/// What nobody waits for any more goes on for so long: it may be wanted soon, or be worth caching.
const UNWANTED: Duration = Duration::from_secs(20);
/// So often, as long as no more than that comes, and with such pauses.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// Begins to fetch segments that follow each other, as far as nobody has begun. Somebody waits for the first of them: it is
/// worth waiting for memory. What is fetched ahead is fetched only if there is some.
pub(super) fn begin(held: &Held, run: Run, is_waited_for: bool) {
    let mut charges = held.flights.charge_now(held, run.clone());
    let is_all = charges.len() as u64 == run.end - run.start;
    if is_waited_for && !is_all {
        // All of it later costs fewer requests than a little now.
        charges.clear();
    }
    let end = if is_waited_for { run.end } else { run.start + charges.len() as u64 };
    let senders = held.begin(run.start..end);
    if !senders.is_empty() {
        tokio::spawn(Coming::new(held.clone(), run.start, senders, charges).fetch());
    }
}

/// Segments still to come, in order. Those that are left when it is dropped are given up: a fetch that ends before its time,
/// be it by a panic, leaves nothing that anybody would wait for.
struct Coming {
    held: Held,
    number: u64,
    senders: VecDeque<watch::Sender<Landing>>,
    charges: VecDeque<Charge>,
    filling: Vec<u8>,
    /// Since when nobody reads the object.
    unwanted: Option<Instant>,
    /// Asked before the store, until it does not give what it should have.
    disk: Option<DiskCache>,
}

impl Coming {
    fn new(held: Held, number: u64, senders: Vec<watch::Sender<Landing>>, charges: Vec<Charge>) -> Self {
        let disk = held.disk().cloned();
        Self {
            held,
            number,
            senders: senders.into(),
            charges: charges.into(),
            filling: Vec::new(),
            unwanted: None,
            disk,
        }
    }

    /// Fetches them once there is memory for them: what is on the disk from there, the rest in one request, or more where it
    /// breaks off.
    async fn fetch(mut self) {
        if let Err(failure) = self.find_room().await {
            return self.fail(&failure);
        }
        let mut attempts = 0;
        loop {
            self.take_from_disk().await;
            if self.senders.is_empty() {
                return;
            }
            let before = self.position();
            let failure = match self.request().await {
                Ok(()) => continue,
                Err(Error::Lost { .. }) => return self.fail(&Failure::Lost),
                Err(Error::ReadersOverloaded) => return self.fail(&Failure::NoRoom),
                Err(error) => Failure::Failed(error.to_string()),
            };
            attempts = if self.position() >= before + TRICKLE { 1 } else { attempts + 1 };
            if attempts >= ATTEMPTS || !self.held.is_wanted() {
                return self.fail(&failure);
            }
            tracing::debug!(key = %self.held.key, ?failure, "the rest of an object is asked for again");
            tokio::time::sleep(PAUSE * attempts).await;
        }
    }

    /// Waits for memory, if it has none yet, and gives up what there is none for.
    async fn find_room(&mut self) -> Result<(), Failure> {
        if self.charges.is_empty() {
            let run = self.number..self.number + self.senders.len() as u64;
            self.charges = self.held.flights.charge(&self.held, run).await.into();
        }
        if self.charges.is_empty() {
            return Err(Failure::NoRoom);
        }
        self.give_up_from(self.charges.len());
        Ok(())
    }

    /// The first byte that has not come.
    fn position(&self) -> u64 {
        segment(self.number, self.held.size).start + self.filling.len() as u64
    }

    /// The first segment that is not ours to fetch.
    fn end(&self) -> u64 {
        self.number + self.senders.len() as u64
    }

    /// Hands on the next segments that are on the disk.
    async fn take_from_disk(&mut self) {
        let Some(disk) = self.disk.clone().filter(|_| self.filling.is_empty()) else { return };
        let (key, size) = (self.held.key.clone(), self.held.size);
        let held = disk.held(&key, size, self.number..self.end());
        let mut segments = pin!(disk.read(&key, size, held.clone()));
        while let Some(bytes) = segments.next().await {
            self.filling = bytes;
            if !self.is_right().await {
                disk.forget(&key, size);
                self.filling = Vec::new();
                break;
            }
            self.land().await;
        }
        if self.number < held.end {
            self.disk = None;
        }
    }

    /// Asks the store for what is missing, up to the next segment that is on the disk.
    async fn request(&mut self) -> Result<(), Error> {
        let (size, later) = (self.held.size, self.number + 1..self.end());
        let held = self.disk.as_ref().and_then(|disk| disk.first_held(&self.held.key, size, later));
        let end = segment(held.unwrap_or(self.end()) - 1, size).end;
        let flights = self.held.flights.clone();
        let turn = flights.turn(Instant::now() + room::PATIENCE).await;
        let _turn = turn.ok_or(Error::ReadersOverloaded)?;
        self.tell_asked();
        let pieces = flights.first_byte.read(&*flights.backend, &self.held.key, self.position()..end).await?;
        let mut answer = Answer::new(pieces);
        while let Some(piece) = answer.next(&self.held.key).await? {
            self.take(&piece).await?;
            if self.is_given_up() {
                return Err(failed(&self.held.key, "nobody waits for it any more"));
            }
        }
        if self.position() >= end { Ok(()) } else { Err(failed(&self.held.key, "its answer broke off")) }
    }

    /// Whether nobody has read the object for so long that what is slow to come is not worth its memory and its turn.
    fn is_given_up(&mut self) -> bool {
        if self.held.is_wanted() {
            self.unwanted = None;
            return false;
        }
        self.unwanted.get_or_insert_with(Instant::now).elapsed() >= UNWANTED
    }

    async fn take(&mut self, mut piece: &[u8]) -> Result<(), Error> {
        while !piece.is_empty() && !self.senders.is_empty() {
            let range = segment(self.number, self.held.size);
            let length = usize::try_from(range.end - range.start).unwrap_or_default();
            if self.filling.capacity() == 0 {
                self.filling = self.held.flights.hot.buffer(length);
            }
            let (taken, left) = piece.split_at(piece.len().min(length - self.filling.len()));
            self.filling.extend_from_slice(taken);
            piece = left;
            if self.filling.len() < length {
                continue;
            }
            if !self.is_right().await {
                self.filling.clear();
                return Err(failed(&self.held.key, "it came damaged"));
            }
            if let Some(bytes) = self.land().await
                && let Some(disk) = self.held.disk()
            {
                disk.offer(&self.held.key, self.number - 1, self.held.size, &bytes);
            }
        }
        Ok(())
    }

    /// Whether a segment that has come is what it must be, as far as that is known. Who passes the caches by wants what the
    /// store has, whatever it is.
    async fn is_right(&self) -> bool {
        let verified = &self.held.flights.verified;
        self.held.is_straight || verified.is_right(&self.held.key, self.number, &self.filling).await
    }

    /// Hands a whole segment to all who wait for it.
    async fn land(&mut self) -> Option<Bytes> {
        let charge = self.charges.pop_front()?;
        let (flights, bytes) = (&self.held.flights, charge.hold(std::mem::take(&mut self.filling)));
        if self.held.is_admitted() {
            flights.hot.keep(&self.held.key, self.number, bytes.clone()).await;
        }
        flights.hot.count();
        self.held.land(self.number, &bytes, flights.room.is_short());
        self.tell(Ok(bytes.clone()));
        Some(bytes)
    }

    /// Tells those who wait that it is up to the store now.
    fn tell_asked(&self) {
        for sender in &self.senders {
            sender.send_replace(Landing::Asked);
        }
    }

    /// Tells those who wait for the next segment what became of it. It is ours to give up until they have been told.
    fn tell(&mut self, outcome: Landed) {
        if let Some(sender) = self.senders.front() {
            sender.send_replace(Landing::Landed(outcome));
        }
        self.senders.pop_front();
        self.number += 1;
    }

    fn fail(mut self, failure: &Failure) {
        while !self.senders.is_empty() {
            self.held.give_up(self.number);
            self.tell(Err(failure.clone()));
        }
    }

    /// Gives up all but so many: whoever waits for one of them asks again.
    fn give_up_from(&mut self, kept: usize) {
        while self.senders.len() > kept {
            self.held.give_up(self.number + self.senders.len() as u64 - 1);
            self.senders.pop_back();
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.give_up_from(0);
    }
}

/// An answer of the store as it comes.
pub(super) struct Answer {
    pieces: ByteStream,
    /// How long its last bytes were waited for, until they are more than a trickle; and how many they are.
    waited: Duration,
    came: u64,
}

impl Answer {
    pub(super) fn new(pieces: ByteStream) -> Self {
        Self { pieces, waited: Duration::ZERO, came: 0 }
    }

    /// The next bytes, unless it falls silent or comes to a trickle.
    pub(super) async fn next(&mut self, key: &ObjectKey) -> Result<Option<Bytes>, Error> {
        let begun = Instant::now();
        let Ok(piece) = timeout(PATIENCE.saturating_sub(self.waited), self.pieces.try_next()).await else {
            return Err(failed(key, if self.came == 0 { "it fell silent" } else { "its answer came to a trickle" }));
        };
        let piece = piece?;
        self.waited += begun.elapsed();
        self.came += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if self.came >= TRICKLE {
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(piece)
    }
}

fn failed(key: &ObjectKey, reason: &str) -> Error {
    Error::Backend { key: key.clone(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        RemoteStore,
        hot::SEGMENT as MIB,
        memory_backend,
        remote::{
            flight::Step,
            flights::{Route, Seat},
        },
    };

    /// A reader of an object of so many segments.
    fn seat(segments: u64) -> Seat {
        let store = RemoteStore::new(memory_backend(), 64 * MIB, 0);
        store.flights.join(
            &ObjectKey::random(),
            segments * MIB,
            &(0..segments * MIB),
            Route::Cached { is_admitted: false },
        )
    }

    #[tokio::test]
    async fn a_fetch_that_dies_anywhere_leaves_nothing_to_wait_for() {
        for landed in 0..3 {
            let seat = seat(3);
            let charges = seat.held.flights.charge_now(&seat.held, 0..3);
            let mut coming = Coming::new(seat.held.clone(), 0, seat.held.begin(0..3), charges);
            for _ in 0..landed {
                coming.take(&[7; MIB as usize]).await.unwrap();
            }
            coming.take(&[7; 5]).await.unwrap();
            let dies = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                // As far as it gets in `land` without telling.
                let charge = coming.charges.pop_front().unwrap();
                coming.held.land(coming.number, &charge.hold(vec![7; MIB as usize]), false);
                std::panic::resume_unwind(Box::new("it dies"));
            }));
            assert!(dies.is_err());
            for number in 0..3 {
                let step = seat.held.step(number);
                match step {
                    Step::There(_) => assert!(number < landed, "{number} after {landed}"),
                    Step::Missing => assert!(number >= landed, "{number} after {landed}"),
                    Step::Coming(_) => panic!("{number} after {landed}: on its way for ever"),
                }
            }
        }
    }
}
