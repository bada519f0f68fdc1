//! Nothing may be left behind: after expired uploads are collected, the disk holds what the database names.

use std::fs;
use std::path::Path;

use crate::database::{Database, Object};
use crate::eventually::eventually;

/// Waits until the collector, which must run at short intervals and delete without delay, has ended every session and
/// deleted every condemned object; then compares the files below `storage` with the database, names and sizes.
pub(crate) async fn assert_none(database: &Database, storage: &Path) {
    eventually("no session and no condemned object is left", || async {
        (database.sessions().await == 0 && database.tombstones().await == 0).then_some(())
    })
    .await;
    let named = database.objects().await;
    assert!(named.iter().all(|object| object.state == "live"), "no session is open, yet objects are being written");
    let named: Vec<(String, u64)> = named.iter().map(name_and_size).collect();
    assert_eq!(object_files(storage), named, "files on the disk, and objects in the database");
}

fn name_and_size(object: &Object) -> (String, u64) {
    let name = object.key.strip_prefix("objects/").expect("every key has the prefix").to_owned();
    (name, u64::try_from(object.size).expect("no size is negative"))
}

/// Names and lengths of the objects' files, in the order of the names.
fn object_files(storage: &Path) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    for part in fs::read_dir(storage.join("objects")).expect("the objects' folder can be read") {
        for file in fs::read_dir(part.expect("a folder").path()).expect("a part of it can be read") {
            let file = file.expect("a file");
            let length = file.metadata().expect("the file is still there").len();
            files.push((file.file_name().to_string_lossy().into_owned(), length));
        }
    }
    files.sort_unstable();
    files
}
