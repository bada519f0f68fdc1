//! Manifests that neither a tag nor an index nor a subject keeps.

use crate::{BATCH, Error, House, Sorted, verdict};
use longshore_metadata::{CondemnedManifest, Deleted, Review, ReviewPage};
use tokio::time::Instant;

/// Deletes every manifest whose time has come. What it kept (children, referrers, layers) is queued by the database.
pub(crate) async fn collect(house: &House) -> Result<Deleted, Error> {
    let mut total = Deleted::default();
    let mut after = Review::FIRST;
    loop {
        let began = Instant::now();
        let page = house.metadata.review_manifests(ReviewPage { after, only_due: true, limit: BATCH }).await?;
        let Some((last, _)) = page.found.last() else { return Ok(total) };
        after = *last;
        house.clock.look(page.now)?;
        let mut sorted = Sorted::default();
        for (review, facts) in page.found {
            let verdict = verdict::of_manifest(facts.as_ref(), &house.rules, page.now);
            let condemned = |facts: longshore_metadata::ManifestFacts| {
                let untagged_since = facts.untagged_since?;
                Some(CondemnedManifest { review, repository: facts.repository, untagged_since })
            };
            sorted.add(review, verdict, || facts.and_then(condemned));
        }
        house.metadata.keep_manifests(sorted.kept, sorted.until).await?;
        if !sorted.condemned.is_empty() {
            total += house.metadata.delete_unkept_manifests(sorted.condemned).await?;
        }
        house.pace.rest(began).await;
    }
}
