//! Holds of repositories on blobs: they end with their lease, unless a manifest needs the blob.

use crate::{BATCH, Error, House, Sorted, verdict};
use longshore_metadata::{CondemnedGrant, Deleted, Review, ReviewPage};

/// Reads the due reviews after this one; none where there are none.
pub(crate) async fn look(house: &House, after: Review) -> Result<Option<Sorted<CondemnedGrant>>, Error> {
    let page = house.metadata.review_grants(ReviewPage { after, only_due: true, limit: BATCH }).await?;
    let Some((last, _)) = page.found.last() else { return Ok(None) };
    house.clock.look(page.now)?;
    let mut sorted = Sorted::until(*last);
    for (review, facts) in page.found {
        let verdict = verdict::of_grant(facts.as_ref(), page.now);
        let condemned =
            facts.map(|facts| CondemnedGrant { review, repository: facts.repository, digest: facts.digest });
        sorted.add(review, &verdict, || condemned);
    }
    Ok(Some(sorted))
}

/// Ends the reviews, and deletes what nothing keeps still.
pub(crate) async fn act(house: &House, sorted: Sorted<CondemnedGrant>) -> Result<Deleted, Error> {
    house.metadata.keep_grants(sorted.kept, sorted.postponed).await?;
    if sorted.condemned.is_empty() {
        return Ok(Deleted::default());
    }
    Ok(house.metadata.delete_unkept_grants(sorted.condemned).await?)
}
