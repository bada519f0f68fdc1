//! Whether the caches hold what the digest of an object says (docs/adr/0022).
//!
//! What comes from the store goes to readers and into the caches unseen: to hash it then would cost each first read of a layer
//! as much again. Where a bit has changed on the way the client finds out, and asks again; then it must not come from a cache.
//! So whoever opens an object of which all is in the caches, and which nobody has looked at, waits until it was hashed. Where
//! half of it is there, it is hashed beside.
//!
//! From then on its segments are known by their checksums, which cost next to nothing: one that is fetched anew is let in, and
//! handed on, if it is the same.

use super::{
    RemoteObject,
    flights::{Flights, Route},
    share::Share,
};
use crate::{
    BlobHasher, Delivery, Error, ObjectKey, ObjectReader,
    hot::{SEGMENT, segment},
};
use crc_fast::{CrcAlgorithm::Crc64Nvme, Digest as Crc};
use futures_util::{
    FutureExt, TryStreamExt,
    future::{BoxFuture, Shared},
};
use longshore_oci::Digest;
use moka::{future::Cache, policy::EvictionPolicy};
use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

/// What the checksums of objects take in memory at most: those of half a terabyte in layers of 100 MiB.
const MEMORY: u64 = 8 * 1024 * 1024;
/// What it takes to remember an object, beside its checksums.
const ENTRY: usize = 256;
/// How long a reader waits for an object to be hashed before it goes to the store: as long as a busy store might take to send it,
/// and no longer than 6 GiB take where nothing else is to be done.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_FOR_MIB: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found out of objects in the caches, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedUsage {
    /// Objects that were hashed, and were what their digest says.
    pub objects: u64,
    /// Objects that were not, and were dropped from memory and disk; and segments that came otherwise than they had been.
    pub damaged: u64,
}

/// The checksum of each segment of an object, CRC-64/NVME.
type Checksums = Arc<[u64]>;

/// The end of a hash: whether its readers may be given what the caches hold then.
type Hashed = Shared<BoxFuture<'static, bool>>;

/// Objects that are what their digest says.
#[derive(Debug)]
pub(super) struct Verified {
    checksums: Cache<ObjectKey, Checksums>,
    /// Those that are being hashed.
    begun: Mutex<HashMap<ObjectKey, Hashed>>,
    /// No more objects that readers wait for are hashed at a time than there are processors.
    turns: Arc<Semaphore>,
    /// One is hashed beside: it comes as fast as the store sends it, so nobody waits for its turn to end.
    beside: Arc<Semaphore>,
    objects: AtomicU64,
    damaged: AtomicU64,
}

/// An object, and what it should be.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) key: ObjectKey,
    /// In bytes.
    pub(super) size: u64,
    pub(super) digest: Digest,
    /// Whether it may be kept in memory.
    pub(super) is_admitted: bool,
}

/// Why an object was not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unverified {
    /// It is not what its digest says, and was dropped.
    Damaged,
    /// It could not be read.
    Unread,
}

impl Default for Verified {
    fn default() -> Self {
        let weigh = |_: &ObjectKey, checksums: &Checksums| {
            u32::try_from(ENTRY + size_of_val::<[u64]>(checksums)).unwrap_or(u32::MAX)
        };
        // Whatever was used last stays: by default no large object would be let in for many small ones.
        let checksums = Cache::builder().max_capacity(MEMORY).weigher(weigh).eviction_policy(EvictionPolicy::lru());
        Self {
            checksums: checksums.build(),
            begun: Mutex::default(),
            turns: Arc::new(Semaphore::new(thread::available_parallelism().map_or(1, usize::from))),
            beside: Arc::new(Semaphore::new(1)),
            objects: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
        }
    }
}

impl Verified {
    pub(super) fn usage(&self) -> VerifiedUsage {
        let (objects, damaged) = (self.objects.load(Ordering::Relaxed), self.damaged.load(Ordering::Relaxed));
        VerifiedUsage { objects, damaged }
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<ObjectKey, Hashed>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the segment of that number, as far as anybody knows.
    pub(super) async fn is_right(&self, key: &ObjectKey, number: u64, bytes: &[u8]) -> bool {
        let Some(checksums) = self.checksums.get(key).await else { return true };
        let expected = usize::try_from(number).ok().and_then(|number| checksums.get(number));
        let is_right = expected.is_some_and(|expected| *expected == crc_fast::crc64_nvme(bytes));
        if !is_right {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%key, number, "a segment of an object came damaged: it is asked for again");
        }
        is_right
    }
}

impl Flights {
    /// By which way a reader gets this object: by that of the caches once what they hold was hashed, for which it waits where
    /// all of it is there. What is damaged is dropped, and is fetched anew. From the store where that takes long.
    pub(super) async fn route(self: &Arc<Self>, claim: &Claim) -> Route {
        if self.may_use_caches(claim).await {
            Route::Cached { is_admitted: claim.is_admitted }
        } else {
            Route::Straight
        }
    }

    async fn may_use_caches(self: &Arc<Self>, claim: &Claim) -> bool {
        let is_in_none = !claim.is_admitted && self.disk.is_none();
        if is_in_none || self.verified.checksums.get(&claim.key).await.is_some() {
            return true;
        }
        match self.share(&claim.key, claim.size) {
            Share::Less => true,
            Share::Half => {
                if let Ok(turn) = self.verified.beside.clone().try_acquire_owned() {
                    drop(self.begin(claim, Some(turn)));
                }
                true
            }
            Share::All => timeout(patience(claim.size), self.begin(claim, None)).await.unwrap_or(false),
        }
    }

    /// Hashes an object, unless that was begun: in a task of its own, as whoever hangs up or waits no longer leaves it to those
    /// who come later. Where no turn is given it waits for one.
    fn begin(self: &Arc<Self>, claim: &Claim, turn: Option<OwnedSemaphorePermit>) -> Hashed {
        let mut begun = self.verified.begun();
        if let Some(hashed) = begun.get(&claim.key) {
            return hashed.clone();
        }
        let (flights, claimed) = (self.clone(), claim.clone());
        let hashing = tokio::spawn(async move {
            let hash = flights.hash(&claimed, turn);
            // Whatever becomes of it, the next reader may try again.
            let may_use = AssertUnwindSafe(hash).catch_unwind().await.unwrap_or(Err(Unverified::Unread));
            flights.verified.begun().remove(&claimed.key);
            may_use != Err(Unverified::Unread)
        });
        let hashed = hashing.map(|may_use| may_use.unwrap_or(false)).boxed().shared();
        begun.insert(claim.key.clone(), hashed.clone());
        hashed
    }

    /// Reads all of an object as its readers do, hashes it, and remembers its checksums.
    async fn hash(self: &Arc<Self>, claim: &Claim, turn: Option<OwnedSemaphorePermit>) -> Result<(), Unverified> {
        let Claim { key, size, digest, .. } = claim;
        let turns = self.verified.turns.clone();
        let _turn = match turn {
            // One segment is hashed sooner than the store would answer.
            None if *size > SEGMENT => Some(turns.acquire_owned().await.map_err(|_| Unverified::Unread)?),
            turn => turn,
        };
        if self.verified.checksums.contains_key(key) {
            return Ok(());
        }
        let (hasher, checksums) = self.hash_all(claim).await.map_err(|error| {
            tracing::debug!(%key, %error, "what the caches hold of an object could not be verified");
            Unverified::Unread
        })?;
        if hasher.digest() == *digest {
            self.verified.objects.fetch_add(1, Ordering::Relaxed);
            self.verified.checksums.insert(key.clone(), checksums.into()).await;
            return Ok(());
        }
        self.verified.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%key, %digest, "what the caches held of an object is damaged: it is dropped, and fetched again");
        self.forget(key, *size).await;
        self.let_go(key, *size);
        Err(Unverified::Damaged)
    }

    async fn hash_all(self: &Arc<Self>, claim: &Claim) -> Result<(BlobHasher, Vec<u64>), Error> {
        let route = Route::Cached { is_admitted: claim.is_admitted };
        let object = RemoteObject::new(self.clone(), claim.key.clone(), claim.size, route, Duration::ZERO);
        let reader = ObjectReader::of_remote(object, claim.size, self.hot.clone());
        let mut pieces = reader.range(0..claim.size, Delivery::Copied);
        let mut hashing = Hashing::new(claim.size, &claim.digest);
        while let Some(piece) = pieces.try_next().await? {
            let hashed = spawn_blocking(move || {
                hashing.take(&piece);
                hashing
            });
            hashing = hashed.await.map_err(|_| Error::ShuttingDown)?;
        }
        Ok((hashing.hasher, hashing.checksums))
    }
}

/// How long a reader waits for an object of that size to be hashed.
fn patience(size: u64) -> Duration {
    let for_all = PATIENCE_FOR_MIB.saturating_mul(u32::try_from(size.div_ceil(SEGMENT)).unwrap_or(u32::MAX));
    (LEAST_PATIENCE + for_all).min(PATIENCE)
}

/// The hash of an object, and of its segments.
struct Hashing {
    size: u64,
    at: u64,
    hasher: BlobHasher,
    segment: Crc,
    checksums: Vec<u64>,
}

impl Hashing {
    fn new(size: u64, digest: &Digest) -> Self {
        let hasher = BlobHasher::new(digest.algorithm());
        Self { size, at: 0, hasher, segment: Crc::new(Crc64Nvme), checksums: Vec::new() }
    }

    /// Takes the next bytes, which end with their segment or before.
    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.segment.update(bytes);
        self.at += bytes.len() as u64;
        if self.at == segment(self.checksums.len() as u64, self.size).end {
            self.checksums.push(self.segment.finalize_reset());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RemoteStore, memory_backend};
    use bytes::Bytes;
    use futures_util::future::join_all;
    use longshore_oci::Algorithm;
    use tokio::runtime::Handle;

    const SIZE: u64 = 4 * SEGMENT - 5;

    /// A store, and an object of it that was read once.
    async fn read_once() -> (RemoteStore, Claim) {
        let store = RemoteStore::new(memory_backend(), 64 * SEGMENT, 0);
        let claim = another_read_once(&store, SIZE).await;
        (store, claim)
    }

    async fn another_read_once(store: &RemoteStore, size: u64) -> Claim {
        let (key, whole) = (ObjectKey::random(), vec![7; size as usize]);
        let digest = Digest::of(Algorithm::Sha256, &whole);
        store.backend.put(&key, vec![whole.into()]).await.unwrap();
        let reader = store.open_verified(&key, size, &digest).await;
        let read: Vec<Bytes> = reader.range(0..size, Delivery::Copied).try_collect().await.unwrap();
        assert_eq!(read.concat().len() as u64, size);
        assert_eq!(store.verified_usage().objects, 0, "nothing was hashed on the way");
        Claim { key, size, digest, is_admitted: true }
    }

    /// All turns of those that readers wait for.
    async fn busy(verified: &Verified) -> OwnedSemaphorePermit {
        let all = u32::try_from(verified.turns.available_permits()).unwrap();
        verified.turns.clone().acquire_many_owned(all).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long_and_what_was_begun_comes_to_its_end() {
        let (store, claim) = read_once().await;
        let flights = &store.flights;
        let busy = busy(&flights.verified).await;
        assert!(!flights.may_use_caches(&claim).await, "there is no turn");
        assert!(!flights.verified.checksums.contains_key(&claim.key));
        let tasks = Handle::current().metrics().num_alive_tasks();
        let others: Vec<_> = (0..20).map(|_| flights.may_use_caches(&claim)).collect();
        assert_eq!(join_all(others).await, [false; 20]);
        assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks, "one task waits for a turn, not one for each");
        drop(busy);
        assert!(flights.may_use_caches(&claim).await);
        assert_eq!(flights.verified.checksums.get(&claim.key).await.unwrap().len(), 4);
        assert_eq!(flights.verified.usage(), VerifiedUsage { objects: 1, damaged: 0 }, "it was hashed once");
        assert!(flights.verified.begun().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_small_waits_for_nothing_that_is_large() {
        let (store, _) = read_once().await;
        let claim = another_read_once(&store, SEGMENT).await;
        let _busy = busy(&store.flights.verified).await;
        assert!(store.flights.may_use_caches(&claim).await);
        assert_eq!(store.verified_usage().objects, 1);
        assert_eq!(patience(8 * SEGMENT), Duration::from_millis(1032));
        assert_eq!((patience(1024 * SEGMENT), patience(u64::MAX)), (PATIENCE, PATIENCE));
    }

    #[tokio::test]
    async fn nobody_waits_where_only_half_is_there_and_less_is_not_looked_at() {
        let (store, claim) = read_once().await;
        let flights = &store.flights;
        store.hot.forget(&claim.key, 2 * SEGMENT).await;
        let _busy = busy(&flights.verified).await;
        let beside = flights.verified.beside.clone().try_acquire_owned().unwrap();
        assert_eq!(flights.share(&claim.key, SIZE), Share::Half);
        assert!(flights.may_use_caches(&claim).await);
        assert!(flights.verified.begun().is_empty(), "another one is hashed beside");
        drop(beside);
        assert!(flights.may_use_caches(&claim).await);
        let hashed = flights.verified.begun().get(&claim.key).cloned().unwrap();
        assert!(hashed.await, "it takes no turn from those that readers wait for");
        assert_eq!(flights.verified.usage(), VerifiedUsage { objects: 1, damaged: 0 });

        let (store, claim) = read_once().await;
        store.hot.forget(&claim.key, 3 * SEGMENT).await;
        assert_eq!(store.flights.share(&claim.key, SIZE), Share::Less);
        assert!(store.flights.may_use_caches(&claim).await);
        assert_eq!(store.verified_usage().objects, 0);
    }

    #[tokio::test]
    async fn no_turn_is_taken_from_readers_by_what_is_hashed_beside() {
        let (store, claim) = read_once().await;
        let flights = &store.flights;
        let _beside = flights.verified.beside.clone().try_acquire_owned().unwrap();
        assert!(flights.may_use_caches(&claim).await);
        assert_eq!(flights.verified.usage().objects, 1);
    }

    #[tokio::test]
    async fn a_large_object_is_remembered_though_many_small_ones_were() {
        let (checksums, large) = (Verified::default().checksums, ObjectKey::random());
        for _ in 0..40_000 {
            checksums.insert(ObjectKey::random(), [0].into()).await;
        }
        checksums.run_pending_tasks().await;
        checksums.insert(large.clone(), vec![0; 1_000].into()).await;
        checksums.run_pending_tasks().await;
        assert!(checksums.contains_key(&large));
        assert!(checksums.weighted_size() <= MEMORY);
    }

    #[tokio::test]
    async fn a_segment_is_known_again_by_its_checksum() {
        let (store, claim) = read_once().await;
        let verified = &store.flights.verified;
        assert!(verified.is_right(&claim.key, 3, b"anything").await, "nothing is known of it");
        assert!(store.flights.may_use_caches(&claim).await);
        let mut last = vec![7; SEGMENT as usize - 5];
        assert!(verified.is_right(&claim.key, 3, &last).await);
        last[9] ^= 1;
        assert!(!verified.is_right(&claim.key, 3, &last).await);
        assert!(!verified.is_right(&claim.key, 4, &last).await, "there is no such segment");
        assert_eq!(verified.usage(), VerifiedUsage { objects: 1, damaged: 2 });
    }
}
