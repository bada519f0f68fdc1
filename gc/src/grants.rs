//! Holds of repositories on blobs: they end with their lease, unless a manifest needs the blob.

use crate::{BATCH, Error, House, Sorted, verdict};
use longshore_metadata::{CondemnedGrant, Deleted, Review, ReviewPage};
use tokio::time::Instant;

/// Deletes every hold whose time has come.
pub(crate) async fn collect(house: &House) -> Result<Deleted, Error> {
    let mut total = Deleted::default();
    let mut after = Review::FIRST;
    loop {
        let began = Instant::now();
        let page = house.metadata.review_grants(ReviewPage { after, only_due: true, limit: BATCH }).await?;
        let Some((last, _)) = page.found.last() else { return Ok(total) };
        after = *last;
        house.clock.look(page.now)?;
        let mut sorted = Sorted::default();
        for (review, facts) in page.found {
            let verdict = verdict::of_grant(facts.as_ref(), page.now);
            let condemned =
                facts.map(|found| CondemnedGrant { review, repository: found.repository, digest: found.digest });
            sorted.add(review, verdict, || condemned);
        }
        house.metadata.keep_grants(sorted.kept, sorted.until).await?;
        if !sorted.condemned.is_empty() {
            total += house.metadata.delete_unkept_grants(sorted.condemned).await?;
        }
        house.pace.rest(began).await;
    }
}
