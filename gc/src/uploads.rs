//! Sessions that nobody goes on with, and deleted manifests that can be brought back no more.

use crate::{Error, Event, House};
use tokio::time::Instant;

/// Sessions in one transaction: few, so that no writer waits for long.
const BATCH: u32 = 100;

/// Ends every session that has expired, and condemns its object, unless something holds collection up.
pub(crate) async fn expire(house: &House, report: &mut impl FnMut(Event)) -> Result<(), Error> {
    loop {
        let began = Instant::now();
        if house.is_halted().await? {
            return Ok(());
        }
        let expired = house.metadata.expire_uploads(BATCH).await?;
        report(Event::UploadsExpired(expired.sessions));
        if expired.sessions < u64::from(BATCH) {
            return Ok(());
        }
        house.pace.rest(began).await;
    }
}

/// Forgets every manifest that a client deleted so long ago that it cannot be brought back.
pub(crate) async fn forget_deleted(house: &House) -> Result<(), Error> {
    loop {
        let began = Instant::now();
        if house.is_halted().await? || house.metadata.forget_deleted(BATCH).await? < u64::from(BATCH) {
            return Ok(());
        }
        house.pace.rest(began).await;
    }
}
