//! What survives: neighbours of a failed write, a full disk, the end of the process.

use crate::content::{image, inline_blob, repository};
use crate::database::{Database, Empty, connect};
use crate::inside::Inside;
use futures_util::future::join_all;
use longshore_metadata::{CommitOutcome, ConnectOptions, Error, Metadata, PutInlineBlob};
use longshore_oci::{Algorithm, Digest};
use longshore_tests::programs::{program, require_root, run};
use longshore_tests::scratch::Scratch;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

on_both_engines!(
    a_failed_write_tells_its_own_error_and_undoes_nobody_elses,
    many_writes_at_once_all_land,
    what_was_answered_is_there_after_the_process_has_ended,
    a_closed_database_says_so,
);

async fn find(metadata: &Metadata, digest: &Digest) -> bool {
    metadata.find_blob(&repository("app"), digest).await.unwrap().is_some()
}

async fn a_failed_write_tells_its_own_error_and_undoes_nobody_elses(database: Database) {
    // One commit among them cannot be: its session has no object. One object's key is taken.
    let impossible = database.attached_upload("app", "objects/taken", "layer").await;
    database.inside.execute("UPDATE uploads SET object_id = NULL", &[]).await.unwrap();
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    // On SQLite the writer cannot begin while this is open, so that all that follows shares one group.
    let gate = match &database.inside {
        Inside::Sqlite(pool) => Some(pool.begin_with("BEGIN IMMEDIATE").await.unwrap()),
        Inside::Postgres(_) => None,
    };
    let put = |number: usize| database.metadata.put_inline_blob(inline_blob("app", &format!("blob {number}")));
    let open_gate = async {
        tokio::task::yield_now().await; // every write is in line by now: they were polled before
        if let Some(gate) = gate {
            gate.commit().await.unwrap();
        }
    };
    let (before, damaged, between, refused, after, ()) = tokio::join!(
        join_all((0..10).map(put)),
        database.metadata.commit_upload(impossible),
        join_all((10..20).map(put)),
        database.metadata.attach_object(address.id, fence, "objects/taken", "files"),
        join_all((20..30).map(put)),
        open_gate,
    );
    for written in before.into_iter().chain(between).chain(after) {
        written.unwrap();
    }
    assert!(matches!(damaged, Err(Error::Damaged { table: "uploads", .. })), "{damaged:?}");
    let Err(Error::Statement(refused)) = refused else { panic!("{refused:?}") };
    let is_taken = refused.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    assert!(is_taken, "{refused}");
    assert_eq!(database.inside.count("SELECT count(*) FROM blobs").await, 30);
    // The failed commit has undone all of itself, and the session goes on.
    assert_eq!(database.inside.count("SELECT count(*) FROM uploads").await, 2);
    assert!(database.metadata.attach_object(address.id, fence, "objects/free", "files").await.unwrap());
}

async fn many_writes_at_once_all_land(database: Database) {
    let contents: Vec<String> = (0..500).map(|number| format!("blob {number}")).collect();
    let writes = contents.iter().map(|content| database.metadata.put_inline_blob(inline_blob("app", content)));
    for written in join_all(writes).await {
        written.unwrap();
    }
    assert_eq!(database.inside.count("SELECT count(*) FROM repository_blobs").await, 500);
    for content in &contents {
        assert!(find(&database.metadata, &Digest::of(Algorithm::Sha256, content.as_bytes())).await, "{content}");
    }
}

async fn what_was_answered_is_there_after_the_process_has_ended(database: Database) {
    let digest = database.push_blob("app", "blob").await;
    let session = database.attached_upload("app", "objects/1", "layer").await;
    let manifest = image("app", "manifest", &["blob"]);
    // Closing waits for what is under way.
    let closing = database.metadata.clone();
    let (committed, stored, ()) = tokio::join!(
        database.metadata.commit_upload(session),
        database.metadata.put_manifest(manifest.clone()),
        async { closing.close().await },
    );
    assert_eq!(committed.unwrap(), CommitOutcome::Committed);
    stored.unwrap();
    let again = database.another_process().await;
    assert!(find(&again, &digest).await);
    assert!(again.find_manifest(&repository("app"), &manifest.digest).await.unwrap().is_some());
    assert_eq!(again.migration_status().await.unwrap().pending, []);
}

async fn a_closed_database_says_so(database: Database) {
    database.metadata.close().await;
    database.metadata.close().await;
    let written = database.metadata.put_inline_blob(inline_blob("app", "late")).await;
    assert!(matches!(written, Err(Error::Unavailable(_))), "{written:?}");
    let read = database.metadata.list_repositories("", 1).await;
    assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
}

#[tokio::test]
async fn an_address_that_is_no_database_is_refused_without_repeating_it() {
    for url in [
        "mysql://root:secret@host/name",
        "",
        "/data/longshore.db",
        "sqlite::memory:",
        "sqlite:",
        "postgres://:secret@host:port",
    ] {
        let options = ConnectOptions {
            url: url.to_owned(),
            max_connections: 1,
            acquire_timeout: Duration::from_secs(1),
            cache_size: 0,
        };
        let error = Metadata::connect(&options).await.expect_err(url);
        assert!(matches!(error, Error::Address { .. }), "{url}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_unavailable() {
    // Port 1 of this machine: nothing listens there.
    let url = "postgres://postgres@127.0.0.1:1/longshore".to_owned();
    let options = ConnectOptions { url, max_connections: 1, acquire_timeout: Duration::from_secs(1), cache_size: 0 };
    let error = Metadata::connect(&options).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
}

/// The mode is a property of the file (bytes 18 and 19 of its header are 2 for a write-ahead log), so it is seen from
/// outside. `synchronous` is one of the connection: a unit test of the module asks the connections themselves.
#[tokio::test]
async fn the_sqlite_file_has_a_write_ahead_log() {
    let empty = Empty::sqlite();
    let metadata = empty.connect().await;
    metadata.migrate().await.unwrap();
    metadata.close().await;
    let header = fs::read(empty.url.strip_prefix("sqlite:").unwrap()).unwrap();
    assert_eq!(header[18..20], [2, 2]);
}

/// A disk of so many MiB, of the test's own: unmounted and removed with the test.
fn small_disk(mebibytes: u32) -> Scratch {
    require_root("mount, with which this test makes a disk that it can fill,");
    let scratch = Scratch::new("small-disk");
    let disk = scratch.directory("disk");
    run(program("mount").args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"]).arg(&disk));
    scratch
}

fn ballast(disk: &Path, bytes: u64) {
    let file = File::create(disk.join("ballast")).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(1), bytes), &mut &file).unwrap();
}

fn half_a_mebibyte(number: u8) -> PutInlineBlob {
    let content = vec![number; 512 * 1024];
    PutInlineBlob { repository: repository("app"), digest: Digest::of(Algorithm::Sha256, &content), content }
}

#[tokio::test]
async fn a_full_disk_is_told_loses_nothing_and_is_recovered_from() {
    let scratch = small_disk(16);
    let disk = scratch.join("disk");
    let url = format!("sqlite:{}", disk.join("longshore.db").display());
    let metadata = connect(&url).await;
    metadata.migrate().await.unwrap();
    ballast(&disk, 4 << 20);

    let mut written = Vec::new();
    let refused = loop {
        let blob = half_a_mebibyte(u8::try_from(written.len()).unwrap());
        let digest = blob.digest;
        match metadata.put_inline_blob(blob).await {
            Ok(()) => written.push(digest),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::DiskFull(_)), "{refused:?}");
    assert!(!written.is_empty());
    // So are those who share the commit.
    let group = (0..4).map(|number| metadata.put_inline_blob(half_a_mebibyte(100 + number)));
    let group = join_all(group).await;
    assert!(group.iter().all(|written| matches!(written, Err(Error::DiskFull(_)))), "{group:?}");
    for digest in &written {
        assert!(find(&metadata, digest).await, "reads go on");
    }

    fs::remove_file(disk.join("ballast")).unwrap();
    let after = half_a_mebibyte(200);
    written.push(after.digest);
    metadata.put_inline_blob(after).await.unwrap();
    metadata.close().await;

    let again = connect(&url).await;
    for digest in &written {
        assert!(find(&again, digest).await);
    }
    let inside = Inside::open(&url).await;
    assert_eq!(inside.count("SELECT count(*) FROM blobs").await, written.len() as i64);
    assert_eq!(inside.texts("PRAGMA integrity_check").await, ["ok"]);
    again.close().await;
}
