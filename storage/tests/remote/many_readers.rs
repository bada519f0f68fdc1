//! Many readers of many objects, with memory for few of them.

use crate::{MIB, bytes, faulty::Faulty};
use futures_util::{StreamExt, future::join_all};
use longshore_storage::{Backend, Delivery, Error, ObjectKey, RemoteStore, memory_backend};
use std::{sync::Arc, time::Duration};

/// A store with so many MiB to read with, and objects of so many bytes in it.
struct House {
    backend: Arc<Faulty>,
    store: RemoteStore,
    objects: Vec<(ObjectKey, Vec<u8>)>,
}

impl House {
    async fn new(memory: usize, objects: usize, length: usize) -> Self {
        let backend = Faulty::new(memory_backend());
        let mut house =
            Self { store: RemoteStore::new(backend.clone(), (memory * MIB) as u64, 0), backend, objects: Vec::new() };
        for number in 0..objects {
            let (key, mut whole) = (ObjectKey::random(), bytes(length));
            whole[0] = number as u8;
            house.backend.put(&key, vec![whole.clone().into()]).await.unwrap();
            house.objects.push((key, whole));
        }
        house
    }

    /// Bytes that lie in the store.
    fn distinct(&self) -> u64 {
        self.objects.iter().map(|(_, whole)| whole.len() as u64).sum()
    }

    /// Reads all of an object; the client takes a piece each time that the clock has gone on by so much.
    async fn read(&self, number: usize, pace: Duration) -> Result<(), Error> {
        let (key, whole) = &self.objects[number % self.objects.len()];
        let reader = self.store.open_object(key, whole.len() as u64).await;
        let mut stream = reader.range(0..whole.len() as u64, Delivery::Copied);
        let mut at = 0;
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            tokio::time::sleep(pace * piece.len() as u32 / MIB as u32).await;
            assert!(piece[..] == whole[at..at + piece.len()], "at {at}");
            at += piece.len();
            let usage = self.store.hot_usage();
            assert!(usage.bytes <= usage.capacity, "{usage:?}");
        }
        assert_eq!(at, whole.len());
        Ok(())
    }

    /// So many readers at a time, each of the next object.
    async fn crowd(&self, readers: usize, pace: impl Fn(usize) -> Duration) {
        let readers = (0..readers).map(|number| self.read(number, pace(number)));
        for outcome in join_all(readers.collect::<Vec<_>>()).await {
            outcome.unwrap();
        }
    }
}

/// From 1 to 32 ms for each MiB, as if at random.
fn about_the_same(reader: usize) -> Duration {
    Duration::from_millis((reader as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 59)
        .saturating_add(Duration::from_millis(1))
}

#[tokio::test(start_paused = true)]
async fn objects_with_many_readers_each_are_read_once_in_little_memory() {
    let house = House::new(16, 20, 8 * MIB).await;
    house.crowd(200, about_the_same).await;
    let (read, distinct) = (house.backend.bytes_read(), house.distinct());
    assert!(read * 20 <= distinct * 21, "{read} bytes of {distinct} were read");
}

#[tokio::test(start_paused = true)]
async fn one_large_object_with_many_readers_is_read_once_in_little_memory() {
    let house = House::new(16, 1, 100 * MIB).await;
    house.crowd(200, about_the_same).await;
    let (read, distinct) = (house.backend.bytes_read(), house.distinct());
    assert!(read * 20 <= distinct * 21, "{read} bytes of {distinct} were read");
}

#[tokio::test(start_paused = true)]
async fn objects_with_a_reader_each_are_read_once_in_little_memory() {
    let house = House::new(16, 100, 5 * MIB).await;
    house.crowd(100, about_the_same).await;
    assert_eq!(house.backend.bytes_read(), house.distinct());
}

/// Each object has nine readers that take a MiB in some 10 ms, and one that takes five seconds for it.
#[tokio::test(start_paused = true)]
async fn slow_readers_of_many_objects_keep_nobody_back_and_come_to_their_end() {
    let house = House::new(64, 20, 12 * MIB).await;
    let slow = Duration::from_secs(5);
    let begun = tokio::time::Instant::now();
    let fast = async {
        house.crowd(180, about_the_same).await;
        begun.elapsed()
    };
    let (elapsed, ()) = tokio::join!(fast, house.crowd(20, |_| slow));
    assert!(elapsed < slow * 12 / 2, "the fast ones were held back for {elapsed:?}");
    let (read, distinct) = (house.backend.bytes_read(), house.distinct());
    assert!(read <= distinct * 5 / 2, "{read} bytes of {distinct} were read");
}
