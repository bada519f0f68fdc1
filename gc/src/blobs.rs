//! Blobs that no repository holds. Their objects are condemned: the bytes go once the reads that are under way have ended.

use crate::{BATCH, Error, House, Sorted, verdict};
use longshore_metadata::{Deleted, GarbageOutcome, Review, ReviewPage};

/// Reads the due reviews after this one; none where there are none.
pub(crate) async fn look(house: &House, after: Review) -> Result<Option<Sorted<Review>>, Error> {
    let page = house.metadata.review_blobs(ReviewPage { after, only_due: true, limit: BATCH }).await?;
    let Some((last, _)) = page.found.last() else { return Ok(None) };
    house.clock.look(page.now)?;
    let mut sorted = Sorted::until(*last);
    for (review, facts) in page.found {
        sorted.add(review, &verdict::of_blob(facts.as_ref()), || Some(review));
    }
    Ok(Some(sorted))
}

/// Ends the reviews, and deletes what nobody holds still.
///
/// # Errors
/// [`Error::TooMuch`] where that were too many: none is deleted then.
pub(crate) async fn act(house: &House, sorted: Sorted<Review>) -> Result<Deleted, Error> {
    house.metadata.keep_blobs(sorted.kept).await?;
    if sorted.condemned.is_empty() {
        return Ok(Deleted::default());
    }
    match house.metadata.delete_unheld_blobs(sorted.condemned, house.rules.breaker).await? {
        GarbageOutcome::Deleted(deleted) => Ok(deleted),
        GarbageOutcome::Stopped => Err(Error::TooMuch),
    }
}
