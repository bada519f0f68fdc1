//! Objects in an object store, in memory and in a real one: what is written by several writers, what is read by many
//! readers, and what happens when the store fails.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod ahead;
mod crowded;
mod crowds;
mod disk;
mod distant;
mod faults;
mod faulty;
mod many_readers;
mod minio;
mod patience;
mod reads;
mod uploads;
mod verified;
mod weightless;

use futures_util::TryStreamExt;
use longshore_storage::{Backend, Delivery, Error, ObjectKey, RemoteStore};
use minio::minio;
use std::{ops::Range, sync::Arc};

const MIB: usize = 1024 * 1024;

fn store(backend: Arc<dyn Backend>) -> RemoteStore {
    RemoteStore::new(backend, 64 * MIB as u64, 64 * MIB as u64)
}

/// Bytes that are different at every place.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place / 253) as u8 ^ (place % 253) as u8).collect()
}

async fn try_read(store: &RemoteStore, key: &ObjectKey, size: u64, range: Range<u64>) -> Result<Vec<u8>, Error> {
    let reader = store.open_object(key, size).await;
    let mut pieces = reader.range(range, Delivery::Copied);
    let mut whole = Vec::new();
    while let Some(piece) = pieces.try_next().await? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

async fn read(store: &RemoteStore, key: &ObjectKey, size: u64, range: Range<u64>) -> Vec<u8> {
    try_read(store, key, size, range).await.unwrap()
}
