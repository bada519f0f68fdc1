//! When all clients have stopped: everything that a tag names is there, the store and the database agree, and when all
//! tags have been deleted nothing is left.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use longshore_tests::client::Client;
use longshore_tests::random::Random;
use longshore_tests::server::{Said, Server};
use reqwest::StatusCode;
use serde_json::Value;

use crate::caller::Caller;
use crate::slot::Slot;
use crate::soak::doors;
use crate::tally::Tally;

/// How often is looked whether all has been collected. Each look is a process that compares everything.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An index goes after a while, its images a while later, then their blobs, then their bytes: some twenty seconds where
/// nothing else takes time.
const PATIENCE: Duration = Duration::from_secs(300);

/// Reads everything that a tag names, from each replica.
pub(crate) async fn assert_whole(replicas: &[Server], slots: &[Arc<Slot>], random: &mut Random) {
    for door in doors(replicas) {
        let mut caller = Caller::new(vec![door], random.fork(), Arc::new(Tally::default()));
        for slot in slots {
            let Some(held) = slot.held() else { continue };
            let read = caller.read_tag(slot, &held).await;
            assert_eq!(read, Ok(()), "{}:{} has lost something", slot.repository, slot.tag);
        }
    }
}

/// Compares the store with the database, with all the garbage that waits in both.
pub(crate) fn assert_consistent(replicas: &mut [Server]) {
    at_rest(replicas, |server| {
        let said = fsck(server);
        assert_eq!(said.code, Some(0), "{said:?}");
        println!("with its garbage: {}", said.output.trim());
    });
}

/// Deletes all tags. All else goes by itself, to the last row and byte.
pub(crate) async fn assert_empties(replicas: &mut [Server], slots: &[Arc<Slot>]) {
    let door = Client::new(replicas[0].url());
    for slot in slots.iter().filter(|slot| slot.held().is_some()) {
        let target = format!("/v2/{}/manifests/{}", slot.repository, slot.tag);
        assert_eq!(door.delete(&target).await.status(), StatusCode::ACCEPTED, "{target}");
    }
    let begun = Instant::now();
    loop {
        // Its exit code is looked at below, when nothing changes any more.
        let said = fsck(&replicas[0]);
        if counted(&said) == Some((0, 0)) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "this is left and does not go: {said:?}");
        tokio::time::sleep(LOOK_EVERY).await; // a server tells nobody that it is through: it is asked again
    }
    at_rest(replicas, |server| {
        let said = fsck(server);
        assert_eq!((said.code, counted(&said)), (Some(0), Some((0, 0))), "{said:?}");
        let files = files_below(&server.storage_directory().join("objects")).expect("the folder can be read");
        assert_eq!(files, 0, "files of objects that nobody has");
        println!("when all was deleted: {} after {:?}", said.output.trim(), begun.elapsed());
    });
}

/// While no server runs, so that nothing changes while it is compared.
fn at_rest(replicas: &mut [Server], look: impl FnOnce(&Server)) {
    for server in replicas.iter_mut() {
        server.terminate();
    }
    look(&replicas[0]);
    for server in replicas {
        server.restart();
    }
}

fn fsck(server: &Server) -> Said {
    server.run(&["fsck", "--older-than", "0s", "--output", "json"])
}

/// Objects of the store, and rows that were looked at; none where it did not come to its end.
fn counted(said: &Said) -> Option<(u64, u64)> {
    let counted: Value = serde_json::from_str(said.output.lines().last()?).ok()?;
    Some((counted["objects"].as_u64()?, counted["rows"].as_u64()?))
}

/// None where objects are not files.
fn files_below(folder: &Path) -> io::Result<u64> {
    let mut files = 0;
    for entry in if folder.exists() { fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()? } else { vec![] } {
        files += if entry.path().is_dir() { files_below(&entry.path())? } else { 1 };
    }
    Ok(files)
}
