//! The disk below: one process holds the folder, a full disk loses nothing, and what is durable really is on the disk.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use bytes::Bytes;
use futures_util::TryStreamExt;
use longshore_oci::Algorithm;
use longshore_storage::{BlobHasher, Error, FileStore, FileWriter, ObjectKey};
use longshore_tests::programs::{program, require_root, run};
use longshore_tests::scratch::Scratch;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const MIB: usize = 1024 * 1024;

fn sha256() -> BlobHasher {
    BlobHasher::new(Algorithm::Sha256)
}

#[test]
fn the_second_process_is_locked_out_until_the_first_has_ended() {
    let folder = TempDir::new().unwrap();
    let first = FileStore::open(folder.path(), 0).unwrap();
    let clone = first.clone();
    let second = || FileStore::open(folder.path(), 0);
    assert!(matches!(second(), Err(Error::Locked { path }) if path == folder.path()));
    drop(first);
    assert!(matches!(second(), Err(Error::Locked { .. })), "a clone still works on it");
    drop(clone);
    second().unwrap();
}

#[test]
fn missing_folders_are_made() {
    let folder = TempDir::new().unwrap();
    let deep = folder.path().join("a/b/c");
    drop(FileStore::open(&deep, 0).unwrap());
    assert_eq!(fs::read_dir(deep.join("objects")).unwrap().count(), 256);
    FileStore::open(&deep, 0).unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    File::create(&file).unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = FileStore::open(&path, 0).unwrap_err();
        assert!(matches!(error, Error::Folder { .. }), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

/// A disk of so many MiB, of the test's own: unmounted and removed with the test.
fn small_disk(mebibytes: usize) -> Scratch {
    require_root("mount, with which this test makes a disk that it can fill,");
    let scratch = Scratch::new("small-disk");
    let disk = scratch.directory("disk");
    run(program("mount").args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"]).arg(&disk));
    scratch
}

/// Writes until the disk is full.
async fn fill(writer: &mut FileWriter) -> Error {
    loop {
        if let Err(error) = writer.write(vec![2; MIB].into()).await {
            return error;
        }
        if let Err(error) = writer.sync().await {
            return error;
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_what_was_durable_stays() {
    let scratch = small_disk(8);
    let disk = scratch.join("disk");
    let files = FileStore::open(&disk.join("storage"), 0).unwrap();
    let key = ObjectKey::random();
    let mut writer = files.create(key.clone(), sha256(), Vec::new()).await.unwrap();
    writer.write(vec![1; MIB].into()).await.unwrap();
    let durable = writer.sync().await.unwrap();

    let refused = fill(&mut writer).await;
    assert!(matches!(refused, Error::DiskFull(_)), "{refused:?}");
    // The writer has lost its place and says so, whatever it is asked.
    assert!(matches!(writer.sync().await, Err(Error::Io { .. })));
    drop(writer);
    let refused = files.create(ObjectKey::random(), sha256(), vec![0; MIB]).await.unwrap_err();
    assert!(matches!(refused, Error::DiskFull(_)), "{refused:?}");

    let kept: Vec<Bytes> = files.read(&key, 0..durable.length).await.unwrap().try_collect().await.unwrap();
    assert_eq!(kept.concat(), vec![1; MIB]);

    // Resuming cuts off what did not fit, and that is room again.
    let mut writer = files.resume(key.clone(), durable.hasher, durable.length).await.unwrap();
    writer.write(vec![3; MIB].into()).await.unwrap();
    let durable = writer.sync().await.unwrap();
    let whole: Vec<Bytes> = files.read(&key, 0..durable.length).await.unwrap().try_collect().await.unwrap();
    assert_eq!(whole.concat(), [vec![1; MIB], vec![3; MIB]].concat());
}

/// Bytes of this thread's dirty pages that a truncation threw away before they reached the disk.
fn cancelled_writes() -> u64 {
    let account = fs::read_to_string("/proc/thread-self/io").expect("Linux counts I/O per thread");
    let line = account.lines().find_map(|line| line.strip_prefix("cancelled_write_bytes: "));
    line.unwrap().parse().unwrap()
}

/// How many bytes of the file had not reached the disk. The file is empty afterwards.
fn not_on_disk(file: &Path) -> u64 {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    let before = cancelled_writes();
    file.set_len(0).unwrap();
    cancelled_writes() - before
}

fn only_file(folder: &Path) -> PathBuf {
    let parts = fs::read_dir(folder.join("objects")).unwrap();
    let mut files = parts.flat_map(|part| fs::read_dir(part.unwrap().path()).unwrap());
    files.next().unwrap().unwrap().path()
}

/// The kernel knows whether `sync` brought the bytes to the disk: pages that are thrown away while they are dirty are
/// counted. (That the folder was synced cannot be seen from here.)
#[tokio::test]
async fn durable_bytes_have_reached_the_disk() {
    let folder = Scratch::new("durable");
    // First the instrument: bytes that nobody synced are dirty, unless the kernel happened to write them just now.
    let unsynced = folder.join("unsynced");
    let seen = (0..100).any(|_| {
        File::create(&unsynced).unwrap().write_all(&vec![1; MIB]).unwrap();
        not_on_disk(&unsynced) == MIB as u64
    });
    assert!(seen, "the disk below {} does not tell dirty pages: use another target directory", folder.path().display());

    let files = FileStore::open(&folder.join("storage"), 0).unwrap();
    let mut writer = files.create(ObjectKey::random(), sha256(), vec![1; MIB]).await.unwrap();
    writer.write(vec![2; 3 * MIB].into()).await.unwrap();
    writer.write(vec![3; 17].into()).await.unwrap();
    writer.sync().await.unwrap();
    assert_eq!(not_on_disk(&only_file(&folder.join("storage"))), 0);
}

/// How many bytes the file takes on its disk: more than it is long where room is reserved for it.
fn on_disk(file: &Path) -> u64 {
    fs::metadata(file).unwrap().blocks() * 512
}

/// What an object that grows quickly takes of the disk beyond its bytes: nothing once it is durable or cut back.
#[tokio::test]
async fn room_reserved_in_vain_is_given_back() {
    let folder = Scratch::new("reserved");
    let files = FileStore::open(&folder.join("storage"), 0).unwrap();
    let key = ObjectKey::random();
    let length = 9 * MIB as u64;
    let mut writer = files.create(key.clone(), sha256(), Vec::new()).await.unwrap();
    writer.write(vec![1; length as usize].into()).await.unwrap();
    writer.flush().await.unwrap();
    let file = only_file(&folder.join("storage"));
    assert!(on_disk(&file) >= length + 4 * MIB as u64, "no room is reserved: {}", on_disk(&file));
    let durable = writer.sync().await.unwrap();
    assert!((length..length + MIB as u64).contains(&on_disk(&file)), "{}", on_disk(&file));

    writer.write(vec![2; MIB].into()).await.unwrap();
    writer.flush().await.unwrap();
    assert!(on_disk(&file) >= length + 4 * MIB as u64, "no room is reserved: {}", on_disk(&file));
    drop(writer);
    files.cut(&key, durable.length).await.unwrap();
    assert!((length..length + MIB as u64).contains(&on_disk(&file)), "{}", on_disk(&file));
}
