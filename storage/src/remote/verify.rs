//! Whether the caches hold what the digest of an object says (docs/adr/0022).
//!
//! What comes from the store goes to readers and into the caches unseen: to hash it then would cost each first read of a layer
//! as much again. Where a bit has changed on the way the client finds out, and asks again; then it must not come from a cache.
//! So whoever opens an object of which all is in the caches, and which nobody has looked at, waits until it was hashed. Where
//! half of it is there, it is hashed beside.
//!
//! From then on its segments are known by their checksums, which cost next to nothing: one that is fetched anew is let in, and
//! handed on, if it is the same.

use super::{RemoteObject, flights::Flights};
use crate::{
    BlobHasher, Delivery, Error, ObjectKey, ObjectReader,
    hot::{SEGMENT, segment},
};
use crc_fast::{CrcAlgorithm::Crc64Nvme, Digest as Crc};
use futures_util::TryStreamExt;
use longshore_oci::Digest;
use moka::future::Cache;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// What the checksums of objects take in memory at most: those of half a terabyte in layers of 100 MiB.
const MEMORY: u64 = 8 * 1024 * 1024;
/// What it takes to remember an object, beside its checksums.
const ENTRY: usize = 256;
/// How long a reader waits for an object to be hashed before it goes to the store: as long as 6 GiB take, where nothing else is
/// to be done.
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

/// Objects that are what their digest says.
#[derive(Debug)]
pub(super) struct Verified {
    checksums: Cache<ObjectKey, Checksums>,
    /// No more objects are hashed at a time than there are processors.
    turns: Semaphore,
    objects: AtomicU64,
    damaged: AtomicU64,
}

/// Why an object was not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unverified {
    /// It is not what its digest says, and was dropped.
    Damaged,
    /// It could not be read.
    Unread,
}

/// How much of an object is in the caches.
#[derive(Debug, PartialEq, Eq)]
enum Share {
    All,
    Half,
    Less,
}

impl Default for Verified {
    fn default() -> Self {
        let weigh = |_: &ObjectKey, checksums: &Checksums| {
            u32::try_from(ENTRY + size_of_val::<[u64]>(checksums)).unwrap_or(u32::MAX)
        };
        Self {
            checksums: Cache::builder().max_capacity(MEMORY).weigher(weigh).build(),
            turns: Semaphore::new(thread::available_parallelism().map_or(1, usize::from)),
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
    /// Whether a reader of this object may be given what the caches hold of it. Waits until it was hashed where all of it
    /// is there: what is damaged is dropped, and there is nothing to be given. False where that takes long.
    pub(super) async fn may_use_caches(
        self: &Arc<Self>,
        key: &ObjectKey,
        size: u64,
        digest: &Digest,
        is_admitted: bool,
    ) -> bool {
        let is_in_none = !is_admitted && self.disk.is_none();
        if is_in_none || self.verified.checksums.get(key).await.is_some() {
            return true;
        }
        let share = self.share(key, size);
        if share == Share::Less {
            return true;
        }
        let (flights, key, digest) = (self.clone(), key.clone(), *digest);
        // Whoever hangs up or waits no longer leaves it to those who come later.
        let verifying = tokio::spawn(async move {
            let hashing = flights.hash(&key, size, &digest, is_admitted);
            match flights.verified.checksums.try_get_with(key.clone(), hashing).await {
                Ok(_) => true,
                Err(unverified) => *unverified == Unverified::Damaged,
            }
        });
        share == Share::Half || matches!(timeout(PATIENCE, verifying).await, Ok(Ok(true)))
    }

    fn share(&self, key: &ObjectKey, size: u64) -> Share {
        let on_disk =
            |number| self.disk.as_ref().is_some_and(|disk| !disk.held(key, size, number..number + 1).is_empty());
        let all = size.div_ceil(SEGMENT);
        let held = (0..all).filter(|number| self.hot.holds(key, *number) || on_disk(*number)).count() as u64;
        match held {
            held if held == all => Share::All,
            held if held * 2 >= all => Share::Half,
            _ => Share::Less,
        }
    }

    /// Reads all of an object as its readers do, and hashes it.
    async fn hash(
        self: &Arc<Self>,
        key: &ObjectKey,
        size: u64,
        digest: &Digest,
        is_admitted: bool,
    ) -> Result<Checksums, Unverified> {
        let _turn = self.verified.turns.acquire().await.map_err(|_| Unverified::Unread)?;
        let (hasher, checksums) = self.hash_all(key, size, digest, is_admitted).await.map_err(|error| {
            tracing::debug!(%key, %error, "what the caches hold of an object could not be verified");
            Unverified::Unread
        })?;
        if hasher.digest() == *digest {
            self.verified.objects.fetch_add(1, Ordering::Relaxed);
            return Ok(checksums.into());
        }
        self.verified.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%key, %digest, "what the caches held of an object is damaged: it is dropped, and fetched again");
        self.hot.forget(key, size).await;
        if let Some(disk) = &self.disk {
            disk.forget(key, size);
        }
        self.let_go(key, size);
        Err(Unverified::Damaged)
    }

    async fn hash_all(
        self: &Arc<Self>,
        key: &ObjectKey,
        size: u64,
        digest: &Digest,
        is_admitted: bool,
    ) -> Result<(BlobHasher, Vec<u64>), Error> {
        let object = RemoteObject::new(self.clone(), key.clone(), size, is_admitted, Duration::ZERO);
        let mut pieces = ObjectReader::of_remote(object, size, self.hot.clone()).range(0..size, Delivery::Copied);
        let mut hashing = Hashing::new(size, digest);
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
    use longshore_oci::Algorithm;

    const SIZE: u64 = 4 * SEGMENT - 5;

    /// A store, and an object of it that was read once.
    async fn read_once() -> (RemoteStore, ObjectKey, Digest) {
        let (backend, key, whole) = (memory_backend(), ObjectKey::random(), vec![7; SIZE as usize]);
        let digest = Digest::of(Algorithm::Sha256, &whole);
        backend.put(&key, vec![whole.into()]).await.unwrap();
        let store = RemoteStore::new(backend, 64 * SEGMENT, 0);
        let reader = store.open_verified(&key, SIZE, &digest).await;
        let read: Vec<Bytes> = reader.range(0..SIZE, Delivery::Copied).try_collect().await.unwrap();
        assert_eq!(read.concat().len() as u64, SIZE);
        assert_eq!(store.verified_usage().objects, 0, "nothing was hashed on the way");
        (store, key, digest)
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long_and_what_was_begun_comes_to_its_end() {
        let (store, key, digest) = read_once().await;
        let flights = &store.flights;
        let all = u32::try_from(flights.verified.turns.available_permits()).unwrap();
        let busy = flights.verified.turns.acquire_many(all).await.unwrap();
        assert!(!flights.may_use_caches(&key, SIZE, &digest, true).await, "there is no turn");
        assert!(!flights.verified.checksums.contains_key(&key));
        drop(busy);
        assert!(flights.may_use_caches(&key, SIZE, &digest, true).await);
        assert_eq!(flights.verified.checksums.get(&key).await.unwrap().len(), 4);
        assert_eq!(flights.verified.usage(), VerifiedUsage { objects: 1, damaged: 0 }, "it was hashed once");
    }

    #[tokio::test]
    async fn nobody_waits_where_only_half_is_there_and_less_is_not_looked_at() {
        let (store, key, digest) = read_once().await;
        let flights = &store.flights;
        store.hot.forget(&key, 2 * SEGMENT).await;
        let all = u32::try_from(flights.verified.turns.available_permits()).unwrap();
        let busy = flights.verified.turns.acquire_many(all).await.unwrap();
        assert_eq!(flights.share(&key, SIZE), Share::Half);
        assert!(flights.may_use_caches(&key, SIZE, &digest, true).await);
        drop(busy);
        // The one that it has begun, or this one.
        let hashing = flights.hash(&key, SIZE, &digest, true);
        flights.verified.checksums.try_get_with(key.clone(), hashing).await.unwrap();
        assert_eq!(flights.verified.usage(), VerifiedUsage { objects: 1, damaged: 0 });

        let (store, key, digest) = read_once().await;
        store.hot.forget(&key, 3 * SEGMENT).await;
        assert_eq!(store.flights.share(&key, SIZE), Share::Less);
        assert!(store.flights.may_use_caches(&key, SIZE, &digest, true).await);
        assert_eq!(store.verified_usage().objects, 0);
    }

    #[tokio::test]
    async fn a_segment_is_known_again_by_its_checksum() {
        let (store, key, digest) = read_once().await;
        let verified = &store.flights.verified;
        assert!(verified.is_right(&key, 3, b"anything").await, "nothing is known of it");
        assert!(store.flights.may_use_caches(&key, SIZE, &digest, true).await);
        let mut last = vec![7; SEGMENT as usize - 5];
        assert!(verified.is_right(&key, 3, &last).await);
        last[9] ^= 1;
        assert!(!verified.is_right(&key, 3, &last).await);
        assert!(!verified.is_right(&key, 4, &last).await, "there is no such segment");
        assert_eq!(verified.usage(), VerifiedUsage { objects: 1, damaged: 2 });
    }
}
