//! More uploads at once than there is memory for.

use crate::{
    MIB,
    faulty::{Fault, Faulty},
    weightless::Weightless,
};
use bytes::Bytes;
use futures_util::future::join_all;
use longshore_oci::Algorithm;
use longshore_storage::{BlobHasher, Error, ObjectKey, RemoteStore, RemoteWriter};
use std::time::Duration;
use tokio::{task::JoinHandle, time::Instant};

/// As a connection gives them.
const PIECE: usize = 128 * 1024;
/// The least that a server may be set to.
const MEMORY: u64 = 16 * MIB as u64;

/// A client that sends a piece every so often.
#[derive(Clone, Copy)]
struct Client {
    length: usize,
    piece: usize,
    every: Duration,
}

const FAST: Client = Client { length: 20 * MIB, piece: PIECE, every: Duration::from_millis(1) };

async fn writer(store: &RemoteStore) -> RemoteWriter {
    store.create(ObjectKey::random(), BlobHasher::new(Algorithm::Sha256), Vec::new()).await.unwrap()
}

impl Client {
    /// Writes what comes, as a request does.
    async fn push(self, store: &RemoteStore) -> Result<ObjectKey, Error> {
        let mut writer = writer(store).await;
        self.send(&mut writer).await?;
        writer.finish().await?;
        Ok(writer.key().clone())
    }

    async fn send(self, writer: &mut RemoteWriter) -> Result<(), Error> {
        let piece = Bytes::from(vec![7; self.piece]);
        for _ in 0..self.length / self.piece {
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                refused = writer.refusal() => return Err(refused),
            }
            writer.write(piece.clone()).await?;
        }
        Ok(())
    }
}

/// Pushes of this client, so many at once.
fn crowd(store: &RemoteStore, client: Client, count: usize) -> Vec<JoinHandle<Result<ObjectKey, Error>>> {
    let push = |_| {
        let store = store.clone();
        tokio::spawn(async move { client.push(&store).await })
    };
    (0..count).map(push).collect()
}

async fn assert_all_came(backend: &Weightless, pushes: Vec<JoinHandle<Result<ObjectKey, Error>>>) {
    for pushed in join_all(pushes).await {
        let key = pushed.unwrap().unwrap();
        assert_eq!(backend.length(&key), Some(FAST.length as u64));
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_uploads_comes_through_little_memory() {
    let backend = Weightless::new();
    let store = RemoteStore::new(backend.clone(), 0, MEMORY);
    assert_all_came(&backend, crowd(&store, FAST, 200)).await;
}

/// A client that sends what is too little for a part, and then nothing. Answers when and how it was refused.
fn silent(store: &RemoteStore) -> JoinHandle<Error> {
    let (store, some) = (store.clone(), Client { length: 3 * MIB, ..FAST });
    tokio::spawn(async move {
        let mut writer = writer(&store).await;
        match some.send(&mut writer).await {
            Ok(()) => writer.refusal().await,
            Err(refused) => refused,
        }
    })
}

#[tokio::test(start_paused = true)]
async fn silent_clients_block_nobody_for_ever() {
    let backend = Weightless::new();
    let store = RemoteStore::new(backend.clone(), 0, MEMORY);
    // More than all memory is theirs before anybody else comes.
    let silent: Vec<_> = (0..8).map(|_| silent(&store)).collect();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let refused = silent.iter().filter(|client| client.is_finished()).count();
    assert!((1..8).contains(&refused), "{refused} had to go for the others of them");
    assert_all_came(&backend, crowd(&store, FAST, 20)).await;
    for client in silent.into_iter().filter(JoinHandle::is_finished) {
        assert!(matches!(client.await.unwrap(), Error::Overloaded));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_keeps_its_turn_while_nobody_waits_and_no_longer() {
    let backend = Weightless::new();
    let store = RemoteStore::new(backend.clone(), 0, MEMORY);
    // All that is shared.
    let mut silent = [writer(&store).await, writer(&store).await];
    for writer in &mut silent {
        writer.write(vec![7; 5 * MIB - 1].into()).await.unwrap();
    }
    // It needs 40 seconds for a part.
    let slow = Client { length: 20 * MIB, piece: 1024, every: Duration::from_millis(8) };
    let slow = tokio::spawn({
        let store = store.clone();
        async move { slow.push(&store).await }
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!slow.is_finished(), "nobody else needs the memory");
    let begun = Instant::now();
    assert_all_came(&backend, crowd(&store, FAST, 1)).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(matches!(slow.await.unwrap(), Err(Error::Overloaded)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_left_alone_while_there_is_memory() {
    let backend = Weightless::new();
    let store = RemoteStore::new(backend.clone(), 0, MEMORY);
    let slow = Client { every: Duration::from_secs(2), ..FAST };
    let mut pushes = crowd(&store, slow, 1);
    pushes.extend(crowd(&store, FAST, 1));
    assert_all_came(&backend, pushes).await;
}

/// Told within a bound that does not depend on their number.
#[tokio::test(start_paused = true)]
async fn where_the_store_takes_nothing_all_are_told_to_come_back() {
    let backend = Faulty::new(Weightless::new());
    backend.plan(|_, name| if name == "put_part" { Fault::Silent } else { Fault::None });
    let store = RemoteStore::new(backend, 0, MEMORY);
    let begun = Instant::now();
    let mut refused = 0;
    let mut waiting = 0;
    for push in crowd(&store, FAST, 50) {
        match tokio::time::timeout(Duration::from_secs(60), push).await {
            Ok(outcome) => {
                assert!(matches!(outcome.unwrap(), Err(Error::Overloaded)));
                refused += 1;
            }
            // Its own part is on its way, for as long as the store's client lets it.
            Err(_) => waiting += 1,
        }
    }
    assert!(waiting <= 3 && refused >= 47, "{refused} were refused, {waiting} wait after {:?}", begun.elapsed());
}
