//! The bytes of objects that no row names any more.

use crate::{Error, Event, House};
use longshore_metadata::{Deleted, Tombstone};
use longshore_storage::ObjectKey;
use std::time::Duration;
use tokio::time::Instant;

/// Keys claimed at once: as many as S3 deletes in one request.
const BATCH: u32 = 1000;
/// How long a claim keeps other replicas away; a replica that dies leaves its claims to them after this.
const HOLD: Duration = Duration::from_secs(300);

/// Deletes the bytes of every condemned object whose time has come. Tombstones go last: if we die in between, the delete is
/// done once more, and finding nothing is success. Whatever stops collection meanwhile, here or at another replica, and a
/// clock that is moved: the bytes that are left stay.
///
/// # Errors
/// One that an object met, after all others have had their turn: its tombstone stays claimed, and is due again when the
/// claim has run out.
pub(crate) async fn delete_condemned(house: &House, report: &mut impl FnMut(Event)) -> Result<(), Error> {
    let mut failed = None;
    loop {
        let began = Instant::now();
        if house.is_halted().await? {
            break;
        }
        let due = house.metadata.claim_tombstones(BATCH, HOLD).await?;
        // Once more: it may have been by a clock that was moved just now that they were due.
        if due.is_empty() || house.is_halted().await? {
            break;
        }
        let is_last = due.len() < BATCH as usize;
        // One that was never whole may have parts, which have to be asked for.
        let (whole, never_whole): (Vec<_>, Vec<_>) = due.into_iter().partition(|tombstone| tombstone.size > 0);
        match delete_all(house, &whole).await {
            Ok(deleted) => report(Event::Objects(deleted)),
            Err(Error::Storage(error)) => {
                tracing::debug!(%error, "condemned objects are deleted one by one");
                delete_one_by_one(house, &whole, report, &mut failed).await?;
            }
            Err(error) => return Err(error),
        }
        delete_one_by_one(house, &never_whole, report, &mut failed).await?;
        if is_last {
            break;
        }
        house.pace.rest(began).await;
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Deletes them in as few requests as the store can.
async fn delete_all(house: &House, tombstones: &[Tombstone]) -> Result<Deleted, Error> {
    let objects: Vec<_> = tombstones.iter().filter_map(|tombstone| Some((key(tombstone)?, tombstone.size))).collect();
    house.storage.delete_all(&objects).await?;
    house.metadata.drop_tombstones(tombstones.iter().map(|tombstone| tombstone.key.clone()).collect()).await?;
    let bytes = tombstones.iter().map(|tombstone| tombstone.size).sum();
    Ok(Deleted { count: tombstones.len() as u64, bytes })
}

async fn delete_one_by_one(
    house: &House,
    tombstones: &[Tombstone],
    report: &mut impl FnMut(Event),
    failed: &mut Option<longshore_storage::Error>,
) -> Result<(), Error> {
    for tombstone in tombstones {
        match delete(house, tombstone).await {
            Ok(()) => report(Event::Objects(Deleted { count: 1, bytes: tombstone.size })),
            Err(Error::Storage(error)) => {
                tracing::warn!(key = tombstone.key, %error, "a condemned object was not deleted");
                *failed = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn delete(house: &House, tombstone: &Tombstone) -> Result<(), Error> {
    if let Some(key) = key(tombstone) {
        house.storage.delete(&key, tombstone.size, tombstone.multipart.as_deref()).await?;
    }
    Ok(house.metadata.drop_tombstones(vec![tombstone.key.clone()]).await?)
}

fn key(tombstone: &Tombstone) -> Option<ObjectKey> {
    tombstone.key.parse().inspect_err(|error| tracing::error!(%error, "a tombstone has no usable key")).ok()
}
