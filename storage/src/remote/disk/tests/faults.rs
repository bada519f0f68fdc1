//! A disk that is damaged behind our back, fails, is full, hangs or is too slow.

use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::os::unix::fs::{FileExt, symlink};
use tokio::time::advance;

fn make_pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Lets go of whoever waits for the other end of a pipe.
fn release_pipe(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[tokio::test(start_paused = true)]
async fn damage_is_a_miss_and_is_removed() {
    let (folder, key, size) = (folder(), ObjectKey::random(), 6 * MIB);
    let disk = open(folder.path(), 100).await;
    fill(&disk, &key, size).await;
    let file = |number| file_of(folder.path(), &key, number, SEGMENT as u32);
    let open_file = |number| OpenOptions::new().write(true).open(file(number)).unwrap();
    // A bit, the end, everything, another segment's bytes.
    open_file(0).write_all_at(&[bytes_of(&key, 0, 1)[0] ^ 1], 0).unwrap();
    open_file(1).set_len(MIB - 1).unwrap();
    open_file(2).set_len(0).unwrap();
    fs::copy(file(4), file(3)).unwrap();
    assert_eq!(right(&disk, &key, size).await, 2);
    let usage = disk.usage();
    assert_eq!((usage.corrupt, usage.errors, usage.bytes), (4, 0, 2 * MIB));
    assert_eq!(files(folder.path()).len(), 2);
    fill(&disk, &key, size).await;
    assert_eq!(right(&disk, &key, size).await, 6, "it is taken anew");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_is_left_alone_for_a_while() {
    let (folder, key, size) = (folder(), ObjectKey::random(), 6 * MIB);
    let disk = open(folder.path(), 100).await;
    fill(&disk, &key, size).await;
    for number in 0..u64::from(TOLERANCE) {
        let file = file_of(folder.path(), &key, number, SEGMENT as u32);
        fs::remove_file(&file).unwrap();
        // Its first byte cannot be read: EIO.
        symlink("/proc/self/mem", &file).unwrap();
        assert!(disk.usage().is_on);
        assert_eq!(disk.read(&key, size, number..number + 1).count().await, 0);
    }
    let usage = disk.usage();
    assert_eq!((usage.errors, usage.corrupt, usage.is_on), (4, 0, false));
    assert!(disk.held(&key, size, 4..6).is_empty(), "nothing is asked of it");
    assert_eq!(disk.first_held(&key, size, 4..6), None);
    fill(&disk, &ObjectKey::random(), MIB).await;
    assert_eq!(files(folder.path()).len(), 2, "nor given to it");
    advance(Duration::from_secs(60)).await;
    assert_eq!(right(&disk, &key, size).await, 2);
    assert!(disk.usage().is_on);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_gets_some_room_back_and_nothing_new_for_a_while() {
    let (folder, key, size) = (folder(), ObjectKey::random(), 16 * MIB);
    let disk = open(folder.path(), 1000).await;
    fill(&disk, &key, size).await;
    let full = ObjectKey::random();
    let file = file_of(folder.path(), &full, 0, SEGMENT as u32);
    make_part(&file);
    symlink("/dev/full", file).unwrap();
    fill(&disk, &full, MIB).await;
    let usage = disk.usage();
    assert_eq!((usage.errors, usage.is_on, usage.bytes), (1, false, 15 * MIB));
    assert_eq!(files(folder.path()).len(), 15, "and nothing is left of what was being written");
    let later = ObjectKey::random();
    fill(&disk, &later, MIB).await;
    assert_eq!(right(&disk, &later, MIB).await, 0);
    assert_eq!(right(&disk, &key, size).await, 15, "what is there is read");
    advance(Duration::from_secs(60)).await;
    fill(&disk, &later, MIB).await;
    assert_eq!(right(&disk, &later, MIB).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_holds_up_nobody_for_long() {
    let (folder, key, size) = (folder(), ObjectKey::random(), 4 * MIB);
    let disk = open(folder.path(), 100).await;
    fill(&disk, &key, size).await;
    let pipes: Vec<_> = (0..4).map(|number| file_of(folder.path(), &key, number, SEGMENT as u32)).collect();
    for pipe in &pipes {
        fs::remove_file(pipe).unwrap();
        make_pipe(pipe); // to open it is to wait for ever
    }
    for errors in 1..=u64::from(TOLERANCE) {
        assert!(disk.usage().is_on);
        // Threads are at work, so time passes by our doing only.
        let (read, ()) = tokio::join!(disk.read(&key, size, 0..1).count(), advance(PATIENCE * 2));
        assert_eq!((read, disk.usage().errors), (0, errors));
    }
    assert!(!disk.usage().is_on);
    assert!(disk.held(&key, size, 0..4).is_empty(), "nobody waits for it any more");
    // A thread that comes only now finds no pipe to wait at.
    let ends: Vec<_> = pipes.iter().map(|pipe| release_pipe(pipe)).collect();
    pipes.iter().for_each(|pipe| fs::remove_file(pipe).unwrap());
    drop(ends);
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_disk_cannot_take_is_dropped() {
    let (folder, key) = (folder(), ObjectKey::random());
    let disk = DiskCache::open(folder.path(), 100 * MIB, 16 * MIB).unwrap();
    disk.settle().await;
    // None is written while we do not wait for anything, and two have room in the queue.
    for number in 0..5 {
        disk.offer(&key, number, 5 * MIB, &bytes_of(&key, number, SEGMENT as u32));
    }
    assert_eq!(disk.usage().dropped_writes, 3);
    disk.settle().await;
    assert_eq!(right(&disk, &key, 5 * MIB).await, 2);
}
