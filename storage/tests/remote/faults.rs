//! A push to a store of which any one call fails, before or after it was done: either the push ends well, or what was
//! acknowledged before is there and a new writer goes on from it.

use crate::{
    MIB, bytes,
    faulty::{Fault, Faulty},
    minio::minio,
    read, store,
    uploads::Session,
};
use futures_util::TryStreamExt;
use longshore_oci::Algorithm;
use longshore_storage::{Backend, BlobHasher, Error, ObjectKey, RemoteStore, Storage, memory_backend};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Sizes that take every way: a whole object, its end as a tail, parts, a tail after parts.
const CHUNKS: [usize; 4] = [2 * MIB, 7 * MIB, 20 * MIB, MIB];

/// Pushes in chunks, each by a writer of its own, and goes on after any failure from what was saved. Answers the object,
/// and how many failures there were.
async fn push(store: &RemoteStore, whole: &[u8]) -> (ObjectKey, usize) {
    let mut session = Session::default();
    let mut failures = 0;
    let mut ends = Vec::new();
    let mut sum = 0;
    for size in CHUNKS {
        sum += size;
        ends.push(sum);
    }
    loop {
        assert!(failures < 3, "one call fails, not three");
        let from = session.length as usize;
        let outcome = match ends.iter().find(|end| **end > from) {
            Some(end) => append(store, &mut session, &whole[from..*end]).await.map(|()| None),
            None => finish(store, &mut session).await.map(Some),
        };
        match outcome {
            Ok(Some(key)) => return (key, failures),
            Ok(None) => {}
            Err(Error::Backend { .. }) => failures += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn append(store: &RemoteStore, session: &mut Session, chunk: &[u8]) -> Result<(), Error> {
    let mut writer = session.try_open(store).await?;
    for piece in chunk.chunks(MIB / 2) {
        writer.write(piece.to_vec().into()).await?;
    }
    session.try_save(writer).await
}

async fn finish(store: &RemoteStore, session: &mut Session) -> Result<ObjectKey, Error> {
    let mut writer = session.try_open(store).await?;
    writer.finish().await?;
    Ok(writer.key().clone())
}

#[tokio::test]
async fn any_one_call_of_a_push_may_fail() {
    let whole = bytes(CHUNKS.iter().sum());
    let backend = Faulty::new(memory_backend());
    push(&store(backend.clone()), &whole).await;
    let calls = backend.calls();
    assert!(calls > 8, "only {calls} calls: this tests nothing");
    for fault in [Fault::Before, Fault::After] {
        for fails in 0..calls {
            let backend = Faulty::new(memory_backend());
            let store = store(backend.clone());
            backend.plan(move |call, name| if call == fails && name != "read" { fault } else { Fault::None });
            let (key, failures) = push(&store, &whole).await;
            assert!(failures <= 1, "call {fails} {fault:?}");
            let size = whole.len() as u64;
            assert!(read(&store, &key, size, 0..size).await == whole, "call {fails} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_writer_whose_part_was_refused_takes_all_back() {
    let backend = Faulty::new(memory_backend());
    let (store, key) = (store(backend.clone()), ObjectKey::random());
    backend.plan(|_, name| if name == "put_part" { Fault::Before } else { Fault::None });
    let mut writer = store.create(key.clone(), BlobHasher::new(Algorithm::Sha256), Vec::new()).await.unwrap();
    let mut outcome = Ok(());
    for _ in 0..64 {
        outcome = writer.write(bytes(MIB).into()).await;
        if outcome.is_err() {
            break;
        }
    }
    assert!(matches!(outcome, Err(Error::Backend { .. })), "{outcome:?}");
    writer.abandon().await.unwrap();
    assert!(backend.uploads(&key).await.unwrap().is_empty());
}

/// What becomes of the first so many reads.
fn reads(count: usize, fault: Fault) -> impl Fn(usize, &'static str) -> Fault {
    let left = AtomicUsize::new(count);
    move |_, name| {
        let is_one = name == "read" && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if is_one { fault } else { Fault::None }
    }
}

#[tokio::test]
async fn a_tail_that_does_not_come_as_it_was_written_is_not_gone_on_with_in_memory() {
    a_tail_that_does_not_come_as_it_was_written_is_not_gone_on_with(memory_backend()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_does_not_come_as_it_was_written_is_not_gone_on_with_on_s3() {
    a_tail_that_does_not_come_as_it_was_written_is_not_gone_on_with(minio()).await;
}

async fn a_tail_that_does_not_come_as_it_was_written_is_not_gone_on_with(inner: Arc<dyn Backend>) {
    let backend = Faulty::new(inner);
    let store = store(backend.clone());
    // All of the upload, and what comes after its parts.
    for begin in [2 * MIB, 20 * MIB] {
        let (mut session, whole) = (Session::default(), bytes(begin + MIB));
        append(&store, &mut session, &whole[..begin]).await.unwrap();
        for fault in [Fault::Truncated(MIB), Fault::Flipped(MIB + 5)] {
            backend.plan(reads(1, fault));
            let refused = append(&store, &mut session, &whole[begin..]).await;
            assert!(matches!(refused, Err(Error::Backend { .. })), "{begin} {fault:?}: {refused:?}");
        }
        // It lies damaged at the store, as far as anybody can tell.
        backend.plan(reads(usize::MAX, Fault::Flipped(MIB + 5)));
        let lost = append(&store, &mut session, &whole[begin..]).await;
        assert!(matches!(lost, Err(Error::UploadLost { .. })), "{begin}: {lost:?}");
        backend.plan(|_, _| Fault::None);
        append(&store, &mut session, &whole[begin..]).await.unwrap();
        let (key, size) = (finish(&store, &mut session).await.unwrap(), whole.len() as u64);
        assert!(read(&store, &key, size, 0..size).await == whole, "{begin}");
    }
}

/// Whether there is a mark is not known then, and it must not be written over.
#[tokio::test]
async fn a_mark_stays_where_the_store_does_not_tell_whether_it_is_there() {
    let backend = Faulty::new(memory_backend());
    let store = store(backend.clone());
    let storage = Storage::Remote(store.clone());
    storage.set_mark("ours").await.unwrap();
    backend.plan(|_, name| if name == "size" { Fault::Before } else { Fault::None });
    for failed in [store.prove().await, storage.mark().await.map(|_| ())] {
        assert!(matches!(failed, Err(Error::Backend { .. })), "{failed:?}");
    }
    backend.plan(|_, name| if name == "read" { Fault::BreaksOff(20) } else { Fault::None });
    let failed = storage.mark().await;
    assert!(matches!(failed, Err(Error::Backend { .. })), "{failed:?}");
    backend.plan(|_, _| Fault::None);
    store.prove().await.unwrap();
    assert_eq!(storage.mark().await.unwrap().as_deref(), Some("ours"));
}

/// One that takes parts and makes no object of them would let clients push, and fail them at the end.
#[tokio::test]
async fn a_store_that_fails_at_anything_a_push_needs_is_refused_at_the_start() {
    for call in ["put", "read", "delete", "begin", "put_part", "complete", "uploads", "abort", "size"] {
        let backend = Faulty::new(memory_backend());
        backend.plan(move |_, name| if name == call { Fault::Before } else { Fault::None });
        let refused = store(backend.clone()).prove().await;
        assert!(
            matches!(&refused, Err(Error::Backend { reason, .. }) if reason.contains(call)),
            "{call} fails: {refused:?}"
        );
        backend.plan(|_, _| Fault::None);
        store(backend).prove().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_left_of_an_upload_that_could_not_be_ended_at_the_start() {
    for (call, fault) in [("put_part", Fault::Before), ("complete", Fault::Before), ("complete", Fault::After)] {
        let backend = Faulty::new(memory_backend());
        backend.plan(move |_, name| if name == call { fault } else { Fault::None });
        store(backend.clone()).prove().await.unwrap_err();
        let objects: Vec<_> = backend.list().try_collect().await.unwrap();
        let uploads: Vec<_> = backend.list_uploads().try_collect().await.unwrap();
        assert!(objects.is_empty() && uploads.is_empty(), "{call} {fault:?}: {objects:?} {uploads:?}");
    }
}
