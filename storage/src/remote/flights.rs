//! All objects that somebody reads from the object store now.

use super::{
    Backend,
    disk::DiskCache,
    flight::Flight,
    hedge::FirstByte,
    readers::Pace,
    room::{self, Room},
    verify::Verified,
};
use crate::{Error, ObjectKey, hot::HotSegments};
use std::{
    collections::HashMap,
    ops::{Deref, Range},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

/// So many reads are asked of the store at a time: each has buffers that the budget does not count.
const REQUESTS: usize = 128;

/// Reads of one object store.
#[derive(Debug)]
pub(crate) struct Flights {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) hot: HotSegments,
    pub(super) room: Room,
    pub(super) pace: Pace,
    pub(super) first_byte: FirstByte,
    pub(super) disk: Option<DiskCache>,
    pub(super) verified: Verified,
    turns: Semaphore,
    refused: AtomicU64,
    flights: Mutex<HashMap<Name, Known>>,
}

/// By which way a reader gets what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// From the store and nowhere else, and into no cache.
    Straight,
    /// From the caches as far as they hold it, and into them: into memory where the object is admitted there.
    Cached { is_admitted: bool },
}

impl Route {
    pub(super) fn is_admitted(self) -> bool {
        self == Self::Cached { is_admitted: true }
    }
}

/// What those who read together have in common: the object, its size, and whether they pass the caches by. Whoever reads one
/// range only ([`super::RemoteStore::read`]) does not know the object's size, but a smaller one.
type Name = (ObjectKey, u64, bool);

#[derive(Debug)]
struct Known {
    flight: Arc<Flight>,
    holders: usize,
}

impl Flights {
    pub(super) fn new(backend: Arc<dyn Backend>, hot: HotSegments, disk: Option<DiskCache>) -> Self {
        let room = Room::new(&hot);
        let (pace, first_byte) = (Pace::default(), FirstByte::default());
        let (turns, refused) = (Semaphore::new(REQUESTS), AtomicU64::new(0));
        let verified = Verified::default();
        Self { backend, hot, room, pace, first_byte, disk, verified, turns, refused, flights: Mutex::default() }
    }

    /// The right to ask the store for something; none where others keep it busy until then.
    pub(super) async fn turn(&self, until: Instant) -> Option<SemaphorePermit<'_>> {
        timeout_at(until, self.turns.acquire()).await.ok()?.ok()
    }

    /// Drops all of an object from memory and from the disk.
    pub(super) async fn forget(&self, key: &ObjectKey, size: u64) {
        self.hot.forget(key, size).await;
        if let Some(disk) = &self.disk {
            disk.forget(key, size);
        }
    }

    /// Whether as much is asked of the store as may be.
    fn is_busy(&self) -> bool {
        self.turns.available_permits() == 0
    }

    /// Counts a reader for whom there is no room in the end; what it is told.
    pub(super) fn refuse(&self) -> Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Error::ReadersOverloaded
    }

    /// How many readers there was no room for so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Name, Known>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub(super) fn now(&self) -> Vec<Arc<Flight>> {
        self.flights().values().map(|known| known.flight.clone()).collect()
    }

    /// Lets go of what is held of an object for those who read it now by way of the caches.
    pub(super) fn let_go(&self, key: &ObjectKey, size: u64) {
        if let Some(known) = self.flights().get(&(key.clone(), size, false)) {
            known.flight.let_go_of_all();
        }
    }

    /// Joins those who read the object.
    pub(super) fn join(self: &Arc<Self>, key: &ObjectKey, size: u64, bytes: &Range<u64>, route: Route) -> Seat {
        let is_straight = route == Route::Straight;
        let mut flights = self.flights();
        let known = flights
            .entry((key.clone(), size, is_straight))
            .or_insert_with(|| Known { flight: Arc::new(Flight::new(key.clone(), size, is_straight)), holders: 0 });
        known.holders += 1;
        let held = Held { flight: known.flight.clone(), flights: self.clone() };
        drop(flights);
        let reader = held.join(bytes, route.is_admitted());
        Seat { held, reader }
    }
}

/// A flight that somebody needs, be it to read from it or to fetch for it: it is known until the last of them goes.
#[derive(Debug)]
pub(super) struct Held {
    flight: Arc<Flight>,
    pub(super) flights: Arc<Flights>,
}

impl Held {
    fn name(&self) -> Name {
        (self.flight.key.clone(), self.flight.size, self.flight.is_straight)
    }

    /// The disk cache, where there is one and it is not passed by.
    pub(super) fn disk(&self) -> Option<&DiskCache> {
        self.flights.disk.as_ref().filter(|_| !self.flight.is_straight)
    }
}

impl Deref for Held {
    type Target = Flight;

    fn deref(&self) -> &Flight {
        &self.flight
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        if let Some(known) = self.flights.flights().get_mut(&self.name()) {
            known.holders += 1;
        }
        Self { flight: self.flight.clone(), flights: self.flights.clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (name, mut flights) = (self.name(), self.flights.flights());
        if let Some(known) = flights.get_mut(&name) {
            known.holders -= 1;
            if known.holders == 0 {
                flights.remove(&name);
            }
        }
    }
}

/// The place of a reader among those of an object.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(super) held: Held,
    reader: u64,
}

impl Seat {
    /// The reader has sent on what it was given, and needs this segment next.
    pub(super) fn arrive(&self, number: u64) {
        if let Some(took) = self.held.arrive(self.reader, number, self.held.flights.room.is_short()) {
            self.held.flights.pace.learn(took);
        }
    }

    /// The reader is given something, and will need this segment next.
    pub(super) fn hand(&self, next: u64) {
        self.held.hand(self.reader, next);
    }

    /// Whether others that read do not wait for this reader where memory is short.
    pub(super) fn is_slow(&self) -> bool {
        self.held.is_slow(self.reader, self.held.flights.pace.slow_after())
    }

    /// There is no memory for what the reader needs: it makes do with little for some segments.
    pub(super) fn leave_behind(&self) {
        self.held.leave_behind(self.reader);
    }

    /// What is worth fetching now for it. A slow reader gets a segment when it needs one: what is fetched ahead of it would be
    /// let go of before it comes there.
    pub(super) fn next_run(&self, number: u64) -> Option<Range<u64>> {
        let is_slow = self.is_slow();
        let flights = &self.held.flights;
        let most = if is_slow { 1 } else { flights.room.most_at_once() };
        // Where others wait for a turn, far ahead would be before them.
        let reach = if flights.is_busy() { room::NEAR } else { flights.room.most_ahead(&flights.hot) };
        self.held.next_run(self.reader, number, most, reach).filter(|run| !is_slow || run.start == number)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.held.leave(self.reader, self.held.flights.room.is_short());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Delivery, RemoteStore, memory_backend};
    use futures_util::{FutureExt, StreamExt};

    const MIB: u64 = 1024 * 1024;

    /// A store with an object of 20 MiB in it.
    async fn place() -> (RemoteStore, ObjectKey) {
        let (backend, key) = (memory_backend(), ObjectKey::random());
        backend.put(&key, vec![vec![7; 20 * MIB as usize].into()]).await.unwrap();
        (RemoteStore::new(backend, 64 * MIB, 0), key)
    }

    /// Lets all other tasks run as far as they come.
    async fn settle(flights: &Flights) {
        for _ in 0..1000 {
            if flights.now().is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_forgotten_when_its_readers_hang_up_while_it_is_fetched() {
        let (store, key) = place().await;
        let mut readers = Vec::new();
        for _ in 0..3 {
            readers.push(store.open_object(&key, 20 * MIB).await.range(0..20 * MIB, Delivery::Copied));
        }
        for reader in &mut readers {
            assert!(
                reader.next().now_or_never().is_none(),
                "the fetch has begun, and had no chance to come to anything"
            );
        }
        assert_eq!(store.flights.now().len(), 1);
        drop(readers);
        assert_eq!(store.flights.now().len(), 1, "it is fetched still");
        settle(&store.flights).await;
        assert!(store.flights.now().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_forgotten_when_its_last_reader_is_through() {
        let (store, key) = place().await;
        let mut whole = store.open_object(&key, 20 * MIB).await.range(0..20 * MIB, Delivery::Copied);
        let mut beginning = store.read(&key, 0..3 * MIB);
        let (mut bytes, mut of_beginning) = (0, 0);
        while let Some(piece) = whole.next().await {
            bytes += piece.unwrap().len() as u64;
            of_beginning += beginning.next().await.map_or(0, |piece| piece.unwrap().len() as u64);
        }
        assert_eq!((bytes, of_beginning), (20 * MIB, 3 * MIB));
        drop((whole, beginning));
        settle(&store.flights).await;
        assert!(store.flights.now().is_empty());
    }
}
