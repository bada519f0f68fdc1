//! The bytes of objects that no row names any more.

use crate::{Error, House};
use longshore_storage::ObjectKey;
use std::time::Duration;

/// Keys claimed at once.
const BATCH: u32 = 100;
/// How long a claim keeps other replicas away; a replica that dies leaves its claims to them after this.
const HOLD: Duration = Duration::from_secs(300);

/// Deletes the bytes of every condemned object whose time has come. The tombstone goes last: if we die in between,
/// the delete is done once more, and finding nothing is success.
pub(crate) async fn delete_condemned(house: &House) -> Result<u64, Error> {
    let mut total = 0;
    loop {
        let due = house.metadata.claim_tombstones(BATCH, HOLD).await?;
        for tombstone in &due {
            match tombstone.key.parse::<ObjectKey>() {
                Ok(key) => house.storage.delete(&key, tombstone.size, tombstone.multipart.as_deref()).await?,
                Err(error) => tracing::error!(%error, "a tombstone has no usable key"),
            }
            house.metadata.drop_tombstone(&tombstone.key).await?;
            total += 1;
        }
        if due.len() < BATCH as usize {
            return Ok(total);
        }
    }
}
