//! A cache on a real disk. Time stands still while threads are at work: however busy the machine is, no read is late.

mod faults;
mod in_any_order;

use super::*;
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};
use tempfile::TempDir;

const MIB: u64 = SEGMENT;
/// Memory for reads, of which the longest queue takes a part.
const MEMORY: u64 = 1024 * MIB;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn open(folder: &Path, mib: u64) -> DiskCache {
    let disk = DiskCache::open(folder, mib * MIB, MEMORY).unwrap();
    disk.settle().await;
    assert!(disk.usage().is_on);
    disk
}

/// The bytes of a segment, different for each.
fn bytes_of(key: &ObjectKey, number: u64, length: u32) -> Bytes {
    let seed = crc_fast::crc64_nvme(format!("{key} {number}").as_bytes());
    let words = (0..u64::from(length).div_ceil(8)).flat_map(|place| (seed ^ place).to_le_bytes());
    words.take(length as usize).collect::<Vec<_>>().into()
}

/// Offers all segments of an object.
async fn fill(disk: &DiskCache, key: &ObjectKey, size: u64) {
    for number in 0..size.div_ceil(SEGMENT) {
        disk.offer(key, number, size, &bytes_of(key, number, length_of(number, size)));
    }
    disk.settle().await;
}

/// How many segments of an object are there and right; none is there and wrong.
async fn right(disk: &DiskCache, key: &ObjectKey, size: u64) -> u64 {
    let mut right = 0;
    for number in 0..size.div_ceil(SEGMENT) {
        let read: Vec<_> = disk.read(key, size, number..number + 1).collect().await;
        if let [bytes] = &read[..] {
            assert!(bytes_of(key, number, length_of(number, size)) == *bytes, "segment {number} is wrong");
            right += 1;
        }
    }
    right
}

/// The files of the cache, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for part in fs::read_dir(folder.join("segments")).unwrap() {
        files.extend(fs::read_dir(part.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    files.sort();
    files
}

fn bytes_on_disk(folder: &Path) -> u64 {
    files(folder).iter().map(|file| fs::metadata(file).unwrap().len().next_multiple_of(4096)).sum()
}

/// Where a segment's file is, or will be.
fn file_of(folder: &Path, key: &ObjectKey, number: u64, length: u32) -> PathBuf {
    let stored = Stored::new(SegmentId::new(key, number).unwrap(), &bytes_of(key, number, length));
    folder.join("segments").join(stored.part()).join(stored.name())
}

/// The folder of a file that is not there yet.
fn make_part(file: &Path) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
}

fn refusal(path: &Path, size: u64) -> String {
    DiskCache::open(path, size, MEMORY).unwrap_err().to_string()
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_is_there_after_a_restart() {
    let (folder, key, size) = (folder(), ObjectKey::random(), 5 * MIB + 17);
    let disk = open(folder.path(), 100).await;
    assert_eq!(right(&disk, &key, size).await, 0);
    fill(&disk, &key, size).await;
    assert_eq!(right(&disk, &key, size).await, 6);
    let usage = disk.usage();
    assert_eq!((usage.hits, usage.misses, usage.bytes), (6, 6, 5 * MIB + 64 * 1024));
    drop(disk);
    let disk = open(folder.path(), 100).await;
    assert_eq!(disk.usage().bytes, usage.bytes);
    assert_eq!(disk.held(&key, size, 1..6), 1..6);
    assert_eq!(right(&disk, &key, size).await, 6);
    assert_eq!(right(&disk, &ObjectKey::random(), size).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_read_in_order_up_to_what_is_missing() {
    let (folder, key, size) = (folder(), ObjectKey::random(), 16 * MIB);
    let disk = open(folder.path(), 1000).await;
    fill(&disk, &key, size).await;
    fs::remove_file(file_of(folder.path(), &key, 11, SEGMENT as u32)).unwrap();
    let run: Vec<_> = disk.read(&key, size, 2..16).collect().await;
    assert_eq!(run.len(), 9);
    for (number, bytes) in (2..).zip(&run) {
        assert!(bytes_of(&key, number, SEGMENT as u32) == *bytes, "{number}");
    }
    assert_eq!(disk.held(&key, size, 2..16), 2..11, "what is not there is known to be not there");
    assert_eq!(disk.first_held(&key, size, 11..16), Some(12));
    assert_eq!(disk.usage().errors, 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_removes_what_is_torn_reads_no_segment_and_leaves_alone_what_is_not_ours() {
    let (folder, key, size) = (folder(), ObjectKey::random(), 4 * MIB);
    let disk = open(folder.path(), 100).await;
    fill(&disk, &key, size).await;
    drop(disk);
    let file = |number| file_of(folder.path(), &key, number, SEGMENT as u32);
    OpenOptions::new().write(true).open(file(0)).unwrap().set_len(MIB / 2).unwrap();
    // What a power cut may leave: the length without the bytes. Only its checksum tells, when it is read.
    fs::remove_file(file(1)).unwrap();
    File::create(file(1)).unwrap().set_len(MIB).unwrap();
    let strangers = ["segments/notes.txt", "segments/00/notes.txt", "notes.txt"].map(|name| folder.path().join(name));
    for stranger in &strangers {
        make_part(stranger);
        fs::write(stranger, "mine").unwrap();
    }
    let disk = open(folder.path(), 100).await;
    assert!(!file(0).exists());
    assert_eq!(disk.held(&key, size, 1..4), 1..4);
    assert_eq!(right(&disk, &key, size).await, 2);
    assert_eq!(disk.usage().corrupt, 1);
    assert!(strangers.iter().all(|stranger| stranger.exists()));
}

#[tokio::test(start_paused = true)]
async fn a_smaller_cache_begins_with_what_was_used_last() {
    let (folder, old, new) = (folder(), ObjectKey::random(), ObjectKey::random());
    let disk = open(folder.path(), 100).await;
    fill(&disk, &old, 4 * MIB).await;
    fill(&disk, &new, 4 * MIB).await;
    drop(disk);
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(24 * 60 * 60);
    for file in files(folder.path()) {
        File::open(file).unwrap().set_modified(yesterday).unwrap();
    }
    let disk = open(folder.path(), 100).await;
    assert_eq!(right(&disk, &new, 4 * MIB).await, 4, "and that is noted");
    drop(disk);
    let disk = open(folder.path(), 4).await;
    assert_eq!(disk.held(&new, 4 * MIB, 0..4), 0..4);
    assert_eq!(files(folder.path()).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_disk_never_holds_more_than_it_may() {
    let folder = folder();
    let disk = open(folder.path(), 16).await;
    let objects: Vec<_> = (0..20).map(|_| ObjectKey::random()).collect();
    for key in &objects {
        fill(&disk, key, 2 * MIB - 5).await;
        assert!(bytes_on_disk(folder.path()) <= 16 * MIB);
    }
    assert_eq!(files(folder.path()).len(), 16);
    assert_eq!(right(&disk, &objects[19], 2 * MIB - 5).await, 2);
    let large = ObjectKey::random();
    fill(&disk, &large, 3 * MIB).await;
    assert_eq!(disk.first_held(&large, 3 * MIB, 0..3), None, "no object may take more than an eighth");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_goes_from_the_disk() {
    let (folder, deleted, kept) = (folder(), ObjectKey::random(), ObjectKey::random());
    let disk = open(folder.path(), 100).await;
    fill(&disk, &deleted, 3 * MIB).await;
    fill(&disk, &kept, 3 * MIB).await;
    disk.forget(&deleted, 3 * MIB);
    assert_eq!(right(&disk, &deleted, 3 * MIB).await, 0);
    disk.settle().await;
    assert_eq!(files(folder.path()).len(), 3);
    assert_eq!(right(&disk, &kept, 3 * MIB).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_used_is_told() {
    let folder = folder();
    let disk = open(folder.path(), 100).await;
    let told = refusal(folder.path(), MIB);
    assert!(told.ends_with("another longshore works in it. Give each one a folder of its own"), "{told}");
    drop(disk);
    let told = refusal(folder.path(), 1 << 50);
    assert!(told.contains("storage.disk_cache.size is 1024TiB, and its file system has "), "{told}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let told = refusal(&file, MIB);
    assert!(told.ends_with("Choose a folder for storage.disk_cache.path that can be made and written"), "{told}");
    let told = refusal(Path::new("/proc/longshore"), MIB);
    assert!(told.starts_with("/proc/longshore, of storage.disk_cache, cannot be used"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn other_users_do_not_read_along() {
    let (folder, key) = (folder(), ObjectKey::random());
    let disk = open(folder.path(), 100).await;
    fill(&disk, &key, MIB).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("segments")), 0o700);
    assert_eq!(mode(&files(folder.path())[0]), 0o600);
}
