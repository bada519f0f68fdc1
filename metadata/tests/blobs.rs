//! Blobs: what is stored is found, and only where it was granted.

use crate::content::{digest_of, image, inline_blob, repository};
use crate::database::Database;
use longshore_metadata::{BlobContent, BlobRecord, CommitOutcome, CommitUpload, DeleteOutcome, MountOutcome};
use longshore_oci::{Algorithm, Digest};

on_both_engines!(
    a_small_blob_lives_in_its_row,
    the_empty_blob_is_a_blob,
    a_large_blob_is_found_by_its_key,
    content_that_is_here_already_is_kept_once,
    a_sha512_digest_is_a_digest_of_its_own,
    a_digest_that_is_elsewhere_is_not_known_here,
    a_mount_grants_what_the_source_holds,
    a_mount_from_a_repository_without_the_blob_changes_nothing,
    holders_come_in_byte_order_and_no_more_than_asked_for,
    a_delete_takes_the_blob_from_this_repository_only,
    a_blob_in_use_stays_and_its_user_is_named,
);

fn inline(content: &str) -> BlobRecord {
    BlobRecord { size: content.len() as u64, content: BlobContent::Inline(content.as_bytes().to_vec().into()) }
}

async fn a_small_blob_lives_in_its_row(database: Database) {
    let digest = database.push_blob("app", "a config").await;
    let found = database.metadata.find_blob(&repository("app"), &digest).await.unwrap();
    assert_eq!(found, Some(inline("a config")));
    assert_eq!(database.inside.count("SELECT count(*) FROM objects").await, 0);
}

async fn the_empty_blob_is_a_blob(database: Database) {
    let digest = database.push_blob("app", "").await;
    assert_eq!(database.metadata.find_blob(&repository("app"), &digest).await.unwrap(), Some(inline("")));
    assert_eq!(database.metadata.promise_blob(&repository("app"), &digest).await.unwrap(), Some(0));
    database.push(image("app", "manifest", &[""])).await;
    let deleted = database.metadata.delete_blob(&repository("app"), &digest).await.unwrap();
    assert_eq!(deleted, DeleteOutcome::InUse { by: digest_of("manifest") });
}

async fn a_large_blob_is_found_by_its_key(database: Database) {
    const SIZE: u64 = 6 << 30;
    let commit = database.attached_upload("app", "objects/1", "a layer").await;
    let commit = CommitUpload { size: SIZE, ..commit };
    let digest = commit.digest;
    assert_eq!(database.metadata.commit_upload(commit).await.unwrap(), CommitOutcome::Committed);
    let found = database.metadata.find_blob(&repository("app"), &digest).await.unwrap();
    let content = BlobContent::Object { key: "objects/1".into() };
    assert_eq!(found, Some(BlobRecord { size: SIZE, content }));
    assert_eq!(database.metadata.promise_blob(&repository("app"), &digest).await.unwrap(), Some(SIZE));
    let live = "SELECT size FROM objects WHERE state = 'live'";
    assert_eq!(database.inside.number(live, &[]).await, Some(SIZE as i64));
}

async fn content_that_is_here_already_is_kept_once(database: Database) {
    for name in ["one", "two", "one"] {
        database.push_blob(name, "shared").await;
    }
    assert_eq!(database.inside.count("SELECT count(*) FROM blobs").await, 1);
    assert_eq!(database.inside.count("SELECT count(*) FROM repository_blobs").await, 2);
}

async fn a_sha512_digest_is_a_digest_of_its_own(database: Database) {
    let by_sha256 = database.push_blob("app", "content").await;
    let by_sha512 = Digest::of(Algorithm::Sha512, b"content");
    let app = repository("app");
    let find = || database.metadata.find_blob(&app, &by_sha512);
    assert_eq!(find().await.unwrap(), None);
    let mut blob = inline_blob("app", "content");
    blob.digest = by_sha512;
    database.metadata.put_inline_blob(blob).await.unwrap();
    assert_eq!(find().await.unwrap(), Some(inline("content")));
    assert!(database.metadata.find_blob(&repository("app"), &by_sha256).await.unwrap().is_some());
}

async fn a_digest_that_is_elsewhere_is_not_known_here(database: Database) {
    let digest = database.push_blob("secret", "content").await;
    database.push_blob("here", "other content").await;
    for name in ["here", "never-seen"] {
        let here = repository(name);
        assert_eq!(database.metadata.find_blob(&here, &digest).await.unwrap(), None);
        assert_eq!(database.metadata.promise_blob(&here, &digest).await.unwrap(), None);
        assert_eq!(database.metadata.delete_blob(&here, &digest).await.unwrap(), DeleteOutcome::Unknown);
        let mounted = database.metadata.mount_blob(&repository("target"), &here, &digest).await.unwrap();
        assert_eq!(mounted, MountOutcome::NotThere);
    }
    assert!(database.metadata.find_blob(&repository("secret"), &digest).await.unwrap().is_some());
}

async fn a_mount_grants_what_the_source_holds(database: Database) {
    let digest = database.upload_blob("from", "objects/1", "layer").await;
    let (from, target) = (repository("from"), repository("new/target"));
    assert_eq!(database.metadata.mount_blob(&target, &from, &digest).await.unwrap(), MountOutcome::Mounted);
    let (there, here) = (database.metadata.find_blob(&from, &digest), database.metadata.find_blob(&target, &digest));
    let (there, here) = (there.await.unwrap(), here.await.unwrap());
    assert!(here.is_some());
    assert_eq!(here, there);
}

async fn a_mount_from_a_repository_without_the_blob_changes_nothing(database: Database) {
    let digest = database.push_blob("from", "layer").await;
    let (target, wrong) = (repository("target"), repository("wrong"));
    assert_eq!(database.metadata.mount_blob(&target, &wrong, &digest).await.unwrap(), MountOutcome::NotThere);
    assert_eq!(database.metadata.find_blob(&target, &digest).await.unwrap(), None);
    assert_eq!(database.inside.count("SELECT count(*) FROM repositories WHERE name = 'target'").await, 0);
}

async fn holders_come_in_byte_order_and_no_more_than_asked_for(database: Database) {
    for name in ["b/c", "b-c", "b.c", "a", "b", "b_c"] {
        database.push_blob(name, "shared").await;
    }
    database.push_blob("other", "something else").await;
    let holders = database.metadata.repositories_holding(&digest_of("shared"), 10).await.unwrap();
    let expected = ["a", "b", "b-c", "b.c", "b/c", "b_c"].map(repository);
    assert_eq!(holders, expected);
    let holders = database.metadata.repositories_holding(&digest_of("shared"), 2).await.unwrap();
    assert_eq!(holders, expected[..2]);
    assert_eq!(database.metadata.repositories_holding(&digest_of("unknown"), 10).await.unwrap(), []);
}

async fn a_delete_takes_the_blob_from_this_repository_only(database: Database) {
    let digest = database.push_blob("one", "shared").await;
    database.push_blob("two", "shared").await;
    let (one, two) = (repository("one"), repository("two"));
    assert_eq!(database.metadata.delete_blob(&one, &digest).await.unwrap(), DeleteOutcome::Deleted);
    assert_eq!(database.metadata.find_blob(&one, &digest).await.unwrap(), None);
    assert_eq!(database.metadata.promise_blob(&one, &digest).await.unwrap(), None);
    assert_eq!(database.metadata.delete_blob(&one, &digest).await.unwrap(), DeleteOutcome::Unknown);
    assert!(database.metadata.find_blob(&two, &digest).await.unwrap().is_some());
}

async fn a_blob_in_use_stays_and_its_user_is_named(database: Database) {
    let digest = database.push_blob("app", "layer").await;
    database.push_blob("unused", "layer").await;
    let manifest = database.push(image("app", "manifest", &["layer"])).await;
    let app = repository("app");
    let outcome = database.metadata.delete_blob(&app, &digest).await.unwrap();
    assert_eq!(outcome, DeleteOutcome::InUse { by: manifest });
    assert!(database.metadata.find_blob(&app, &digest).await.unwrap().is_some());
    // A use in one repository holds nothing in another.
    let outcome = database.metadata.delete_blob(&repository("unused"), &digest).await.unwrap();
    assert_eq!(outcome, DeleteOutcome::Deleted);
    database.metadata.delete_manifest(&app, &manifest, None).await.unwrap();
    assert_eq!(database.metadata.delete_blob(&app, &digest).await.unwrap(), DeleteOutcome::Deleted);
}
