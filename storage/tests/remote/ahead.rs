//! How far ahead of its readers a store is asked, by the clock of the test.

use crate::{MIB, distant::Distant};
use futures_util::{TryStreamExt, future::join_all};
use longshore_storage::{Delivery, ObjectKey, RemoteStore};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What one connection carries from S3, in bytes a second.
const RATE: u32 = 88_000_000;
const LAYER: usize = 128 * MIB;

/// Reads all of an object; the client takes so long for each MiB.
async fn read(store: &RemoteStore, key: &ObjectKey, length: usize, pace: Duration) {
    let reader = store.open_object(key, length as u64).await;
    let mut pieces = reader.range(0..length as u64, Delivery::Copied);
    let mut read = 0;
    while let Some(piece) = pieces.try_next().await.unwrap() {
        read += piece.len();
        sleep(pace * piece.len() as u32 / MIB as u32).await;
        let usage = store.hot_usage();
        assert!(usage.bytes <= usage.capacity, "{usage:?}");
    }
    assert_eq!(read, length);
}

/// A store with so many MiB of memory for reads, all of it for what is on its way.
fn store(backend: &std::sync::Arc<Distant>, memory: usize) -> RemoteStore {
    RemoteStore::new(backend.clone(), (memory * MIB) as u64, 0)
}

#[tokio::test(start_paused = true)]
async fn a_fast_reader_alone_has_several_requests_on_their_way() {
    // Two requests at once come to 1.8, 1.5 and 1.3 times one connection.
    for (first_byte, least) in [(20, 3.5), (40, 3.0), (60, 2.5)] {
        let backend = Distant::new(Duration::from_millis(first_byte), RATE);
        let (store, key) = (store(&backend, 512), backend.object(LAYER).await);
        let begun = Instant::now();
        read(&store, &key, LAYER, Duration::ZERO).await;
        let (elapsed, most) = (begun.elapsed(), backend.most_reads_at_once());
        let rate = LAYER as f64 / elapsed.as_secs_f64() / f64::from(RATE);
        println!("first byte after {first_byte} ms: {rate:.2} times one connection, {most} requests at once at most");
        assert!(most >= 6, "{most}");
        assert!(rate > least, "{rate:.2} times what one connection carries, with a first byte after {first_byte} ms");
        assert_eq!(backend.bytes_read(), LAYER as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_slower_than_one_connection_is_not_read_far_ahead_of() {
    let backend = Distant::new(Duration::from_millis(40), RATE);
    let (store, key) = (store(&backend, 512), backend.object(LAYER / 4).await);
    // 20 MiB a second.
    read(&store, &key, LAYER / 4, Duration::from_millis(50)).await;
    let most = backend.most_reads_at_once();
    println!("a slow reader: {most} requests at once at most");
    assert!(most <= 3, "{most}");
}

#[tokio::test(start_paused = true)]
async fn many_readers_share_little_memory_and_read_nothing_twice() {
    const READERS: usize = 8;
    for memory in [16, 64] {
        let backend = Distant::new(Duration::from_millis(40), RATE);
        let store = store(&backend, memory);
        let mut keys = Vec::new();
        for _ in 0..READERS {
            keys.push(backend.object(LAYER / 4).await);
        }
        join_all(keys.iter().map(|key| read(&store, key, LAYER / 4, Duration::from_millis(1)))).await;
        assert_eq!(backend.bytes_read(), (READERS * LAYER / 4) as u64, "{memory} MiB");
    }
}
