//! The past of tags that is too old to be told.

use crate::{BATCH, Error, House};
use longshore_metadata::HistoryPlace;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked for: what a tag still names is as old, and is looked at each time.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Forgets what tags named so long ago that nobody is told of it.
pub(crate) async fn forget_old(house: &House) -> Result<(), Error> {
    if !house.history_walks.is_time(INTERVAL) {
        return Ok(());
    }
    let mut after = HistoryPlace::FIRST;
    loop {
        let began = Instant::now();
        if house.is_halted().await? {
            return Ok(());
        }
        let came_to = house.metadata.forget_history(house.rules.tag_history, after, BATCH).await?;
        let Some(last) = came_to else { return Ok(()) };
        after = last;
        house.pace.rest(began).await;
    }
}

#[cfg(test)]
mod tests {
    use crate::Collector;
    use crate::place::{Place, place};
    use longshore_oci::{Digest, Tag};
    use std::time::Duration;

    /// Makes everything that happened to tags older than `gc.tag_history`, by more each time.
    const A_YEAR_LATER: &str = "UPDATE tag_history SET changed_at = changed_at - 31622400000000";

    /// What a tag has named, newest first; none where it was deleted.
    async fn past(place: &Place, tag: &str) -> Vec<Option<Digest>> {
        let tag: Tag = tag.parse().unwrap();
        let changes = place.metadata.tag_changes(&"app".parse().unwrap(), &tag, None, 10).await.unwrap();
        changes.into_iter().map(|change| change.digest).collect()
    }

    async fn delete_tag(place: &Place, tag: &str) {
        let tag: Tag = tag.parse().unwrap();
        assert!(place.metadata.delete_tag(&"app".parse().unwrap(), &tag, None).await.unwrap());
    }

    async fn pass(collector: &Collector) {
        collector.pass(|_| ()).await.unwrap();
    }

    #[tokio::test]
    async fn what_tags_named_long_ago_is_forgotten_and_what_they_name_is_not() {
        let place = place(Duration::ZERO).await;
        let first = place.push_manifest("app", "first", &[], &["untouched", "moved", "deleted"]).await;
        let second = place.push_manifest("app", "second", &[], &["moved"]).await;
        delete_tag(&place, "deleted").await;
        place.pass().await;
        assert_eq!(past(&place, "moved").await, [Some(second), Some(first)], "it is not old yet");
        assert_eq!(past(&place, "deleted").await, [None, Some(first)]);

        for _ in 0..3 {
            place.execute(A_YEAR_LATER).await;
            place.pass().await;
            assert_eq!(past(&place, "untouched").await, [Some(first)], "however long ago it was");
            assert_eq!(past(&place, "moved").await, [Some(second)]);
            assert_eq!(past(&place, "deleted").await, []);
        }
    }

    #[tokio::test]
    async fn more_than_a_page_of_what_stays_hides_nothing_that_goes() {
        let place = place(Duration::ZERO).await;
        let tags: Vec<String> = (0..=super::BATCH).map(|number| format!("untouched-{number}")).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let kept = place.push_manifest("app", "kept", &[], &tags).await;
        place.push_manifest("app", "gone", &[], &["deleted"]).await;
        delete_tag(&place, "deleted").await;
        place.execute(A_YEAR_LATER).await;
        place.pass().await;
        assert_eq!(past(&place, "deleted").await, []);
        for tag in tags {
            assert_eq!(past(&place, tag).await, [Some(kept)], "{tag}");
        }
    }

    #[tokio::test]
    async fn a_process_looks_for_it_once_a_day() {
        let place = place(Duration::ZERO).await;
        let collector = place.collector();
        pass(&collector).await;
        let digest = place.push_manifest("app", "manifest", &[], &["deleted"]).await;
        delete_tag(&place, "deleted").await;
        place.execute(A_YEAR_LATER).await;
        pass(&collector).await;
        assert_eq!(past(&place, "deleted").await, [None, Some(digest)], "it has just looked");
        pass(&place.collector()).await;
        assert_eq!(past(&place, "deleted").await, [], "a process that starts has not");
    }
}
