//! The rungs that a read takes: whichever it is, the bytes are the same, and memory stays within its bound.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::join_all};
use longshore_oci::Algorithm;
use longshore_storage::{BlobHasher, Delivery, FileStore, ObjectKey, ObjectReader};
use tempfile::TempDir;

const MIB: usize = 1024 * 1024;

struct House {
    files: FileStore,
    _folder: TempDir,
}

impl House {
    fn with_cache(bytes: usize) -> Self {
        let folder = TempDir::new().unwrap();
        Self { files: FileStore::open(folder.path(), bytes as u64).unwrap(), _folder: folder }
    }

    async fn put(&self, content: &[u8]) -> ObjectKey {
        let key = ObjectKey::random();
        let mut writer = self.files.create(key.clone(), BlobHasher::new(Algorithm::Sha256), Vec::new()).await.unwrap();
        writer.write(Bytes::copy_from_slice(content)).await.unwrap();
        writer.sync().await.unwrap();
        key
    }

    async fn open(&self, key: &ObjectKey, content: &[u8]) -> ObjectReader {
        self.files.open_object(key, content.len() as u64).await.unwrap()
    }

    async fn get(&self, key: &ObjectKey, content: &[u8], delivery: Delivery) -> Vec<u8> {
        read(&self.open(key, content).await, 0..content.len() as u64, delivery).await
    }
}

async fn read(reader: &ObjectReader, range: std::ops::Range<u64>, delivery: Delivery) -> Vec<u8> {
    let pieces: Vec<Bytes> = reader.range(range, delivery).try_collect().await.unwrap();
    pieces.concat()
}

/// Bytes that differ from place to place.
fn content(length: usize, seed: u64) -> Vec<u8> {
    (0..length as u64).map(|place| (place.wrapping_add(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

#[tokio::test]
async fn every_rung_gives_the_same_bytes() {
    for cache in [0, 2 * MIB, 256 * MIB] {
        let house = House::with_cache(cache);
        for length in [1, 100_000, MIB - 1, MIB, MIB + 1, 9 * MIB + 17] {
            let whole = content(length, cache as u64);
            let key = house.put(&whole).await;
            // The third time it is in the cache where there is room for it.
            for _ in 0..3 {
                for delivery in [Delivery::Copied, Delivery::Mapped] {
                    assert!(house.get(&key, &whole, delivery).await == whole, "{length} bytes, cache {cache}");
                }
            }
            let reader = house.open(&key, &whole).await;
            let (from, to) = (length / 3, length - length / 5);
            assert!(read(&reader, from as u64..to as u64, Delivery::Copied).await == whole[from..to]);
        }
    }
}

#[tokio::test]
async fn small_objects_are_let_in_at_once_and_large_ones_when_they_come_again() {
    let house = House::with_cache(256 * MIB);
    let (small, large) = (content(2 * MIB, 1), content(9 * MIB, 2));
    let (small_key, large_key) = (house.put(&small).await, house.put(&large).await);
    house.get(&small_key, &small, Delivery::Copied).await;
    assert_eq!(house.files.hot_usage().bytes, 2 * MIB as u64);
    house.get(&large_key, &large, Delivery::Copied).await;
    assert_eq!(house.files.hot_usage().bytes, 2 * MIB as u64, "it came once");
    house.get(&large_key, &large, Delivery::Copied).await;
    assert_eq!(house.files.hot_usage().bytes, 11 * MIB as u64);
}

#[tokio::test]
async fn what_the_kernel_can_send_takes_no_memory() {
    let house = House::with_cache(256 * MIB);
    let whole = content(9 * MIB, 1);
    let key = house.put(&whole).await;
    for _ in 0..3 {
        let reader = house.open(&key, &whole).await;
        let pieces: Vec<Bytes> = reader.range(0..whole.len() as u64, Delivery::Mapped).try_collect().await.unwrap();
        for piece in &pieces {
            let part = house.files.mappings().locate(piece).unwrap();
            assert_eq!(part.file.metadata().unwrap().len(), whole.len() as u64);
            assert_eq!(piece, &whole[part.offset as usize..part.offset as usize + piece.len()]);
        }
    }
    assert_eq!(house.files.hot_usage().bytes, 0);
}

#[tokio::test]
async fn what_takes_much_of_the_cache_is_let_in_when_it_comes_a_third_time_and_nothing_that_takes_more_than_half() {
    let house = House::with_cache(8 * MIB);
    let (large, larger) = (content(4 * MIB, 1), content(4 * MIB + 1, 2));
    let (large_key, larger_key) = (house.put(&large).await, house.put(&larger).await);
    for _ in 0..5 {
        house.get(&larger_key, &larger, Delivery::Copied).await;
    }
    assert_eq!(house.files.hot_usage().bytes, 0);
    for expected in [0, 0, 4 * MIB as u64] {
        house.get(&large_key, &large, Delivery::Copied).await;
        assert_eq!(house.files.hot_usage().bytes, expected);
    }
}

#[tokio::test]
async fn a_segment_is_read_once_however_many_wait_for_it() {
    let house = House::with_cache(64 * MIB);
    let whole = content(3 * MIB, 1);
    let key = house.put(&whole).await;
    let readers = join_all((0..100).map(|_| house.get(&key, &whole, Delivery::Copied))).await;
    assert!(readers.iter().all(|read| *read == whole));
    assert_eq!(house.files.hot_usage().segments_read, 3);
}

#[tokio::test]
async fn slow_readers_do_not_take_more_than_the_cache_has() {
    let house = House::with_cache(16 * MIB);
    let mut held = Vec::new();
    for seed in 0..100 {
        let whole = content(MIB, seed);
        let key = house.put(&whole).await;
        let mut stream = house.open(&key, &whole).await.range(0..MIB as u64, Delivery::Copied);
        let first = stream.next().await.unwrap().unwrap();
        assert!(first == whole[..first.len()]);
        assert!(house.files.hot_usage().bytes <= 16 * MIB as u64);
        held.push((first, stream));
    }
    let all: usize = held.iter().map(|(first, _)| first.len()).sum();
    assert!(held.iter().all(|(first, _)| first.len() >= 64 * 1024), "who finds no room gets a small chunk");
    assert!(all <= 16 * MIB + 100 * 64 * 1024, "and no more than that beside what is counted: {all}");
    drop(held);
    assert!(house.files.hot_usage().bytes <= 14 * MIB as u64, "what nobody holds is given back");
}

#[tokio::test]
async fn a_deleted_object_leaves_the_cache() {
    let house = House::with_cache(64 * MIB);
    let whole = content(MIB, 1);
    let key = house.put(&whole).await;
    house.get(&key, &whole, Delivery::Copied).await;
    house.files.delete(&key).await.unwrap();
    assert!(house.files.open_object(&key, MIB as u64).await.is_err());
}
