use super::*;
use crate::place::{Place, place};
use longshore_metadata::NewUpload;
use longshore_oci::Algorithm;
use longshore_storage::{Backend, BlobHasher, RemoteStore, memory_backend};
use std::sync::Arc;

const LOOK: FsckOptions = FsckOptions { repair: false, all: false, older_than: Duration::ZERO };
const REPAIR: FsckOptions = FsckOptions { repair: true, ..LOOK };
const REPAIR_ALL: FsckOptions = FsckOptions { all: true, ..REPAIR };

impl Place {
    async fn fsck(&self, options: FsckOptions) -> (Checked, Vec<Finding>) {
        let mut found = Vec::new();
        let checked =
            fsck(&self.metadata, &self.storage, options, |finding| found.push(finding.clone())).await.unwrap();
        assert_eq!(checked.findings, found.len() as u64);
        (checked, found)
    }

    async fn only_object(&self) -> StoredObject {
        let objects = self.metadata.objects_after(0, 2).await.unwrap();
        let [object] = objects.as_slice() else { panic!("{objects:?}") };
        object.clone()
    }

    /// An object that no row names.
    async fn stray(&self) -> ObjectKey {
        let key = ObjectKey::random();
        let hasher = BlobHasher::new(Algorithm::Sha256);
        let mut writer = self.storage.create(key.clone(), hasher, b"stray".to_vec()).await.unwrap();
        writer.hash().await.unwrap();
        key
    }
}

fn digest(content: &str) -> Digest {
    Digest::of(Algorithm::Sha256, content.as_bytes())
}

#[tokio::test]
async fn a_registry_in_use_is_as_it_should_be() {
    let place = place(Duration::ZERO).await;
    place.push_object("app", "layer").await;
    place.push_object("app", "of no manifest").await;
    place.push_manifest("app", "manifest", &["layer"], &["latest"]).await;
    place.push_manifest("app", "untagged", &["layer"], &[]).await;
    place.upload(Duration::from_secs(60)).await;
    let (checked, found) = place.fsck(REPAIR).await;
    assert_eq!(found, []);
    assert_eq!(checked.objects, 3);
}

#[tokio::test]
async fn a_lost_object_is_told_and_its_blob_can_be_pushed_anew() {
    let place = place(Duration::ZERO).await;
    place.push_object("app", "layer").await;
    let object = place.only_object().await;
    let key: ObjectKey = object.key.parse().unwrap();
    place.storage.delete(&key, object.size, None).await.unwrap();
    let lost = Finding::Lost { key: object.key, digest: digest("layer"), reason: "it is not there".to_owned() };
    assert_eq!(place.fsck(LOOK).await.1, std::slice::from_ref(&lost));
    let app = "app".parse().unwrap();
    assert!(place.metadata.find_blob(&app, &digest("layer")).await.unwrap().is_some(), "it was only looked at");
    assert_eq!(place.fsck(REPAIR).await.1, [lost]);
    assert!(place.metadata.find_blob(&app, &digest("layer")).await.unwrap().is_none());
    place.push_object("app", "layer").await;
    assert!(place.metadata.find_blob(&app, &digest("layer")).await.unwrap().is_some());
    assert_eq!(place.fsck(LOOK).await.1, []);
}

/// As where nothing is mounted, or something else.
#[tokio::test]
async fn objects_are_not_lost_by_the_dozen_unless_somebody_says_so() {
    let place = place(Duration::ZERO).await;
    place.push_objects(30).await;
    for object in place.metadata.objects_after(0, 100).await.unwrap() {
        std::fs::remove_file(place.file(&object.key.parse().unwrap())).unwrap();
    }
    assert_eq!(place.fsck(LOOK).await.1.len(), 30);
    let refused = fsck(&place.metadata, &place.storage, REPAIR, |_| ()).await;
    assert!(matches!(refused, Err(Error::TooMuchToRepair { what: "lost", found: 30, total: 30 })), "{refused:?}");
    assert_eq!(place.metadata.count_damaged().await.unwrap(), 0);
    assert_eq!(place.fsck(REPAIR_ALL).await.1.len(), 30);
    assert_eq!(place.metadata.count_damaged().await.unwrap(), 30);
    place.execute("CREATE TRIGGER again BEFORE INSERT ON damaged_blobs BEGIN SELECT RAISE(ABORT, 'again'); END").await;
    assert_eq!(place.fsck(REPAIR).await.1.len(), 30, "there is nothing to mend in what is known");
}

#[tokio::test]
async fn a_lost_object_of_many_is_mended() {
    let place = place(Duration::ZERO).await;
    place.push_objects(30).await;
    let object = place.metadata.objects_after(0, 1).await.unwrap().remove(0);
    std::fs::remove_file(place.file(&object.key.parse().unwrap())).unwrap();
    assert_eq!(place.fsck(REPAIR).await.1.len(), 1);
    assert_eq!(place.metadata.count_damaged().await.unwrap(), 1);
}

/// As with the database of another registry, or of another time.
#[tokio::test]
async fn objects_are_not_condemned_by_the_dozen_unless_somebody_says_so() {
    let place = place(Duration::ZERO).await;
    place.push_object("app", "layer").await;
    for _ in 0..30 {
        place.stray().await;
    }
    let refused = fsck(&place.metadata, &place.storage, REPAIR, |_| ()).await;
    assert!(matches!(refused, Err(Error::TooMuchToRepair { what: "stray", found: 30, total: 31 })), "{refused:?}");
    assert_eq!(place.fsck(LOOK).await.1.len(), 30);
    assert_eq!(place.fsck(REPAIR_ALL).await.1.len(), 30);
    assert_eq!(place.fsck(LOOK).await.1, [], "they are condemned");
}

#[test]
fn it_is_too_much_where_it_is_many_and_a_tenth_of_all() {
    assert!(!is_too_much(20, 20));
    assert!(is_too_much(21, 21));
    assert!(is_too_much(21, 209));
    assert!(!is_too_much(21, 210));
    assert!(!is_too_much(0, 0));
}

#[tokio::test]
async fn what_was_deleted_after_it_was_listed_is_no_stray() {
    let place = place(Duration::ZERO).await;
    let (there, gone) = (place.stray().await, ObjectKey::random());
    let listed = vec![(there.clone(), 5), (gone, 5)];
    let strays = strays_among(&place.metadata, &place.storage, Duration::ZERO, listed).await.unwrap();
    let strays: Vec<String> = strays.into_iter().map(|stray| stray.key).collect();
    assert_eq!(strays, [there.to_string()]);
}

#[tokio::test]
async fn an_object_of_another_length_is_lost() {
    let place = place(Duration::ZERO).await;
    place.push_object("app", "layer").await;
    let key: ObjectKey = place.only_object().await.key.parse().unwrap();
    std::fs::write(place.file(&key), "lay").unwrap();
    let found = place.fsck(LOOK).await.1;
    assert!(
        matches!(&found[..], [Finding::Lost { reason, .. }] if reason == "it has 3 bytes instead of 5"),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_stray_object_is_deleted_once_it_is_condemned() {
    let place = place(Duration::ZERO).await;
    let key = place.stray().await;
    let hour = FsckOptions { older_than: Duration::from_secs(3600), ..REPAIR };
    assert_eq!(place.fsck(hour).await.1, [], "it may belong to a server that starts");
    let stray = Finding::Stray { key: key.to_string(), size: 5 };
    assert_eq!(place.fsck(LOOK).await.1, std::slice::from_ref(&stray));
    assert_eq!(place.fsck(REPAIR).await.1, [stray]);
    assert_eq!(place.fsck(LOOK).await.1, [], "it is condemned");
    assert!(place.is_there(&key).await);
    place.pass().await;
    assert!(!place.is_there(&key).await);
}

/// Rows that no code of ours can leave behind.
#[tokio::test]
async fn what_garbage_collection_forgot_it_is_told_of() {
    let place = place(Duration::ZERO).await;
    place.push_object("app", "layer").await;
    place.push_object("gone", "loose").await;
    place.push_manifest("app", "untagged", &["layer"], &[]).await;
    place
        .execute("DELETE FROM repository_blobs WHERE repository_id = (SELECT id FROM repositories WHERE name = 'gone')")
        .await;
    place.execute("DELETE FROM gc_queue").await;
    let found = place.fsck(REPAIR).await.1;
    let app = Some("app".parse().unwrap());
    let forgotten = [
        Finding::Forgotten { repository: app, digest: digest("untagged"), table: Table::Manifests },
        Finding::Forgotten { repository: None, digest: digest("loose"), table: Table::Blobs },
    ];
    assert_eq!(found, forgotten);
    assert_eq!(place.fsck(LOOK).await.1, []);
}

#[tokio::test]
async fn a_hold_that_nothing_needs_and_a_row_that_nothing_names_are_found() {
    let place = place(Duration::ZERO).await;
    place.push_object("app", "layer").await;
    let (_, key) = place.upload(Duration::from_secs(60)).await;
    place.execute("DELETE FROM gc_queue").await;
    place.execute("DELETE FROM uploads").await;
    let found = place.fsck(REPAIR).await.1;
    let expected = [
        Finding::Unused { key: key.to_string(), size: 0 },
        Finding::Forgotten { repository: Some("app".parse().unwrap()), digest: digest("layer"), table: Table::Grants },
    ];
    assert_eq!(found, expected);
    assert_eq!(place.fsck(LOOK).await.1, []);
    place.pass().await;
    assert!(!place.is_there(&key).await);
}

#[tokio::test]
async fn bytes_in_rows_are_compared_with_their_digests() {
    let place = place(Duration::ZERO).await;
    place.push_manifest("app", "manifest", &[], &["latest"]).await;
    let blob = longshore_metadata::PutInlineBlob {
        repository: "app".parse().unwrap(),
        digest: digest("blob"),
        content: b"blob".to_vec(),
    };
    place.metadata.put_inline_blob(blob.clone()).await.unwrap();
    assert_eq!(place.fsck(LOOK).await.1, []);
    place.execute("UPDATE manifests SET body = X'00'").await;
    place.execute("UPDATE blobs SET inline = X'00'").await;
    let expected = [
        Finding::DamagedRow { repository: Some("app".parse().unwrap()), digest: digest("manifest") },
        Finding::DamagedRow { repository: None, digest: digest("blob") },
    ];
    let promised = async || place.metadata.promise_blob(&blob.repository, &blob.digest).await.unwrap().is_some();
    assert_eq!(place.fsck(LOOK).await.1, expected);
    assert!(promised().await, "it was only looked at");
    assert_eq!(place.fsck(REPAIR).await.1, expected);
    assert!(!promised().await);
    assert_eq!(place.metadata.count_damaged_manifests().await.unwrap(), 1);
    // What is known is told, and not written down again.
    place.execute("CREATE TRIGGER again BEFORE INSERT ON damaged_blobs BEGIN SELECT RAISE(ABORT, 'again'); END").await;
    place
        .execute("CREATE TRIGGER twice BEFORE INSERT ON damaged_manifests BEGIN SELECT RAISE(ABORT, 'again'); END")
        .await;
    assert_eq!(place.fsck(REPAIR).await.1, expected);
    place.metadata.put_inline_blob(blob.clone()).await.unwrap();
    place.push_manifest("app", "manifest", &[], &[]).await;
    assert!(promised().await);
    assert_eq!(place.fsck(LOOK).await.1, []);
}

#[tokio::test]
async fn a_namespace_that_was_added_up_wrongly_is_counted_anew() {
    let place = place(Duration::ZERO).await;
    place.push_object("app", "layer").await;
    place.push_manifest("app", "manifest", &["layer"], &["latest"]).await;
    place.metadata.add_up_usage().await.unwrap();
    place.push_object("app", "since then").await;
    assert_eq!(place.fsck(LOOK).await.1, []);
    place.execute("UPDATE namespace_usage SET bytes = bytes - 100").await;
    let usage = ComparedUsage { told: 23 - 100, counted: 23 };
    let miscounted = Finding::Miscounted { namespace: "app".to_owned(), usage };
    assert_eq!(place.fsck(LOOK).await.1, std::slice::from_ref(&miscounted));
    assert_eq!(place.fsck(REPAIR).await.1, [miscounted]);
    assert_eq!(place.fsck(LOOK).await.1, []);
    assert_eq!(place.metadata.namespace_usage("app").await.unwrap(), 23);
}

/// A store in memory in the place of the files.
async fn remote_place() -> (Place, Arc<dyn Backend>) {
    let backend = memory_backend();
    let storage = Storage::Remote(RemoteStore::new(backend.clone(), 0, 64 << 20));
    (Place { storage, ..place(Duration::ZERO).await }, backend)
}

/// A session that is about to fill this key.
async fn attach(place: &Place, key: &ObjectKey) {
    let upload = NewUpload {
        repository: "app".parse().unwrap(),
        principal: None,
        hash_state: BlobHasher::new(Algorithm::Sha256).save(),
        lifetime: Duration::from_secs(60),
    };
    let id = place.metadata.begin_upload(upload).await.unwrap();
    assert!(place.metadata.attach_object(id, 0, &key.to_string(), "memory").await.unwrap());
}

#[tokio::test]
async fn an_upload_that_no_row_names_is_told_and_ended_once_none_can_be_under_way() {
    let (place, backend) = remote_place().await;
    let old = |last: u8| format!("objects/0180000000007000800000000000000{last}").parse::<ObjectKey>().unwrap();
    let (lost, young, under_way) = (old(1), ObjectKey::random(), old(2));
    attach(&place, &under_way).await;
    let mut strays = Vec::new();
    for key in [&lost, &young] {
        strays.push(Finding::StrayUpload { key: key.to_string(), upload: backend.begin(key).await.unwrap() });
    }
    let named = backend.begin(&under_way).await.unwrap();
    let found = async |options: FsckOptions| {
        let mut found = place.fsck(options).await.1;
        found.sort_by_key(ToString::to_string);
        found
    };
    strays.sort_by_key(ToString::to_string);
    assert_eq!(found(LOOK).await, strays);
    assert_eq!(found(LOOK).await, strays, "it was only looked at");
    let hour = FsckOptions { older_than: Duration::from_secs(3600), ..LOOK };
    assert_eq!(found(hour).await.len(), 1, "one may belong to a server that starts");
    assert_eq!(found(REPAIR).await, strays);
    assert!(backend.uploads(&lost).await.unwrap().is_empty());
    assert_eq!(backend.uploads(&young).await.unwrap().len(), 1, "it may be another database's");
    assert_eq!(backend.uploads(&under_way).await.unwrap(), [named]);
    assert_eq!(found(LOOK).await.len(), 1);
}

/// A writer died before it could say what it had begun, and another one filled the object.
#[tokio::test]
async fn an_upload_that_was_left_beside_an_object_is_told() {
    let (place, backend) = remote_place().await;
    place.push_object("app", "layer").await;
    let key: ObjectKey = place.only_object().await.key.parse().unwrap();
    let upload = backend.begin(&key).await.unwrap();
    assert_eq!(place.fsck(LOOK).await.1, [Finding::StrayUpload { key: key.to_string(), upload }]);
}
