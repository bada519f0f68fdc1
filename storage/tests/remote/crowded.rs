//! Readers for whom there is no memory, by the clock of the test.

use crate::{MIB, distant::Distant};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use longshore_storage::{Delivery, Error, ObjectKey, ObjectStream, RemoteStore};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

const SIZE: usize = 16 * MIB;
const SECOND: Duration = Duration::from_secs(1);

/// A store with 16 MiB for what is read.
async fn store(first_byte: Duration) -> (RemoteStore, Arc<Distant>) {
    let backend = Distant::new(first_byte, 1_000_000_000);
    (RemoteStore::new(backend.clone(), 0, 0), backend)
}

async fn all_of(store: &RemoteStore, key: &ObjectKey) -> ObjectStream {
    store.open_object(key, SIZE as u64).await.range(0..SIZE as u64, Delivery::Copied)
}

/// So many MiB of an object that its client does not send on, for as long as they are held.
async fn stuck(store: &RemoteStore, key: &ObjectKey, segments: usize) -> Vec<Bytes> {
    let pieces = all_of(store, key).await.take(segments);
    let held: Vec<Bytes> = pieces.try_collect().await.unwrap();
    assert_eq!(held.iter().map(Bytes::len).sum::<usize>(), segments * MIB);
    held
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_memory_is_told_to_come_back_after_ten_seconds_and_finds_it_then() {
    let (store, backend) = store(Duration::from_millis(40)).await;
    let (other, key) = (backend.object(SIZE).await, backend.object(SIZE).await);
    let held = stuck(&store, &other, 16).await;
    let begun = Instant::now();
    let refused = all_of(&store, &key).await.begin().await;
    assert!(matches!(refused, Err(Error::ReadersOverloaded)), "{refused:?}");
    assert_eq!(begun.elapsed().as_secs(), 10, "of all it waits for together");
    drop(held);
    assert_eq!(stuck(&store, &key, 16).await.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn who_joins_a_fetch_that_has_waited_for_long_waits_as_long_as_all() {
    let (store, backend) = store(Duration::from_millis(40)).await;
    let (other, key) = (backend.object(SIZE).await, backend.object(SIZE).await);
    let _held = stuck(&store, &other, 16).await;
    let late = async {
        // By the clock of the test, as below: that moves on at once where nobody has anything to do.
        tokio::time::sleep(SECOND * 7).await;
        let begun = Instant::now();
        (all_of(&store, &key).await.begin().await.is_err(), begun.elapsed().as_secs())
    };
    let first = async { all_of(&store, &key).await.begin().await.is_err() };
    assert_eq!(tokio::join!(first, late), (true, (true, 10)));
}

#[tokio::test(start_paused = true)]
async fn who_has_begun_to_answer_waits_longer() {
    let (store, backend) = store(Duration::from_millis(40)).await;
    let (other, key) = (backend.object(SIZE).await, backend.object(SIZE).await);
    let held = stuck(&store, &other, 15).await;
    let mut stream = all_of(&store, &key).await.begin().await.unwrap();
    let first = stream.try_next().await.unwrap().unwrap();
    let (rest, ()) = tokio::join!(stream.try_collect::<Vec<_>>(), async {
        // Of the clock of the test: longer than a reader has before its first byte, shorter than later.
        tokio::time::sleep(SECOND * 20).await;
        drop((held, first));
    });
    assert_eq!(rest.unwrap().iter().map(Bytes::len).sum::<usize>(), SIZE - MIB);
}

/// It is the store that takes long then.
#[tokio::test(start_paused = true)]
async fn who_waits_for_the_store_alone_is_not_told_that_memory_is_short() {
    let (store, backend) = store(SECOND * 15).await;
    let key = backend.object(SIZE).await;
    let mut stream = all_of(&store, &key).await.begin().await.unwrap();
    assert_eq!(stream.try_next().await.unwrap().unwrap().len(), MIB);
}
