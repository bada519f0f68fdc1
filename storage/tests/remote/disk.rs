//! A disk between memory and the store, which outlives the process and is damaged: seen by readers. Time stands still, so
//! that no read of the disk is late, however busy the machine is.

use crate::{
    MIB, bytes,
    faulty::{Fault, Faulty},
    read, try_read,
};
use futures_util::{TryStreamExt, future::join_all};
use longshore_storage::{Backend, Delivery, DiskUsage, ObjectKey, RemoteStore, memory_backend};
use proptest::prelude::*;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// A process on this backend, with as little memory as there can be, so that nothing is kept in it, and this folder.
pub(crate) async fn start(backend: &Arc<Faulty>, folder: &Path) -> RemoteStore {
    let store = RemoteStore::new(backend.clone(), 0, 0).with_disk_cache(folder, 256 * MIB as u64).unwrap();
    store.settle_disk().await;
    store
}

async fn object(backend: &Arc<Faulty>, length: usize) -> (ObjectKey, Vec<u8>) {
    let (key, whole) = (ObjectKey::random(), bytes(length));
    backend.put(&key, vec![whole.clone().into()]).await.unwrap();
    (key, whole)
}

/// Reads an object so that all of it is on the disk: the queue of such a small memory holds two segments, so little is
/// asked for at a time.
async fn fill(store: &RemoteStore, key: &ObjectKey, whole: &[u8]) {
    let size = whole.len() as u64;
    for from in (0..size).step_by(MIB) {
        let to = size.min(from + MIB as u64);
        assert!(read(store, key, size, from..to).await == whole[from as usize..to as usize]);
        store.settle_disk().await;
    }
    assert_eq!(usage(store).dropped_writes, 0);
}

fn usage(store: &RemoteStore) -> DiskUsage {
    store.disk_usage().unwrap()
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for part in fs::read_dir(folder.join("segments")).unwrap() {
        files.extend(fs::read_dir(part.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    files.sort();
    files
}

/// What lies in a folder at this moment: what a process that is killed now leaves behind.
pub(crate) fn left_behind(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in files(folder) {
        let to = copy.path().join(file.strip_prefix(folder).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, to).unwrap();
    }
    copy
}

/// The number in the name of a segment's file.
fn number_of(file: &Path) -> usize {
    file.file_name().unwrap().to_str().unwrap().split('-').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_store_is_asked_for_nothing() {
    let (backend, folder) = (Faulty::new(memory_backend()), tempfile::tempdir().unwrap());
    let (key, whole) = object(&backend, 20 * MIB + 17).await;
    let size = whole.len() as u64;
    let store = start(&backend, folder.path()).await;
    fill(&store, &key, &whole).await;
    assert_eq!(backend.bytes_read(), size);

    let again = left_behind(folder.path());
    let store = start(&backend, again.path()).await;
    backend.plan(|_, _| Fault::Before);
    assert!(read(&store, &key, size, 0..size).await == whole);
    assert!(read(&store, &key, size, 3 * MIB as u64 - 5..size).await == whole[3 * MIB - 5..]);
    assert_eq!(backend.calls(), 0);
    assert_eq!((usage(&store).hits, usage(&store).misses), (21 + 19, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_on_the_disk_is_all_that_the_store_is_asked_for() {
    let (backend, folder) = (Faulty::new(memory_backend()), tempfile::tempdir().unwrap());
    let (key, whole) = object(&backend, 16 * MIB).await;
    let size = whole.len() as u64;
    fill(&start(&backend, folder.path()).await, &key, &whole).await;

    let again = left_behind(folder.path());
    for file in files(again.path()) {
        match number_of(&file) {
            0 | 5 | 6 => fs::remove_file(file).unwrap(),
            9 => fs::write(file, vec![0; MIB]).unwrap(),
            _ => {}
        }
    }
    let before = backend.bytes_read();
    backend.plan(|_, _| Fault::None);
    let store = start(&backend, again.path()).await;
    assert!(read(&store, &key, size, 0..size).await == whole);
    // Of what is damaged is known only when it is read: the rest of that run comes from the store as well.
    let fetched = backend.bytes_read() - before;
    assert!((4 * MIB as u64..=11 * MIB as u64).contains(&fetched), "{fetched}");
    assert_eq!(usage(&store).corrupt, 1);
    store.settle_disk().await;
    let before = backend.bytes_read();
    assert!(read(&store, &key, size, 0..size).await == whole);
    let fetched = backend.bytes_read() - before;
    assert!(fetched < 4 * MIB as u64, "{fetched}: what was missing was taken up");
}

#[tokio::test(start_paused = true)]
async fn many_readers_of_one_object_read_the_disk_once() {
    let (backend, folder) = (Faulty::new(memory_backend()), tempfile::tempdir().unwrap());
    let (key, whole) = object(&backend, 20 * MIB + 5).await;
    let size = whole.len() as u64;
    fill(&start(&backend, folder.path()).await, &key, &whole).await;
    let folder = left_behind(folder.path());
    // The object is more than half of the memory: it is not let into that.
    let store = RemoteStore::new(backend.clone(), 40 * MIB as u64, 0);
    let store = store.with_disk_cache(folder.path(), 256 * MIB as u64).unwrap();
    store.settle_disk().await;
    backend.plan(|_, _| Fault::Before);
    let begun = (0..50).map(|_| async {
        let reader = store.open_object(&key, size).await;
        reader.range(0..size, Delivery::Copied).begin().await.unwrap()
    });
    let begun = join_all(begun.collect::<Vec<_>>()).await;
    let whole = &whole;
    let readers = begun.into_iter().map(|mut stream| async move {
        let mut at = 0;
        while let Some(piece) = stream.try_next().await.unwrap() {
            assert!(piece[..] == whole[at..at + piece.len()]);
            at += piece.len();
        }
        assert_eq!(at, whole.len());
    });
    join_all(readers.collect::<Vec<_>>()).await;
    assert_eq!((usage(&store).hits, usage(&store).misses, backend.calls()), (21, 0, 0));
    assert_eq!(store.hot_usage().bytes, 0, "nothing is held when nobody reads");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_goes_from_the_disk_and_some_reads_pass_it_by() {
    let (backend, folder) = (Faulty::new(memory_backend()), tempfile::tempdir().unwrap());
    let (key, whole) = object(&backend, MIB + 5).await;
    let (size, store) = (whole.len() as u64, start(&backend, folder.path()).await);
    for _ in 0..2 {
        assert!(read(&store, &key, size, 0..size).await == whole);
        store.settle_disk().await;
    }
    assert_eq!((usage(&store).hits, files(folder.path()).len()), (2, 2));
    for _ in 0..2 {
        let straight: Vec<_> = store.read(&key, 0..size).try_collect().await.unwrap();
        assert!(straight.concat() == whole);
    }
    assert_eq!((usage(&store).hits, backend.bytes_read()), (2, 3 * size));
    store.delete(&key, size, None).await.unwrap();
    store.settle_disk().await;
    assert!(files(folder.path()).is_empty());
    assert!(try_read(&store, &key, size, 0..size).await.is_err());
}

/// What happens between two rounds of readers.
#[derive(Debug, Clone)]
enum Turn {
    Nothing,
    /// The process dies, and another one finds what it has left.
    Killed,
    /// A byte of some file changes.
    Flipped(prop::sample::Index, prop::sample::Index),
    /// Some file is gone.
    Removed(prop::sample::Index),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let index = any::<prop::sample::Index>;
    prop::collection::vec(
        prop_oneof![
            1 => Just(Turn::Nothing),
            2 => Just(Turn::Killed),
            2 => (index(), index()).prop_map(|(file, byte)| Turn::Flipped(file, byte)),
            1 => index().prop_map(Turn::Removed),
        ],
        1..8,
    )
}

fn change(turn: &Turn, folder: &Path) {
    let files = files(folder);
    match turn {
        Turn::Flipped(file, byte) if !files.is_empty() => {
            let file = &files[file.index(files.len())];
            let mut bytes = fs::read(file).unwrap();
            // It may be about to be written.
            if !bytes.is_empty() {
                let byte = byte.index(bytes.len());
                bytes[byte] ^= 0x40;
                fs::write(file, bytes).unwrap();
            }
        }
        Turn::Removed(file) if !files.is_empty() => fs::remove_file(&files[file.index(files.len())]).unwrap(),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever is read, killed and damaged, while the store fails now and then: the bytes are right, and memory stays
    /// within its bound.
    #[test]
    fn readers_get_their_bytes_whatever_becomes_of_the_disk(
        turns in turns(),
        ranges in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
        faults in prop::collection::vec(prop_oneof![
            8 => Just(Fault::None), 1 => Just(Fault::Before), 1 => (0..3 * MIB).prop_map(Fault::BreaksOff)
        ], 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let backend = Faulty::new(memory_backend());
            let (key, whole) = object(&backend, 5 * MIB + 3).await;
            let size = whole.len();
            backend.plan(move |call, _| if call % 4 == 3 { Fault::None } else { faults[call % faults.len()] });
            let mut folder = tempfile::tempdir().unwrap();
            let mut store = start(&backend, folder.path()).await;
            for turn in turns {
                let readers = ranges.iter().map(|(from, length)| {
                    let from = from.index(size);
                    let to = from + 1 + length.index(size - from);
                    let (store, key, whole) = (&store, &key, &whole);
                    async move {
                        // The store may fail too often in a row.
                        if let Ok(read) = try_read(store, key, size as u64, from as u64..to as u64).await {
                            assert!(read[..] == whole[from..to]);
                        }
                        let usage = store.hot_usage();
                        assert!(usage.bytes <= usage.capacity, "{usage:?}");
                    }
                });
                join_all(readers.collect::<Vec<_>>()).await;
                change(&turn, folder.path());
                if let Turn::Killed = turn {
                    // At once: some of what was taken is not written, or only in part.
                    folder = left_behind(folder.path());
                    store = start(&backend, folder.path()).await;
                }
            }
            backend.plan(|_, _| Fault::None);
            assert!(read(&store, &key, size as u64, 0..size as u64).await == whole);
            assert_eq!(usage(&store).errors, 0);
        });
    }
}
