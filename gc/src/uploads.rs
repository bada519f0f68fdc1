//! Sessions that nobody goes on with, and deleted manifests that can be brought back no more.

use crate::{Error, House};
use tokio::time::Instant;

/// Sessions in one transaction: few, so that no writer waits for long.
const BATCH: u32 = 100;

/// Ends every session that has expired, and condemns its object.
pub(crate) async fn expire(house: &House) -> Result<u64, Error> {
    let mut total = 0;
    loop {
        let began = Instant::now();
        let expired = house.metadata.expire_uploads(BATCH).await?;
        total += expired.sessions;
        if expired.sessions < u64::from(BATCH) {
            return Ok(total);
        }
        house.pace.rest(began).await;
    }
}

/// Forgets every manifest that a client deleted so long ago that it cannot be brought back.
pub(crate) async fn forget_deleted(house: &House) -> Result<(), Error> {
    loop {
        let began = Instant::now();
        if house.metadata.forget_deleted(BATCH).await? < u64::from(BATCH) {
            return Ok(());
        }
        house.pace.rest(began).await;
    }
}
