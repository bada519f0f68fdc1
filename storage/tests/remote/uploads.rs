//! Objects written in parts, by writers that take over from each other.

use crate::{MIB, bytes, minio, read, store};
use bytes::Bytes;
use longshore_oci::{Algorithm, Digest};
use longshore_storage::{
    Backend, BlobHasher, Error, Layout, ObjectKey, RemoteStore, RemoteWriter, SMALLEST_PART, SavedPart, SavedParts,
    SavedTail, Step, memory_backend,
};
use proptest::prelude::*;
use std::sync::Arc;

/// Part numbers for one writer: more than any test sends.
const NUMBERS: u32 = 32;

/// A session as the database would keep it.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) key: Option<ObjectKey>,
    saved: SavedParts,
    pub(crate) length: u64,
    hash: Option<Vec<u8>>,
    /// The first number for a part that no writer has.
    next_part: u32,
}

impl Session {
    async fn open(&mut self, store: &RemoteStore) -> RemoteWriter {
        self.try_open(store).await.unwrap()
    }

    pub(crate) async fn try_open(&mut self, store: &RemoteStore) -> Result<RemoteWriter, Error> {
        let hasher = self.hash.as_ref().map(|hash| BlobHasher::restore(hash).unwrap());
        let hasher = hasher.unwrap_or_else(|| BlobHasher::new(Algorithm::Sha256));
        let Some(key) = self.key.clone() else {
            return store.create(ObjectKey::random(), hasher, Vec::new()).await;
        };
        let mut saved = self.saved.clone();
        if saved.upload.is_some() {
            saved.numbers = self.next_part..self.next_part + NUMBERS;
            self.next_part += NUMBERS;
            return store.resume(key, hasher, self.length, saved).await;
        }
        // Whole so far: it becomes the tail of the next.
        saved.tail = Some(SavedTail { key, checksum: None });
        store.resume(ObjectKey::random(), hasher, self.length, saved).await
    }

    async fn save(&mut self, writer: RemoteWriter) {
        self.try_save(writer).await.unwrap();
    }

    pub(crate) async fn try_save(&mut self, mut writer: RemoteWriter) -> Result<(), Error> {
        let tail = writer.needs_tail().then(ObjectKey::random);
        let durable = writer.save(tail.clone()).await?;
        self.key = Some(writer.key().clone());
        self.length = durable.length;
        self.hash = Some(durable.hasher.save());
        self.saved.tail = None;
        if let Layout::Parts { upload, new, tail_checksum, unused } = durable.layout {
            assert_eq!(tail_checksum.is_some(), tail.is_some());
            self.saved.tail = tail.map(|key| SavedTail { key, checksum: tail_checksum });
            self.saved.upload = Some(upload);
            self.next_part = unused.unwrap();
            self.saved.parts.extend(new);
            assert!(self.saved.parts.iter().all(|part| part.size >= SMALLEST_PART), "{:?}", self.saved.parts);
        }
        Ok(())
    }
}

/// Writes chunks of these sizes, each by a writer of its own where it says so, and ends the object.
async fn write_in(chunks: &[(usize, bool)], store: &RemoteStore) -> (ObjectKey, Vec<u8>) {
    let whole = bytes(chunks.iter().map(|(size, _)| size).sum());
    let mut session = Session::default();
    let mut writer = session.open(store).await;
    let mut sent = 0;
    for (size, is_saved) in chunks {
        for piece in whole[sent..sent + size].chunks(700_001) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        sent += size;
        assert_eq!(writer.length(), sent as u64);
        if *is_saved {
            session.save(writer).await;
            writer = session.open(store).await;
        }
    }
    assert_eq!(writer.hash().await.unwrap().digest(), Digest::of(Algorithm::Sha256, &whole));
    writer.finish().await.unwrap();
    (writer.key().clone(), whole)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_chunks_by_any_writers_are_one_object(
        chunks in prop::collection::vec((prop_oneof![1..9_usize, 1..MIB, 1..9 * MIB], any::<bool>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store(memory_backend());
            let (key, whole) = write_in(&chunks, &store).await;
            let size = whole.len() as u64;
            assert!(read(&store, &key, size, 0..size).await == whole);
            let from = cut.index(whole.len());
            assert!(read(&store, &key, size, from as u64..size).await == whole[from..], "from {from} on");
        });
    }
}

#[tokio::test]
async fn an_end_that_was_not_recorded_is_recognised_by_its_bytes_in_memory() {
    an_end_that_was_not_recorded_is_recognised_by_its_bytes(memory_backend()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_was_not_recorded_is_recognised_by_its_bytes_on_s3() {
    an_end_that_was_not_recorded_is_recognised_by_its_bytes(minio()).await;
}

async fn an_end_that_was_not_recorded_is_recognised_by_its_bytes(backend: Arc<dyn Backend>) {
    let store = store(backend);
    let mut session = Session::default();
    let mut writer = session.open(&store).await;
    writer.write(bytes(20 * MIB).into()).await.unwrap();
    session.save(writer).await;
    let (mut first, mut again, mut other) =
        (session.open(&store).await, session.open(&store).await, session.open(&store).await);
    first.write(b"the end".as_slice().into()).await.unwrap();
    first.finish().await.unwrap();
    // The same end, by a client that was not told.
    again.write(b"the end".as_slice().into()).await.unwrap();
    again.finish().await.unwrap();
    assert_eq!(again.hash().await.unwrap().digest(), first.hash().await.unwrap().digest());
    // Another end, as long.
    other.write(b"THE END".as_slice().into()).await.unwrap();
    let refused = other.finish().await;
    assert!(matches!(refused, Err(Error::UploadLost { .. })), "{refused:?}");
}

#[tokio::test]
async fn chunks_of_any_number_need_no_more_numbers_than_there_are_parts() {
    let store = store(memory_backend());
    let mut session = Session::default();
    for size in [20 * MIB, MIB, 1, 2 * MIB, MIB, MIB, 9 * MIB, 1, 1, 1] {
        let mut writer = session.open(&store).await;
        writer.write(bytes(size).into()).await.unwrap();
        session.save(writer).await;
        assert_eq!(session.next_part as usize, session.saved.parts.len(), "after {size} bytes");
    }
    assert!(session.saved.parts.len() > 4);
}

#[tokio::test]
async fn numbers_are_asked_for_only_where_parts_are_sent() {
    let store = store(memory_backend());
    let mut session = Session::default();
    let mut writer = session.open(&store).await;
    writer.write(bytes(20 * MIB).into()).await.unwrap();
    assert_eq!(writer.lacks_numbers(Step::Write(100 * MIB)), 0, "nobody else knows of the upload");
    session.save(writer).await;
    let hasher = BlobHasher::restore(session.hash.as_ref().unwrap()).unwrap();
    let (key, length, saved) = (session.key.clone().unwrap(), session.length, session.saved.clone());
    let mut writer = store.resume(key, hasher, length, saved).await.unwrap();
    // 4 MiB of them are a tail.
    for (step, expected) in [
        (Step::Write(MIB - 1), 0),
        (Step::Write(MIB), 1),
        (Step::Write(6 * MIB), 2),
        (Step::Save, 0),
        (Step::Finish, 1),
    ] {
        assert_eq!(writer.lacks_numbers(step), expected, "{step:?}");
    }
    writer.write(bytes(2 * MIB).into()).await.unwrap();
    assert_eq!(writer.lacks_numbers(Step::Save), 1);
    writer.grant_numbers(2..4);
    assert_eq!(writer.lacks_numbers(Step::Write(9 * MIB)), 1, "there are two already");
}

#[tokio::test(start_paused = true)]
async fn a_long_tail_is_taken_up_in_little_memory() {
    let backend = memory_backend();
    let (key, tail) = (ObjectKey::random(), ObjectKey::random());
    let upload = backend.begin(&key).await.unwrap();
    // After so many parts the next ones are larger, and so is the tail. (This store takes parts of any size.)
    let mut saved = SavedParts { upload: Some(upload.clone()), ..SavedParts::default() };
    saved.tail = Some(SavedTail { key: tail.clone(), checksum: None });
    for number in 0..3000 {
        let name = backend.put_part(&key, &upload, number, vec![Bytes::from_static(b"x")]).await.unwrap();
        saved.parts.push(SavedPart { number, name, size: 1 });
    }
    let (in_parts, in_tail) = (vec![b'x'; 3000], bytes(30 * MIB));
    backend.put(&tail, vec![in_tail.clone().into()]).await.unwrap();
    let whole = [in_parts, in_tail].concat();
    let mut hasher = BlobHasher::new(Algorithm::Sha256);
    hasher.update(&whole);

    let store = RemoteStore::new(backend, 0, 16 * MIB as u64);
    let mut silent = store.create(ObjectKey::random(), BlobHasher::new(Algorithm::Sha256), Vec::new()).await.unwrap();
    silent.write(bytes(8 * MIB).into()).await.unwrap();
    saved.numbers = 3000..3006;
    let mut writer = store.resume(key.clone(), hasher, whole.len() as u64, saved).await.unwrap();
    writer.finish().await.unwrap();
    assert!(read(&store, &key, whole.len() as u64, 0..whole.len() as u64).await == whole);
}

#[tokio::test]
async fn what_was_never_saved_is_taken_back() {
    let store = store(memory_backend());
    for length in [MIB, 20 * MIB] {
        let key = ObjectKey::random();
        let mut writer = store.create(key.clone(), BlobHasher::new(Algorithm::Sha256), Vec::new()).await.unwrap();
        writer.write(bytes(length).into()).await.unwrap();
        writer.finish().await.unwrap();
        writer.abandon().await.unwrap();
        let gone = store.hash(&key, Algorithm::Sha256, length as u64).await;
        assert!(matches!(gone, Err(Error::Lost { .. })), "{gone:?}");
    }
}

#[tokio::test]
async fn parts_that_arrive_late_take_the_place_of_none() {
    let store = store(memory_backend());
    let mut session = Session::default();
    let mut writer = session.open(&store).await;
    writer.write(bytes(20 * MIB).into()).await.unwrap();
    session.save(writer).await;
    let (mut late, mut writer) = (session.open(&store).await, session.open(&store).await);
    let more = vec![8; 12 * MIB];
    writer.write(more.clone().into()).await.unwrap();
    session.save(writer).await;
    // Its parts come after those that are saved, and take the place of none.
    late.write(vec![7; 12 * MIB].into()).await.unwrap();
    late.abandon().await.unwrap();
    let mut writer = session.open(&store).await;
    writer.write(b"the end".as_slice().into()).await.unwrap();
    writer.finish().await.unwrap();
    let whole = [&bytes(20 * MIB)[..], &more, b"the end"].concat();
    assert!(read(&store, writer.key(), whole.len() as u64, 0..whole.len() as u64).await == whole);
}
