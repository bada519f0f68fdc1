//! A backup, and the way back to it: the bytes of what went since are there, as long as condemned objects wait.

use crate::{
    collection::Collection,
    damage,
    expected::{Expected, Repository},
    faulty::Fault,
    operation::{BLOBS, REPOSITORIES},
    play::Outcome,
    world::{OBJECT_DELAY, World},
};
use bytes::Bytes;
use longshore_gc::{Backup as Taken, BackupError, Finding, Piece};
use std::time::Duration;

/// A backup, and what was known when it was taken.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    bytes: Bytes,
    at: Duration,
    repositories: [Repository; REPOSITORIES],
}

/// Takes one; the one before is thrown away.
pub(crate) async fn back_up(world: &World, expected: &mut Expected, replica: usize) -> Outcome {
    let mut whole = Vec::new();
    let written = async {
        let taken = Taken::begin(&world.replica(replica).metadata, "model").await?;
        let write = taken.write(async |piece: Piece| {
            let (Piece::Body(bytes) | Piece::End(bytes)) = piece;
            whole.extend_from_slice(&bytes);
            Ok::<(), BackupError>(())
        });
        write.await
    };
    written.await.map_err(|error| error.to_string())?;
    let (at, repositories) = (expected.now, expected.repositories.clone());
    expected.backup = Some(Backup { bytes: whole.into(), at, repositories });
    Ok(())
}

/// Goes back to it, if it is not too old: all is as it was, and what was promised then is promised anew.
pub(crate) async fn restore(world: &mut World, expected: &mut Expected) -> Outcome {
    let Some(backup) = expected.backup.clone() else { return Ok(()) };
    if expected.now >= backup.at + OBJECT_DELAY {
        return Ok(());
    }
    world.faulty.plan(|_, _| Fault::None);
    world.restore(backup.bytes, expected.now).await.map_err(|error| format!("nothing was restored: {error}"))?;
    expected.repositories = backup.repositories;
    expected.collection = Collection::held(expected.now);
    expected.promise_anew(backup.at);
    for finding in damage::beside(world, true).await? {
        if !matches!(finding, Finding::Stray { .. }) {
            return Err(format!("after a restore: {finding}"));
        }
    }
    expected.is_damaged = [false; BLOBS];
    damage::find(world, expected, 0).await
}
