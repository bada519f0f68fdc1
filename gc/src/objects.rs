//! The bytes of objects that no row names any more.

use crate::{Error, House};
use longshore_metadata::{Deleted, Tombstone};
use longshore_storage::ObjectKey;
use std::time::Duration;

/// Keys claimed at once.
const BATCH: u32 = 100;
/// How long a claim keeps other replicas away; a replica that dies leaves its claims to them after this.
const HOLD: Duration = Duration::from_secs(300);

/// Deletes the bytes of every condemned object whose time has come. The tombstone goes last: if we die in between,
/// the delete is done once more, and finding nothing is success.
///
/// # Errors
/// One that an object met, after all others have had their turn: its tombstone stays claimed, and is due again when the
/// claim has run out.
pub(crate) async fn delete_condemned(house: &House) -> Result<Deleted, Error> {
    let mut total = Deleted::default();
    let mut failed = None;
    loop {
        let due = house.metadata.claim_tombstones(BATCH, HOLD).await?;
        for tombstone in &due {
            match delete(house, tombstone).await {
                Ok(()) => total += Deleted { count: 1, bytes: tombstone.size },
                Err(Error::Storage(error)) => {
                    tracing::warn!(key = tombstone.key, %error, "a condemned object was not deleted");
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        if due.len() < BATCH as usize {
            return failed.map_or(Ok(total), |error| Err(error.into()));
        }
    }
}

async fn delete(house: &House, tombstone: &Tombstone) -> Result<(), Error> {
    match tombstone.key.parse::<ObjectKey>() {
        Ok(key) => house.storage.delete(&key, tombstone.size, tombstone.multipart.as_deref()).await?,
        Err(error) => tracing::error!(%error, "a tombstone has no usable key"),
    }
    Ok(house.metadata.drop_tombstone(&tombstone.key).await?)
}
