//! Manifests that neither a tag nor an index nor a subject keeps. What such a one kept (children, referrers, layers) is
//! queued by the database when it goes.

use crate::{BATCH, Error, House, Sorted, verdict};
use longshore_metadata::{CondemnedManifest, Deleted, GarbageOutcome, ManifestFacts, Review, ReviewPage};

/// Reads the due reviews after this one; none where there are none.
pub(crate) async fn look(house: &House, after: Review) -> Result<Option<Sorted<CondemnedManifest>>, Error> {
    let page = house.metadata.review_manifests(ReviewPage { after, only_due: true, limit: BATCH }).await?;
    let Some((last, _)) = page.found.last() else { return Ok(None) };
    house.clock.look(page.now)?;
    let mut sorted = Sorted::until(*last);
    for (review, facts) in page.found {
        let verdict = verdict::of_manifest(facts.as_ref(), &house.rules, page.now);
        let condemned = |facts: ManifestFacts| {
            let untagged_since = facts.untagged_since?;
            Some(CondemnedManifest { review, repository: facts.repository, digest: facts.digest, untagged_since })
        };
        sorted.add(review, &verdict, || facts.and_then(condemned));
    }
    Ok(Some(sorted))
}

/// Ends the reviews, and deletes what is still as it was found.
///
/// # Errors
/// [`Error::TooMuch`] where that were too many: none is deleted then.
pub(crate) async fn act(house: &House, sorted: Sorted<CondemnedManifest>) -> Result<Deleted, Error> {
    house.metadata.keep_manifests(sorted.kept, sorted.postponed).await?;
    if sorted.condemned.is_empty() {
        return Ok(Deleted::default());
    }
    delete(house, sorted.condemned).await
}

/// Deletes manifests that nothing keeps, whoever found them: of all together only so many may go.
///
/// # Errors
/// [`Error::TooMuch`] where that were too many: none is deleted then.
pub(crate) async fn delete(house: &House, condemned: Vec<CondemnedManifest>) -> Result<Deleted, Error> {
    match house.metadata.delete_unkept_manifests(condemned, house.rules.breaker).await? {
        GarbageOutcome::Deleted(deleted) => Ok(deleted),
        GarbageOutcome::Stopped => Err(Error::TooMuch),
    }
}
