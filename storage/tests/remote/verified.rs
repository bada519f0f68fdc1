//! A store whose answer has one wrong bit, once: whoever reads then finds out by the digest, and nobody is given it again.

use crate::{
    MIB, bytes,
    disk::{files, left_behind, start},
    faulty::{Fault, Faulty},
    minio::minio,
};
use futures_util::{TryStreamExt, future::join_all};
use longshore_oci::{Algorithm, Digest};
use longshore_storage::{Backend, Delivery, ObjectKey, RemoteStore, VerifiedUsage, memory_backend};
use std::{fs, sync::Arc};

/// An object, and what its readers know of it.
struct Object {
    key: ObjectKey,
    whole: Vec<u8>,
    digest: Digest,
}

impl Object {
    async fn new(backend: &Arc<Faulty>, length: usize, algorithm: Algorithm) -> Self {
        let (key, whole) = (ObjectKey::random(), bytes(length));
        backend.put(&key, vec![whole.clone().into()]).await.unwrap();
        Self { key, digest: Digest::of(algorithm, &whole), whole }
    }

    fn size(&self) -> u64 {
        self.whole.len() as u64
    }

    /// Whether a reader gets its bytes.
    async fn reads_well(&self, store: &RemoteStore) -> bool {
        let reader = store.open_verified(&self.key, self.size(), &self.digest).await;
        let mut pieces = reader.range(0..self.size(), Delivery::Copied);
        let mut read = Vec::new();
        while let Some(piece) = pieces.try_next().await.unwrap() {
            read.extend_from_slice(&piece);
        }
        read == self.whole
    }
}

/// The next answer has a wrong bit, and none after it.
fn flip_once(backend: &Faulty, at: usize) {
    backend.plan(move |call, _| if call == 0 { Fault::Flipped(at) } else { Fault::None });
}

#[tokio::test(start_paused = true)]
async fn a_wrong_bit_is_given_once_and_not_from_memory_in_memory() {
    a_wrong_bit_is_given_once_and_not_from_memory(memory_backend()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_bit_is_given_once_and_not_from_memory_on_s3() {
    a_wrong_bit_is_given_once_and_not_from_memory(minio()).await;
}

async fn a_wrong_bit_is_given_once_and_not_from_memory(inner: Arc<dyn Backend>) {
    let backend = Faulty::new(inner);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let object = Object::new(&backend, 5 * MIB + 7, algorithm).await;
        let store = RemoteStore::new(backend.clone(), 64 * MIB as u64, 0);
        flip_once(&backend, MIB / 2);
        assert!(!object.reads_well(&store).await, "its client asks again");
        assert!(object.reads_well(&store).await);
        assert_eq!(store.verified_usage(), VerifiedUsage { objects: 0, damaged: 1 });
        let before = backend.bytes_read();
        for _ in 0..3 {
            assert!(object.reads_well(&store).await);
        }
        assert_eq!(backend.bytes_read(), before, "it is in memory, and was hashed");
        assert_eq!(store.verified_usage(), VerifiedUsage { objects: 1, damaged: 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_bit_is_not_given_from_the_disk_be_it_after_a_restart() {
    let (backend, folder) = (Faulty::new(memory_backend()), tempfile::tempdir().unwrap());
    let object = Object::new(&backend, 2 * MIB, Algorithm::Sha256).await;
    let store = start(&backend, folder.path()).await;
    flip_once(&backend, MIB + 3);
    assert!(!object.reads_well(&store).await, "its client asks again");
    store.settle_disk().await;

    let again = left_behind(folder.path());
    let store = start(&backend, again.path()).await;
    for _ in 0..4 {
        assert!(object.reads_well(&store).await);
        store.settle_disk().await;
        assert_eq!(store.verified_usage().damaged, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_bit_in_what_was_verified_before_is_given_to_nobody() {
    let (backend, folder) = (Faulty::new(memory_backend()), tempfile::tempdir().unwrap());
    let object = Object::new(&backend, 2 * MIB, Algorithm::Sha256).await;
    let store = start(&backend, folder.path()).await;
    for _ in 0..2 {
        assert!(object.reads_well(&store).await);
        store.settle_disk().await;
    }
    assert_eq!(backend.bytes_read(), object.size(), "the second time it came from the disk");
    assert_eq!(store.verified_usage(), VerifiedUsage { objects: 1, damaged: 0 });
    for file in files(folder.path()) {
        fs::remove_file(file).unwrap();
    }
    flip_once(&backend, MIB + 3);
    assert!(object.reads_well(&store).await);
    assert_eq!(backend.calls(), 2, "the second half was asked for again");
    assert_eq!(store.verified_usage(), VerifiedUsage { objects: 1, damaged: 1 });
}

#[tokio::test(start_paused = true)]
async fn all_who_come_at_once_wait_for_one_hash() {
    let backend = Faulty::new(memory_backend());
    let object = Object::new(&backend, 7 * MIB, Algorithm::Sha256).await;
    let store = RemoteStore::new(backend.clone(), 64 * MIB as u64, 0);
    assert!(object.reads_well(&store).await);
    let readers: Vec<_> = (0..20).map(|_| object.reads_well(&store)).collect();
    assert!(join_all(readers).await.into_iter().all(|is_right| is_right));
    assert_eq!(store.verified_usage(), VerifiedUsage { objects: 1, damaged: 0 });
    assert_eq!(backend.bytes_read(), object.size());
}
