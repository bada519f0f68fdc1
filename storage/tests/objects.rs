//! Objects: what was written is read back, byte for byte, and an object is gone on with exactly where it was durable.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::join_all};
use longshore_oci::{Algorithm, Digest};
use longshore_storage::{BlobHasher, Delivery, DocumentName, Error, FileStore, ObjectKey, ObjectStream, Storage};
use proptest::prelude::*;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use tempfile::TempDir;

/// More than the writer takes in one go.
const SEVERAL_BATCHES: usize = 5 * 1024 * 1024 + 17;

/// A store in a folder of the test's own.
struct House {
    files: FileStore,
    folder: TempDir,
}

impl House {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self { files: FileStore::open(folder.path(), 1 << 30).unwrap(), folder }
    }

    /// Writes a whole object and makes it durable.
    async fn put(&self, content: &[u8]) -> ObjectKey {
        let key = ObjectKey::random();
        let mut writer = self.files.create(key.clone(), sha256(), Vec::new()).await.unwrap();
        writer.write(Bytes::copy_from_slice(content)).await.unwrap();
        writer.sync().await.unwrap();
        key
    }

    /// All of an object of this size.
    async fn get(&self, key: &ObjectKey, size: usize) -> Vec<u8> {
        read(self.files.read(key, 0..size as u64).await.unwrap()).await
    }

    /// The file of the only object.
    fn only_file(&self) -> PathBuf {
        let parts = fs::read_dir(self.folder.path().join("objects")).unwrap();
        let files = parts.flat_map(|part| fs::read_dir(part.unwrap().path()).unwrap());
        let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }
}

fn sha256() -> BlobHasher {
    BlobHasher::new(Algorithm::Sha256)
}

/// Bytes that differ from place to place, and from one seed to another.
fn content(length: usize, seed: u64) -> Vec<u8> {
    let byte = |place: u64| (place.wrapping_add(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
    (0..length as u64).map(byte).collect()
}

async fn read(stream: ObjectStream) -> Vec<u8> {
    stream.try_collect::<Vec<Bytes>>().await.unwrap().concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Chunks of all sizes, synced here and there, with a writer that is put away and taken up again in between.
    #[test]
    fn what_is_written_is_what_is_read(
        head in 0..20_000_usize,
        chunks in proptest::collection::vec((0..700_000_usize, 0..4_u8), 0..8),
        ranges in proptest::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 4),
        sha512 in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let house = House::new();
            let algorithm = if sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let total = head + chunks.iter().map(|(length, _)| length).sum::<usize>();
            let expected = content(total, 0);
            let mut hasher = BlobHasher::new(algorithm);
            hasher.update(&expected[..head]);
            let key = ObjectKey::random();
            let mut writer = house.files.create(key.clone(), hasher, expected[..head].to_vec()).await.unwrap();
            let mut written = head;
            for (length, then) in chunks {
                writer.write(Bytes::copy_from_slice(&expected[written..written + length])).await.unwrap();
                written += length;
                assert_eq!(writer.length(), written as u64);
                if then == 1 {
                    assert_eq!(writer.sync().await.unwrap().length, written as u64);
                } else if then == 2 {
                    let durable = writer.sync().await.unwrap();
                    drop(writer);
                    let hasher = BlobHasher::restore(&durable.hasher.save()).unwrap();
                    writer = house.files.resume(key.clone(), hasher, durable.length).await.unwrap();
                }
            }
            let durable = writer.sync().await.unwrap();
            assert_eq!(durable.length, total as u64);
            assert_eq!(durable.hasher.digest(), Digest::of(algorithm, &expected));
            assert_eq!(house.get(&key, total).await, expected);
            let whole = house.files.open_object(&key, total as u64).await.unwrap();
            for (from, to) in ranges {
                let (from, to) = (from.index(total + 1), to.index(total + 1));
                let (from, to) = (from.min(to), from.max(to));
                for delivery in [Delivery::Copied, Delivery::Mapped] {
                    assert_eq!(read(whole.range(from as u64..to as u64, delivery)).await, &expected[from..to]);
                }
                let opened = house.files.read(&key, from as u64..to as u64).await.unwrap();
                assert_eq!(read(opened).await, &expected[from..to]);
            }
        });
    }
}

#[tokio::test]
async fn a_reader_gets_chunks_of_bounded_size() {
    let house = House::new();
    let key = house.put(&content(SEVERAL_BATCHES, 0)).await;
    let mut stream = house.files.read(&key, 0..SEVERAL_BATCHES as u64).await.unwrap();
    while let Some(chunk) = stream.next().await {
        assert!((1..=256 * 1024).contains(&chunk.unwrap().len()));
    }
}

#[tokio::test]
async fn bytes_that_were_never_acknowledged_are_cut_off() {
    let house = House::new();
    let (kept, lost, new) = (content(300_000, 1), content(SEVERAL_BATCHES, 2), content(1000, 3));
    let key = ObjectKey::random();
    let mut writer = house.files.create(key.clone(), sha256(), Vec::new()).await.unwrap();
    writer.write(kept.clone().into()).await.unwrap();
    let durable = writer.sync().await.unwrap();
    writer.write(lost.into()).await.unwrap();
    writer.sync().await.unwrap();
    drop(writer);

    let mut writer = house.files.resume(key.clone(), durable.hasher, durable.length).await.unwrap();
    writer.write(new.clone().into()).await.unwrap();
    let durable = writer.sync().await.unwrap();
    let expected = [kept, new].concat();
    assert_eq!(durable.hasher.digest(), Digest::of(Algorithm::Sha256, &expected));
    assert_eq!(durable.length, expected.len() as u64);
    assert_eq!(fs::read(house.only_file()).unwrap(), expected);
}

/// A writer that is dropped may leave a thread behind that is still writing its last batch.
#[tokio::test]
async fn a_batch_of_a_dropped_writer_does_not_land_in_the_next_ones_bytes() {
    let house = House::new();
    for round in 0..5 {
        let key = ObjectKey::random();
        let mut writer = house.files.create(key.clone(), sha256(), Vec::new()).await.unwrap();
        writer.write(content(SEVERAL_BATCHES, 1).into()).await.unwrap();
        drop(writer);
        let expected = content(SEVERAL_BATCHES, 2 + round);
        let mut writer = house.files.resume(key.clone(), sha256(), 0).await.unwrap();
        writer.write(expected.clone().into()).await.unwrap();
        writer.sync().await.unwrap();
        assert!(house.get(&key, SEVERAL_BATCHES).await == expected, "round {round}");
    }
}

#[tokio::test]
async fn the_next_writer_waits_for_the_one_before() {
    let house = House::new();
    let key = ObjectKey::random();
    let first = house.files.create(key.clone(), sha256(), b"head".to_vec()).await.unwrap();
    let files = house.files.clone();
    let second = tokio::spawn(async move { files.resume(key, sha256(), 0).await });
    let inode = format!(":{} ", fs::metadata(house.only_file()).unwrap().ino());
    let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&inode);
    while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
        assert!(!second.is_finished(), "it did not wait");
        tokio::task::yield_now().await;
    }
    drop(first);
    assert_eq!(second.await.unwrap().unwrap().length(), 0);
}

#[tokio::test]
async fn an_object_is_cut_back_and_never_made_longer() {
    let house = House::new();
    let key = house.put(b"content").await;
    for (length, left) in [(100, "content"), (7, "content"), (4, "cont"), (0, "")] {
        house.files.cut(&key, length).await.unwrap();
        assert_eq!(fs::read_to_string(house.only_file()).unwrap(), left);
    }
    house.files.cut(&ObjectKey::random(), 4).await.unwrap();
}

#[tokio::test]
async fn an_object_that_is_too_short_or_gone_cannot_be_gone_on_with() {
    let house = House::new();
    let key = house.put(b"content").await;
    let longer = house.files.resume(key, sha256(), 8).await.unwrap_err();
    assert!(matches!(longer, Error::Lost { .. }), "{longer:?}");
    let unknown = house.files.resume(ObjectKey::random(), sha256(), 0).await.unwrap_err();
    assert!(matches!(unknown, Error::Lost { .. }), "{unknown:?}");
}

#[tokio::test]
async fn a_key_is_used_once() {
    let house = House::new();
    let key = house.put(b"content").await;
    let again = house.files.create(key.clone(), sha256(), b"other".to_vec()).await.unwrap_err();
    assert!(matches!(again, Error::Io { .. }), "{again:?}");
    assert_eq!(house.get(&key, 7).await, b"content");
}

#[tokio::test]
async fn what_is_not_there_is_lost() {
    let house = House::new();
    let key = house.put(b"content").await;
    for (key, range) in [(&key, 0..8), (&key, 7..8), (&ObjectKey::random(), 0..0)] {
        let error = house.files.read(key, range.clone()).await.unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{range:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_file_that_shrinks_under_a_reader_ends_the_stream_with_an_error() {
    let house = House::new();
    let key = house.put(&content(SEVERAL_BATCHES, 0)).await;
    let mut stream = house.files.read(&key, 0..SEVERAL_BATCHES as u64).await.unwrap();
    stream.next().await.unwrap().unwrap();
    OpenOptions::new().write(true).open(house.only_file()).unwrap().set_len(10).unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_deleted_object_is_gone_and_may_be_deleted_again() {
    let house = House::new();
    let key = house.put(b"content").await;
    let open = house.files.read(&key, 0..7).await.unwrap();
    house.files.delete(&key).await.unwrap();
    house.files.delete(&key).await.unwrap();
    let error = house.files.read(&key, 0..7).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
    assert_eq!(read(open).await, b"content", "who reads it already reads it to its end");
}

#[tokio::test]
async fn every_object_is_listed_and_nothing_else() {
    let house = House::new();
    let mut expected = Vec::new();
    for length in 0..20_u8 {
        expected.push((house.put(&vec![length; length.into()]).await, u64::from(length)));
    }
    let (gone, _) = expected.pop().unwrap();
    house.files.delete(&gone).await.unwrap();
    let beside = house.folder.path().join("objects/00");
    fs::write(beside.join("notes.txt"), "not ours").unwrap();
    fs::create_dir(beside.join(ObjectKey::random().to_string().split_off("objects/".len()))).unwrap();
    let mut listed: Vec<_> = house.files.list().try_collect().await.unwrap();
    listed.sort_by_key(|(key, _)| key.to_string());
    expected.sort_by_key(|(key, _)| key.to_string());
    assert_eq!(listed, expected);
    assert_eq!(house.files.size(&expected[3].0).await.unwrap(), expected[3].1);
    assert!(matches!(house.files.size(&gone).await, Err(Error::Lost { .. })));
}

#[tokio::test]
async fn documents_lie_beside_the_objects_and_need_no_lock() {
    let house = House::new();
    // As a command has it open beside the server.
    let beside = Storage::Files(FileStore::look(house.folder.path()).unwrap());
    assert_eq!(beside.documents().await.unwrap(), []);
    let [first, second, end] = ["000000", "000001", "end-000002"].map(|piece| DocumentName::new("one", piece).unwrap());
    for (name, content) in [(&end, "end"), (&second, "second"), (&first, "torn"), (&first, "first")] {
        beside.put_document(name, content.as_bytes().into()).await.unwrap();
    }
    let group = house.folder.path().join("backups/one");
    fs::write(group.join("000003.unfinished"), "a process ended here").unwrap();
    let expected = [(first.clone(), 5), (second.clone(), 6), (end.clone(), 3)];
    assert_eq!(beside.documents().await.unwrap(), expected);
    assert_eq!(beside.read_document(&first).await.unwrap(), "first");
    assert_eq!(fs::metadata(group.join("000000")).unwrap().mode() & 0o777, 0o600, "nobody else may read it");
    let objects: Vec<_> = house.files.list().try_collect().await.unwrap();
    assert!(objects.is_empty(), "{objects:?}");
    fs::remove_file(group.join("000003.unfinished")).unwrap();
    for name in [&first, &first, &second, &end] {
        beside.delete_document(name).await.unwrap();
    }
    assert!(matches!(beside.read_document(&first).await, Err(Error::NoDocument { .. })));
    assert!(!group.exists(), "the folder went with the last of them");
}

#[tokio::test]
async fn the_mark_of_a_folder_lies_beside_the_objects() {
    let house = House::new();
    let storage = Storage::Files(house.files.clone());
    assert_eq!(storage.mark().await.unwrap(), None);
    for mark in ["a long first mark", "second"] {
        storage.set_mark(mark).await.unwrap();
        assert_eq!(storage.mark().await.unwrap().as_deref(), Some(mark));
    }
    let file = house.folder.path().join("store");
    assert_eq!(fs::read_to_string(&file).unwrap(), "longshore store second\n");
    assert!(!file.with_extension("unfinished").exists());
    let beside = Storage::Files(FileStore::look(house.folder.path()).unwrap());
    assert_eq!(beside.mark().await.unwrap().as_deref(), Some("second"));
    let objects: Vec<_> = storage.list().try_collect().await.unwrap();
    assert!(objects.is_empty(), "{objects:?}");
    assert_eq!(storage.documents().await.unwrap(), []);

    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    for failed in [storage.mark().await.map(|_| ()), storage.set_mark("third").await] {
        assert!(matches!(failed, Err(Error::Folder { .. })), "{failed:?}");
    }
}

#[tokio::test]
async fn an_object_is_hashed_by_either_algorithm() {
    let house = House::new();
    let whole = content(SEVERAL_BATCHES, 0);
    let key = house.put(&whole).await;
    for algorithm in Algorithm::ALL {
        for length in [0, 1, 300_000, whole.len()] {
            let hasher = house.files.hash(&key, algorithm, length as u64).await.unwrap();
            assert_eq!(hasher.digest(), Digest::of(algorithm, &whole[..length]));
        }
    }
    let beyond = house.files.hash(&key, Algorithm::Sha512, whole.len() as u64 + 1).await.unwrap_err();
    assert!(matches!(beyond, Error::Lost { .. }), "{beyond:?}");
}

#[tokio::test]
async fn many_may_ask_for_the_folders_health_at_once() {
    let house = House::new();
    for healthy in join_all((0..50).map(|_| house.files.check())).await {
        healthy.unwrap();
    }
    fs::remove_dir_all(house.folder.path()).unwrap();
    assert!(house.files.check().await.is_err());
}
