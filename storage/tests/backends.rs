//! What an object store must do, asked of each: a backend that passes can hold a registry's layers.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use bytes::Bytes;
use futures_util::TryStreamExt;
use longshore_config::{S3, Secret, Storage as Settings};
use longshore_storage::{Backend, Error, ObjectKey, SMALLEST_PART, Storage, memory_backend, s3_backend};
use longshore_tests::minio::{ACCESS_KEY, BUCKET, Minio, SECRET_KEY};
use std::sync::Arc;

/// Makes a test of each function on each backend.
macro_rules! on_all_backends {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn memory() {
                super::$name(super::memory_backend()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn s3() {
                super::$name(super::minio()).await;
            }
        }
    )+};
}

on_all_backends!(
    a_whole_object_is_read_as_it_was_written,
    every_range_of_an_object_is_read,
    an_object_is_not_there_until_it_is_written,
    an_object_that_is_deleted_is_gone,
    parts_become_an_object_in_their_order,
    a_part_that_is_sent_again_replaces_the_one_before,
    an_upload_that_was_aborted_is_lost,
    an_upload_ends_once,
);

fn settings() -> S3 {
    let server = Minio::shared();
    S3 {
        bucket: BUCKET.to_owned(),
        endpoint: Some(server.url()),
        prefix: server.new_prefix(),
        access_key_id: Some(ACCESS_KEY.to_owned()),
        secret_access_key: Some(Secret::new(SECRET_KEY)),
        ..S3::default()
    }
}

fn minio() -> Arc<dyn Backend> {
    s3_backend(&settings()).unwrap()
}

/// Bytes that are different at every place.
fn bytes(length: usize, seed: u8) -> Bytes {
    (0..length).map(|place| (place / 251) as u8 ^ (place % 251) as u8 ^ seed).collect::<Vec<_>>().into()
}

async fn read(backend: &dyn Backend, key: &ObjectKey, range: std::ops::Range<u64>) -> Result<Vec<u8>, Error> {
    let pieces: Vec<Bytes> = backend.read(key, range).await?.try_collect().await?;
    Ok(pieces.concat())
}

async fn a_whole_object_is_read_as_it_was_written(backend: Arc<dyn Backend>) {
    for length in [0, 1, 1000, 3 * 1024 * 1024 + 1] {
        let (key, whole) = (ObjectKey::random(), bytes(length, 1));
        let pieces = whole.chunks(1024 * 1024).map(Bytes::copy_from_slice).collect();
        backend.put(&key, pieces).await.unwrap();
        assert_eq!(backend.size(&key).await.unwrap(), length as u64);
        if length > 0 {
            assert!(read(&*backend, &key, 0..length as u64).await.unwrap() == whole, "{length} bytes");
        }
    }
}

async fn every_range_of_an_object_is_read(backend: Arc<dyn Backend>) {
    let (key, whole) = (ObjectKey::random(), bytes(100_000, 2));
    backend.put(&key, vec![whole.clone()]).await.unwrap();
    for range in [0..1, 0..100_000, 99_999..100_000, 5..70_000] {
        let part = &whole[range.start as usize..range.end as usize];
        assert!(read(&*backend, &key, range.clone()).await.unwrap() == part, "{range:?}");
    }
    let beyond = read(&*backend, &key, 99_999..100_001).await;
    assert!(matches!(beyond, Err(Error::Lost { .. })), "{beyond:?}");
}

async fn an_object_is_not_there_until_it_is_written(backend: Arc<dyn Backend>) {
    let key = ObjectKey::random();
    assert!(matches!(backend.size(&key).await, Err(Error::Lost { .. })));
    assert!(matches!(read(&*backend, &key, 0..1).await, Err(Error::Lost { .. })));
    let upload = backend.begin(&key).await.unwrap();
    backend.put_part(&key, &upload, 0, vec![bytes(10, 3)]).await.unwrap();
    assert!(matches!(backend.size(&key).await, Err(Error::Lost { .. })), "there are parts of it only");
    backend.abort(&key, &upload).await.unwrap();
}

async fn an_object_that_is_deleted_is_gone(backend: Arc<dyn Backend>) {
    let key = ObjectKey::random();
    backend.put(&key, vec![bytes(10, 4)]).await.unwrap();
    backend.delete(&key).await.unwrap();
    assert!(matches!(backend.size(&key).await, Err(Error::Lost { .. })));
    backend.delete(&key).await.unwrap();
}

async fn parts_become_an_object_in_their_order(backend: Arc<dyn Backend>) {
    let key = ObjectKey::random();
    let parts = [bytes(SMALLEST_PART as usize, 5), bytes(SMALLEST_PART as usize + 1, 6), bytes(1, 7)];
    let upload = backend.begin(&key).await.unwrap();
    let mut names = vec![String::new(); 3];
    for number in [2, 0, 1] {
        names[number] = backend.put_part(&key, &upload, number, vec![parts[number].clone()]).await.unwrap();
    }
    backend.complete(&key, &upload, names).await.unwrap();
    let whole = parts.concat();
    assert_eq!(backend.size(&key).await.unwrap(), whole.len() as u64);
    assert!(read(&*backend, &key, 0..whole.len() as u64).await.unwrap() == whole);
    // Across the borders of parts.
    let range = SMALLEST_PART - 1..2 * SMALLEST_PART + 2;
    assert!(read(&*backend, &key, range.clone()).await.unwrap() == whole[range.start as usize..range.end as usize]);
}

async fn a_part_that_is_sent_again_replaces_the_one_before(backend: Arc<dyn Backend>) {
    let key = ObjectKey::random();
    let upload = backend.begin(&key).await.unwrap();
    backend.put_part(&key, &upload, 0, vec![bytes(20, 8)]).await.unwrap();
    let name = backend.put_part(&key, &upload, 0, vec![bytes(10, 9)]).await.unwrap();
    backend.complete(&key, &upload, vec![name]).await.unwrap();
    assert!(read(&*backend, &key, 0..10).await.unwrap() == bytes(10, 9));
    assert_eq!(backend.size(&key).await.unwrap(), 10);
}

async fn an_upload_that_was_aborted_is_lost(backend: Arc<dyn Backend>) {
    let key = ObjectKey::random();
    let upload = backend.begin(&key).await.unwrap();
    let name = backend.put_part(&key, &upload, 0, vec![bytes(10, 10)]).await.unwrap();
    backend.abort(&key, &upload).await.unwrap();
    backend.abort(&key, &upload).await.unwrap();
    let part = backend.put_part(&key, &upload, 1, vec![bytes(10, 10)]).await;
    assert!(matches!(part, Err(Error::UploadLost { .. })), "{part:?}");
    let completed = backend.complete(&key, &upload, vec![name]).await;
    assert!(matches!(completed, Err(Error::UploadLost { .. })), "{completed:?}");
    assert!(matches!(backend.size(&key).await, Err(Error::Lost { .. })));
}

async fn an_upload_ends_once(backend: Arc<dyn Backend>) {
    let key = ObjectKey::random();
    let upload = backend.begin(&key).await.unwrap();
    let name = backend.put_part(&key, &upload, 0, vec![bytes(10, 11)]).await.unwrap();
    backend.complete(&key, &upload, vec![name.clone()]).await.unwrap();
    let again = backend.complete(&key, &upload, vec![name]).await;
    assert!(matches!(again, Ok(()) | Err(Error::UploadLost { .. })), "{again:?}");
    assert!(read(&*backend, &key, 0..10).await.unwrap() == bytes(10, 11));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_set_up_wrongly_is_told_at_the_start() {
    let right = settings();
    let wrong = [
        (S3 { bucket: "no-such-bucket".to_owned(), ..right.clone() }, "NoSuchBucket", "storage.s3.bucket"),
        (
            S3 { access_key_id: Some("nobody".to_owned()), ..right.clone() },
            "InvalidAccessKeyId",
            "storage.s3.access_key_id",
        ),
        (
            S3 { secret_access_key: Some(Secret::new("another")), ..right.clone() },
            "SignatureDoesNotMatch",
            "storage.s3.secret_access_key",
        ),
    ];
    for (s3, reason, advice) in wrong {
        let error = Storage::open(&Settings { s3: Some(s3), ..Settings::default() }).await.unwrap_err().to_string();
        assert!(error.contains(&right.endpoint.clone().unwrap()), "{error}");
        assert!(error.contains(reason) && error.contains(advice), "{error}");
        assert!(!error.contains('<') && error.len() < 500, "{error}");
    }
    let storage = Storage::open(&Settings { s3: Some(right), ..Settings::default() }).await.unwrap();
    storage.check().await.unwrap();
}
