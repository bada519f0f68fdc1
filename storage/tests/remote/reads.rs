//! Many readers of one object, and few bytes of memory.

use crate::{
    MIB, bytes,
    faulty::{Fault, Faulty},
    store, try_read,
};
use futures_util::{StreamExt, TryStreamExt, future::join_all};
use longshore_storage::{Backend, Delivery, Error, ObjectKey, ObjectStream, RemoteStore, memory_backend};
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// A store with so many MiB to read with, and an object of so many bytes in it.
async fn place(memory: usize, length: usize) -> (Arc<Faulty>, RemoteStore, ObjectKey, Vec<u8>) {
    let backend = Faulty::new(memory_backend());
    let (key, whole) = (ObjectKey::random(), bytes(length));
    backend.put(&key, vec![whole.clone().into()]).await.unwrap();
    (backend.clone(), RemoteStore::new(backend, (memory * MIB) as u64, 0), key, whole)
}

async fn open(store: &RemoteStore, key: &ObjectKey, size: usize) -> ObjectStream {
    store.open_object(key, size as u64).await.range(0..size as u64, Delivery::Copied)
}

/// All bytes, copied as they come: a piece that is kept keeps its memory from others.
async fn collect(mut stream: ObjectStream) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(piece) = stream.try_next().await.unwrap() {
        whole.extend_from_slice(&piece);
    }
    whole
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_cold_readers_cost_the_store_one_read() {
    // More than half of the memory: it is not let into the cache.
    let (backend, store, key, whole) = place(96, 50 * MIB + 17).await;
    let begun = (0..200).map(|_| async { open(&store, &key, whole.len()).await.begin().await.unwrap() });
    let begun = join_all(begun.collect::<Vec<_>>()).await;
    let readers = begun.into_iter().map(|stream| async { collect(stream).await == whole });
    assert!(join_all(readers.collect::<Vec<_>>()).await.into_iter().all(|is_right| is_right));
    assert_eq!(backend.bytes_read(), whole.len() as u64);
    assert_eq!(store.hot_usage().bytes, 0, "nothing is held when nobody reads");
}

#[tokio::test]
async fn a_slow_reader_keeps_nobody_back_and_gets_the_right_bytes() {
    // The memory is a third of the object.
    let (backend, store, key, whole) = place(16, 48 * MIB).await;
    let mut slow = open(&store, &key, whole.len()).await;
    let first = slow.next().await.unwrap().unwrap().to_vec();
    for _ in 0..2 {
        assert!(collect(open(&store, &key, whole.len()).await).await == whole);
    }
    let rest = collect(slow).await;
    assert!([&first[..], &rest[..]].concat() == whole);
    assert!(backend.bytes_read() <= 3 * whole.len() as u64);
}

#[tokio::test]
async fn what_a_client_that_hangs_up_has_asked_for_comes_to_the_others() {
    let (backend, store, key, whole) = place(64, 20 * MIB).await;
    let mut first = open(&store, &key, whole.len()).await;
    let second = open(&store, &key, whole.len()).await.begin().await.unwrap();
    let piece = first.next().await.unwrap().unwrap();
    assert!(whole.starts_with(&piece));
    drop((first, piece));
    assert!(collect(second).await == whole);
    assert_eq!(backend.bytes_read(), whole.len() as u64);
}

#[tokio::test]
async fn many_ranges_of_one_segment_are_fetched_once() {
    // More than half of the memory: it is not let into the cache.
    let (backend, store, key, whole) = place(16, 12 * MIB).await;
    let object = store.open_object(&key, whole.len() as u64).await;
    for number in 0..100 {
        let range = 3 * MIB + number * 9000..3 * MIB + number * 9000 + 10;
        let stream = object.range(range.start as u64..range.end as u64, Delivery::Copied);
        assert!(collect(stream).await == whole[range]);
    }
    assert_eq!(backend.bytes_read(), MIB as u64);
}

#[tokio::test]
async fn a_range_fetches_the_segments_that_it_lies_in() {
    let (backend, store, key, whole) = place(64, 50 * MIB).await;
    let range = 10 * MIB + 5..11 * MIB + 7;
    let got = try_read(&store, &key, whole.len() as u64, range.start as u64..range.end as u64).await.unwrap();
    assert!(got == whole[range]);
    assert_eq!(backend.bytes_read(), 2 * MIB as u64);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_breaks_off_ends_early_falls_silent_or_trickles_goes_on_where_it_was() {
    const AFTER: usize = MIB + 5;
    let faults = [Fault::BreaksOff(AFTER), Fault::Truncated(AFTER), Fault::FallsSilent(AFTER), Fault::Trickles(AFTER)];
    for fault in faults.into_iter().chain([Fault::Before]) {
        let (backend, store, key, whole) = place(64, 20 * MIB).await;
        backend.plan(move |call, _| if call % 3 == 0 { fault } else { Fault::None });
        assert!(collect(open(&store, &key, whole.len()).await).await == whole, "{fault:?}");
        assert_eq!(backend.bytes_read(), whole.len() as u64, "{fault:?}: nothing is fetched twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_an_error_for_all_who_wait_and_for_nobody_after() {
    let (backend, store, key, whole) = place(64, 3 * MIB).await;
    backend.plan(|_, _| Fault::Before);
    let readers: Vec<_> = (0..5).map(|_| try_read(&store, &key, whole.len() as u64, 0..1)).collect();
    for outcome in join_all(readers).await {
        assert!(matches!(outcome, Err(Error::Backend { .. })), "{outcome:?}");
    }
    backend.plan(|_, _| Fault::None);
    assert!(collect(open(&store, &key, whole.len()).await).await == whole);
}

/// A byte a second is life, and a segment would take twelve days: it is cut, and the rest is asked for by its range.
#[tokio::test(start_paused = true)]
async fn a_trickle_is_cut_and_slow_is_not() {
    let (backend, store, key, whole) = place(64, MIB).await;
    let begun = tokio::time::Instant::now();
    backend.plan(|call, _| if call == 0 { Fault::Trickles(MIB / 2) } else { Fault::None });
    assert!(collect(open(&store, &key, whole.len()).await).await == whole);
    let elapsed = begun.elapsed();
    assert!((Duration::from_secs(20)..Duration::from_secs(25)).contains(&elapsed), "cut after {elapsed:?}");
    assert_eq!((backend.calls(), backend.bytes_read()), (2, MIB as u64), "nothing is fetched twice");

    // The last bytes of an answer may come as they like.
    let (backend, store, key, whole) = place(64, MIB).await;
    backend.plan(|_, _| Fault::Trickles(MIB - 15));
    assert!(collect(open(&store, &key, whole.len()).await).await == whole);
    assert_eq!(backend.calls(), 1);
}

/// A fetch goes on without its reader, for the next one; but not for the hour that it may take.
#[tokio::test(start_paused = true)]
async fn what_is_slow_to_come_and_nobody_waits_for_any_more_is_given_up() {
    let (backend, store, key, whole) = place(64, 8 * MIB).await;
    backend.plan(|_, _| Fault::Slows(MIB / 2));
    let mut reader = open(&store, &key, whole.len()).await;
    assert!(timeout(Duration::from_secs(5), reader.next()).await.is_err(), "it comes slowly");
    drop(reader);
    tokio::time::sleep(Duration::from_secs(10)).await; // by the test's clock: less than it goes on for nobody
    assert!(store.hot_usage().bytes > 0, "somebody might want it yet");
    let mut reader = open(&store, &key, whole.len()).await;
    assert!(timeout(Duration::from_secs(40), reader.next()).await.is_err(), "it is fetched as long as somebody waits");
    drop(reader);
    tokio::time::sleep(Duration::from_secs(25)).await; // by the test's clock: more than that
    assert_eq!(store.hot_usage().bytes, 0, "no memory is held");
    let read = backend.bytes_read();
    tokio::time::sleep(Duration::from_secs(600)).await; // by the test's clock: in which a slow one would go on
    assert_eq!(backend.bytes_read(), read, "nor does anything come");
}

/// Crowds that read past the caches and through them wait in one queue, and take from each other what nobody needs.
#[tokio::test(start_paused = true)]
async fn who_passes_the_caches_by_finds_memory_that_others_hold_for_nobody() {
    let (_, store, key, whole) = place(16, 40 * MIB).await;
    let size = whole.len() as u64;
    // Two who read together and stop: what the first has not come to is held for it.
    let mut stopped = open(&store, &key, whole.len()).await;
    stopped.next().await.unwrap().unwrap();
    let mut other = open(&store, &key, whole.len()).await;
    for _ in 0..15 {
        other.next().await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_secs(200)).await; // by the test's clock: both are slow readers then
    let straight = timeout(Duration::from_secs(5), collect(store.read(&key, 0..size))).await;
    assert!(straight.expect("it finds some at once") == whole);
}

/// Whoever reads at a store that takes requests and answers none is told so within a minute, and nothing is left of it.
#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_given_up_by_all_readers_and_holds_nobody_after() {
    const LIMIT: Duration = Duration::from_secs(61);
    for fault in [Fault::Silent, Fault::FallsSilent(5), Fault::Trickles(5)] {
        let (backend, store, key, whole) = place(64, MIB + 5).await;
        let (store, size) = (&store, whole.len() as u64);
        // More than may ask the store at a time, and than there is memory for.
        let mut keys = vec![key.clone(); 100];
        for _ in 0..200 {
            let key = ObjectKey::random();
            backend.put(&key, vec![whole.clone().into()]).await.unwrap();
            keys.push(key);
        }
        backend.plan(move |_, _| fault);
        let readers = keys.iter().map(|key| timeout(LIMIT, try_read(store, key, size, 0..size)));
        for outcome in join_all(readers.collect::<Vec<_>>()).await {
            let outcome = outcome.expect("it ends");
            assert!(matches!(outcome, Err(Error::Backend { .. } | Error::ReadersOverloaded)), "{fault:?} {outcome:?}");
        }
        backend.plan(|_, _| Fault::None);
        let again = timeout(LIMIT, try_read(store, &key, size, 0..size)).await.expect("it has a turn");
        assert!(again.unwrap() == whole);
        tokio::time::sleep(LIMIT * 10).await;
        assert_eq!(store.hot_usage().bytes, (MIB + 1024) as u64, "nothing but what is cached");
    }
}

/// What is left of the memory is enough for pieces only.
#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_given_up_by_readers_without_memory_too() {
    let (backend, store, key, whole) = place(16, 40 * MIB).await;
    let (small, half) = (ObjectKey::random(), bytes(MIB / 2));
    backend.put(&small, vec![half.clone().into()]).await.unwrap();
    let mut held = vec![open(&store, &small, half.len()).await.next().await.unwrap().unwrap()];
    for number in 0..15 {
        let reader = store.open_object(&key, whole.len() as u64).await;
        let mut stream = reader.range((number * MIB) as u64..((number + 1) * MIB) as u64, Delivery::Copied);
        held.push(stream.next().await.unwrap().unwrap());
    }
    for fault in [Fault::Silent, Fault::FallsSilent(5), Fault::None] {
        backend.plan(move |_, _| fault);
        let reader = try_read(&store, &key, whole.len() as u64, 20 * MIB as u64..20 * MIB as u64 + 1);
        let outcome = timeout(Duration::from_secs(61), reader).await.expect("it ends");
        match outcome {
            Ok(read) => assert!(fault == Fault::None && read == whole[20 * MIB..=20 * MIB]),
            Err(Error::Backend { .. }) => assert!(fault != Fault::None),
            Err(error) => panic!("{fault:?} {error:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_dies_is_made_again_and_one_that_always_dies_is_an_error() {
    for after in [0, 5, MIB, 2 * MIB + 5] {
        let (backend, store, key, whole) = place(64, 6 * MIB).await;
        backend.plan(move |call, _| if call == 0 { Fault::Panics(after) } else { Fault::None });
        let readers = (0..3).map(|_| async { collect(open(&store, &key, whole.len()).await).await == whole });
        assert!(join_all(readers.collect::<Vec<_>>()).await.into_iter().all(|is_right| is_right), "after {after}");
    }
    let (backend, store, key, whole) = place(64, 6 * MIB).await;
    backend.plan(|_, _| Fault::Panics(5));
    let outcome = try_read(&store, &key, whole.len() as u64, 0..1).await;
    assert!(matches!(outcome, Err(Error::Backend { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_late_first_byte_is_asked_for_once_more() {
    let (backend, store, key, whole) = place(64, 3 * MIB).await;
    backend.plan(|call, _| if call == 0 { Fault::Silent } else { Fault::None });
    let begun = tokio::time::Instant::now();
    assert!(collect(open(&store, &key, whole.len()).await).await == whole);
    assert!(begun.elapsed() < Duration::from_secs(4), "it was asked for again after half a minute only");
}

#[tokio::test(start_paused = true)]
async fn when_memory_is_used_up_readers_are_told_to_come_back_and_can() {
    let backend = Faulty::new(memory_backend());
    let store = RemoteStore::new(backend.clone(), 16 * MIB as u64, 0);
    let mut held = Vec::new();
    let mut refused = None;
    for _ in 0..200 {
        let (key, whole) = (ObjectKey::random(), bytes(3 * MIB));
        backend.put(&key, vec![whole.clone().into()]).await.unwrap();
        let mut stream = open(&store, &key, whole.len()).await;
        match stream.next().await.unwrap() {
            Ok(piece) => held.push((stream, piece)), // a client that takes nothing
            Err(error) => {
                refused = Some((error, key, whole));
                break;
            }
        }
    }
    let (error, key, whole) = refused.expect("somebody is refused");
    assert!(matches!(error, Error::ReadersOverloaded), "{error:?}");
    assert!(held.len() >= 16, "{} readers were served", held.len());
    let usage = store.hot_usage();
    assert!(usage.bytes <= usage.capacity, "{usage:?}");
    drop(held);
    assert!(collect(open(&store, &key, whole.len()).await).await == whole);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is read by whom and given up when: the bytes are right, and memory stays within its bound.
    #[test]
    fn readers_of_any_ranges_get_their_bytes(
        ranges in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..6_usize), 1..24),
        faults in prop::collection::vec(prop_oneof![
            8 => Just(Fault::None), 1 => Just(Fault::Before), 1 => (0..3 * MIB).prop_map(Fault::BreaksOff),
            1 => (0..3 * MIB).prop_map(Fault::Truncated)
        ], 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (backend, store, key, whole) = place(16, 24 * MIB + 3).await;
            backend.plan(move |call, _| if call % 4 == 3 { Fault::None } else { faults[call % faults.len()] });
            let readers = ranges.into_iter().map(|(from, length, gives_up_after)| {
                let (store, key, whole) = (&store, &key, &whole);
                async move {
                    let from = from.index(whole.len());
                    let to = from + 1 + length.index(whole.len() - from);
                    let reader = store.open_object(key, whole.len() as u64).await;
                    let mut stream = reader.range(from as u64..to as u64, Delivery::Copied);
                    let (mut at, mut pieces) = (from, 0);
                    while let Some(piece) = stream.next().await {
                        // The store may fail too often in a row.
                        let Ok(piece) = piece else { return };
                        assert!(piece[..] == whole[at..at + piece.len()], "at {at}");
                        at += piece.len();
                        pieces += 1;
                        let usage = store.hot_usage();
                        assert!(usage.bytes <= usage.capacity, "{usage:?}");
                        if pieces == gives_up_after {
                            return;
                        }
                    }
                    assert_eq!(at, to);
                }
            });
            join_all(readers.collect::<Vec<_>>()).await;
            backend.plan(|_, _| Fault::None);
            assert!(collect(open(&store, &key, whole.len()).await).await == whole);
        });
    }
}

#[tokio::test]
async fn an_object_that_is_read_again_comes_from_memory() {
    let backend = Faulty::new(memory_backend());
    let store = store(backend.clone());
    let (key, whole) = (ObjectKey::random(), bytes(3 * MIB + 5));
    backend.put(&key, vec![whole.clone().into()]).await.unwrap();
    for _ in 0..3 {
        assert!(collect(open(&store, &key, whole.len()).await).await == whole);
    }
    assert_eq!(backend.bytes_read(), whole.len() as u64);
    assert_eq!(store.hot_usage().segments_read, 4, "each segment once");
    store.delete(&key, whole.len() as u64, None).await.unwrap();
    let gone = try_read(&store, &key, whole.len() as u64, 0..1).await;
    assert!(matches!(gone, Err(Error::Lost { .. })), "{gone:?}");
}
