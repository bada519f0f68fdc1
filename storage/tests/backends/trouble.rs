//! Trouble on the way to a store and back: what is worth trying again is tried again, what was done without a word is
//! recognised, and what was refused is not taken for done, whatever the status of the answer says.

use crate::{
    bytes,
    minio::s3_settings,
    read,
    startup::serve,
    stores::{failing_s3, failing_s3_settings, gcs, gcs_server, gcs_settings},
};
use futures_util::TryStreamExt;
use longshore_config::S3;
use longshore_oci::{Algorithm, Digest};
use longshore_storage::{Backend, BegunUpload, BlobHasher, Error, ObjectKey, RemoteStore, gcs_backend, s3_backend};
use longshore_tests::middleman::{Fault, Faults};
use std::sync::Arc;

/// What a store says that began its answer well and failed then: these are as S3's documentation has them.
const FAILED_LATE: &str = "200 OK\r\ncontent-type: application/xml\r\n\r\n\
    <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\n<Error><Code>InternalError</Code><Message>We encountered an internal \
    error. Please try again.</Message><RequestId>656c76696e6727</RequestId><HostId>Uuag1LuByRx9</HostId></Error>";
const SLOW_DOWN_LATE: &str = "200 OK\r\ncontent-type: application/xml\r\n\r\n\
    <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.\
    </Message></Error>";
const REFUSED_LATE: &str = "200 OK\r\ncontent-type: application/xml\r\n\r\n\
    <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";

/// Makes a test of each function on S3 and on Google Cloud Storage.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn s3() {
                let (faults, backend) = super::failing_s3();
                super::$name(&faults, backend).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn gcs() {
                super::$name(super::gcs_server().await.faults(), super::gcs().await).await;
            }
        }
    )+};
}

on_both!(
    the_end_of_an_upload_is_sent_again_after_passing_trouble,
    the_end_of_an_upload_that_failed_behind_a_good_status_is_sent_again,
    an_end_that_was_refused_behind_a_good_status_is_not_taken_for_done,
    what_will_be_refused_again_is_not_sent_again,
    an_end_that_was_made_without_a_word_is_recognised,
    an_upload_that_was_not_begun_behind_a_good_status_is_none,
);

/// An upload of one part, about to be ended; and the words of the request that ends it.
async fn about_to_end(backend: &dyn Backend) -> (ObjectKey, String, Vec<(u32, String)>, String) {
    let key = ObjectKey::random();
    let upload = backend.begin(&key).await.unwrap();
    let name = backend.put_part(&key, &upload, 0, vec![bytes(10, 15)]).await.unwrap();
    let words = key.to_string();
    (key, upload, vec![(0, name)], words)
}

async fn the_end_of_an_upload_is_sent_again_after_passing_trouble(faults: &Faults, backend: Arc<dyn Backend>) {
    let (key, upload, parts, words) = about_to_end(&*backend).await;
    let words = ["POST", words.as_str()];
    let passing = ["503 Service Unavailable\r\nretry-after: 1\r\n", "500 Internal Server Error\r\n"];
    faults.fail(&words, &passing.map(Fault::Refused));
    faults.fail(&words, &[Fault::Unheard]);
    backend.complete(&key, &upload, parts).await.unwrap();
    faults.assert_failed(&words);
    assert!(read(&*backend, &key, 0..10).await.unwrap() == bytes(10, 15));
}

async fn the_end_of_an_upload_that_failed_behind_a_good_status_is_sent_again(
    faults: &Faults,
    backend: Arc<dyn Backend>,
) {
    let (key, upload, parts, words) = about_to_end(&*backend).await;
    let words = ["POST", words.as_str(), "uploadId="];
    faults.fail(&words, &[FAILED_LATE, SLOW_DOWN_LATE, FAILED_LATE].map(Fault::Refused));
    backend.complete(&key, &upload, parts).await.unwrap();
    faults.assert_failed(&words);
    assert!(read(&*backend, &key, 0..10).await.unwrap() == bytes(10, 15));
}

/// Nothing is there then, and the upload can still be ended.
async fn an_end_that_was_refused_behind_a_good_status_is_not_taken_for_done(
    faults: &Faults,
    backend: Arc<dyn Backend>,
) {
    let (key, upload, parts, words) = about_to_end(&*backend).await;
    faults.fail(&["POST", words.as_str(), "uploadId="], &[Fault::Refused(REFUSED_LATE)]);
    let refused = backend.complete(&key, &upload, parts.clone()).await;
    assert!(matches!(&refused, Err(Error::Backend { reason, .. }) if reason.contains("AccessDenied")), "{refused:?}");
    let nothing = backend.size(&key).await;
    assert!(matches!(nothing, Err(Error::Lost { .. })), "{nothing:?}");
    backend.complete(&key, &upload, parts).await.unwrap();
    assert!(read(&*backend, &key, 0..10).await.unwrap() == bytes(10, 15));
}

async fn what_will_be_refused_again_is_not_sent_again(faults: &Faults, backend: Arc<dyn Backend>) {
    let (key, upload, parts, words) = about_to_end(&*backend).await;
    let words = ["POST", words.as_str()];
    faults.fail(&words, &[Fault::Refused("403 Forbidden\r\n")]);
    let refused = backend.complete(&key, &upload, parts.clone()).await;
    assert!(matches!(&refused, Err(Error::Backend { reason, .. }) if reason.contains("403")), "{refused:?}");
    backend.complete(&key, &upload, parts).await.unwrap();
}

/// The store does what it is asked, and nobody hears of it: the object is known by its bytes then.
async fn an_end_that_was_made_without_a_word_is_recognised(faults: &Faults, backend: Arc<dyn Backend>) {
    let store = RemoteStore::new(backend, 0, 64 << 20);
    let unheard = ["500 Internal Server Error\r\n", FAILED_LATE].map(Fault::Replaced);
    for fault in [Fault::Unanswered].into_iter().chain(unheard) {
        let (key, whole) = (ObjectKey::random(), bytes(20 << 20, 16));
        let mut writer = store.create(key.clone(), BlobHasher::new(Algorithm::Sha256), Vec::new()).await.unwrap();
        writer.write(whole.clone()).await.unwrap();
        let words = key.to_string();
        let words = ["POST", words.as_str(), "uploadId="];
        faults.fail(&words, &[fault]);
        writer.finish().await.unwrap();
        faults.assert_failed(&words);
        let there = store.hash(&key, Algorithm::Sha256, whole.len() as u64).await.unwrap();
        assert_eq!(there.digest(), Digest::of(Algorithm::Sha256, &whole), "{fault:?}");
    }
}

/// The answer names none, and none is made up: it fails, or it is asked for again.
async fn an_upload_that_was_not_begun_behind_a_good_status_is_none(faults: &Faults, backend: Arc<dyn Backend>) {
    let key = ObjectKey::random();
    let key_text = key.to_string();
    // Whatever stands for a slash in the URL.
    let name = key_text.rsplit('/').next().unwrap_or_default();
    let words = ["POST", name, "uploads"];
    faults.fail(&words, &[Fault::Refused(FAILED_LATE)]);
    let begun = backend.begin(&key).await;
    faults.assert_failed(&words);
    assert!(matches!(begun, Ok(_) | Err(Error::Backend { .. })), "{begun:?}");
    assert_eq!(backend.uploads(&key).await.unwrap(), Vec::from_iter(begun));
}

/// The checksums go with what is written, so nothing lies there that is not what was sent; sent again, it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_on_its_way_to_s3_is_refused() {
    let (faults, backend) = failing_s3();
    let (key, whole) = (ObjectKey::random(), bytes(100_000, 18));
    let words = key.to_string();
    let words = ["PUT", words.as_str()];
    faults.fail(&words, &[Fault::Damaged]);
    let refused = backend.put(&key, vec![whole.clone()]).await;
    faults.assert_failed(&words);
    assert!(matches!(refused, Err(Error::Backend { .. })), "{refused:?}");
    let nothing = backend.size(&key).await;
    assert!(matches!(nothing, Err(Error::Lost { .. })), "{nothing:?}");

    let upload = backend.begin(&key).await.unwrap();
    faults.fail(&words, &[Fault::Damaged]);
    let refused = backend.put_part(&key, &upload, 0, vec![whole.clone()]).await;
    faults.assert_failed(&words);
    assert!(matches!(refused, Err(Error::Backend { .. })), "{refused:?}");
    let part = backend.put_part(&key, &upload, 0, vec![whole.clone()]).await.unwrap();
    backend.complete(&key, &upload, vec![(0, part)]).await.unwrap();
    assert!(read(&*backend, &key, 0..100_000).await.unwrap() == whole);
}

/// Whoever deletes many at once would forget those that are still there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_whose_delete_failed_behind_a_good_status_are_not_taken_for_deleted() {
    let (faults, backend) = failing_s3();
    let keys: Vec<_> = (0..5).map(|_| ObjectKey::random()).collect();
    for key in &keys {
        backend.put(key, vec![bytes(10, 17)]).await.unwrap();
    }
    let words = ["POST", "delete"];
    faults.fail(&words, &[Fault::Refused(REFUSED_LATE)]);
    let refused = backend.delete_all(&keys).await;
    assert!(matches!(refused, Err(Error::Backend { .. })), "{refused:?}");
    faults.assert_failed(&words);
    for key in &keys {
        assert_eq!(backend.size(key).await.unwrap(), 10);
    }
    backend.delete_all(&keys).await.unwrap();
    for key in &keys {
        assert!(matches!(backend.size(key).await, Err(Error::Lost { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_not_lost_because_something_is_not_found() {
    let nowhere = S3 { bucket: "no-such-bucket".to_owned(), ..s3_settings() };
    let astray = S3 { endpoint: Some(format!("http://{}", serve("404 Not Found", "{}".to_owned()))), ..s3_settings() };
    for (settings, reason) in [(nowhere, "NoSuchBucket"), (astray, "404")] {
        let (backend, key) = (s3_backend(&settings, None).unwrap(), ObjectKey::random());
        let part = backend.put_part(&key, "upload", 0, vec![bytes(10, 14)]).await.unwrap_err();
        let completed = backend.complete(&key, "upload", vec![(0, "part".to_owned())]).await.unwrap_err();
        for error in [part, completed] {
            assert!(matches!(&error, Error::Backend { reason: told, .. } if told.contains(reason)), "{error}");
        }
    }
}

const FIRST_PAGE: &str = "200 OK\r\n\r\n<ListMultipartUploadsResult><KeyMarker></KeyMarker><NextKeyMarker>p/objects/b</NextKeyMarker>\
    <NextUploadIdMarker>second</NextUploadIdMarker><IsTruncated>true</IsTruncated>\
    <Upload><Key>p/objects/01800000000070008000000000000001</Key><UploadId>first</UploadId></Upload>\
    <Upload><Key>p/objects/b</Key><UploadId>second</UploadId></Upload></ListMultipartUploadsResult>";
const LAST_PAGE: &str = "200 OK\r\n\r\n<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>\
    <Upload><Key>p/objects/01800000000070008000000000000002</Key><UploadId>third</UploadId></Upload>\
    </ListMultipartUploadsResult>";

/// `MinIO`, and so what stands in for Google, tells the uploads of whole keys only: this is what S3 and Google would say.
async fn assert_listed_page_by_page(faults: &Faults, backend: &dyn Backend, prefix: &str) {
    let prefix = format!("prefix={prefix}%2Fobjects%2F");
    let first = ["GET", "uploads", prefix.as_str()];
    let last = ["GET", "uploads", prefix.as_str(), "&key-marker=p%2Fobjects%2Fb&", "upload-id-marker=second"];
    faults.fail(&last, &[Fault::Refused(LAST_PAGE)]);
    faults.fail(&first, &[Fault::Refused(FIRST_PAGE)]);
    let listed: Vec<BegunUpload> = backend.list_uploads().try_collect().await.unwrap();
    faults.assert_failed(&first);
    faults.assert_failed(&last);
    let listed: Vec<_> = listed.iter().map(|upload| (upload.key.to_string(), upload.name.as_str())).collect();
    let key = |last| format!("objects/0180000000007000800000000000000{last}");
    assert_eq!(listed, [(key(1), "first"), (key(2), "third")], "what else lies there is not ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_uploads_of_s3_are_listed_page_by_page() {
    let (faults, settings) = failing_s3_settings();
    assert_listed_page_by_page(&faults, &*s3_backend(&settings, None).unwrap(), &settings.prefix).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_uploads_of_google_cloud_storage_are_listed_page_by_page() {
    let settings = gcs_settings().await;
    let faults = gcs_server().await.faults();
    assert_listed_page_by_page(faults, &*gcs_backend(&settings).unwrap(), &settings.prefix).await;
}
