//! Blobs that no repository holds.

use crate::{BATCH, Error, House, Sorted, verdict};
use longshore_metadata::{BlobsOutcome, Deleted, Review, ReviewPage};
use tokio::time::Instant;

/// Deletes every blob that nobody holds, and condemns its object: its bytes go once the reads that are under way have
/// ended. Ends early where that were too many.
pub(crate) async fn collect(house: &House) -> Result<Deleted, Error> {
    let mut total = Deleted::default();
    let mut after = Review::FIRST;
    loop {
        let began = Instant::now();
        let page = house.metadata.review_blobs(ReviewPage { after, only_due: true, limit: BATCH }).await?;
        let Some((last, _)) = page.found.last() else { return Ok(total) };
        after = *last;
        house.clock.look(page.now)?;
        let mut sorted = Sorted::default();
        for (review, facts) in page.found {
            sorted.add(review, verdict::of_blob(facts.as_ref()), || Some(review));
        }
        house.metadata.keep_blobs(sorted.kept).await?;
        if !sorted.condemned.is_empty() {
            match house.metadata.delete_unheld_blobs(sorted.condemned, house.rules.breaker).await? {
                BlobsOutcome::Deleted(deleted) => total += deleted,
                BlobsOutcome::Stopped => return Ok(total),
            }
        }
        house.pace.rest(began).await;
    }
}
