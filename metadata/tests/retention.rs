//! What retention rules are told of tags, and how tags go by them.

use crate::content::{digest_of, index, manifest, repository, tag, tagged};
use crate::database::{Database, TICK};
use crate::garbage::{NO_BREAKER, went};
use futures_util::future::join_all;
use longshore_metadata::{Breaker, CondemnedTag, PutManifest, TagFacts, TagPulls, TagsOutcome};
use longshore_oci::Digest;
use std::time::Duration;

on_both_engines!(
    tags_are_told_with_what_rules_ask,
    tags_are_told_in_pages,
    a_repository_is_looked_through_once_an_interval,
    replicas_look_through_a_repository_once,
    a_tag_that_is_as_it_was_found_goes,
    a_tag_that_was_pushed_moved_or_pulled_since_stays,
    rules_and_pushes_at_the_same_moment_leave_what_was_pushed,
    too_many_tags_stop_collection,
    old_generations_are_those_before_the_last_few,
    a_generation_that_an_index_or_a_subject_keeps_is_in_use,
    manifests_are_told_with_how_much_keeps_them,
);

const CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";
const HOUR: Duration = Duration::from_secs(3600);

impl Database {
    async fn tag_facts(&self, name: &str) -> TagFacts {
        let (_, facts) = self.metadata.tag_facts(&repository("app"), &tag(name)).await.unwrap().unwrap();
        facts
    }

    async fn condemned_tags(&self, names: &[&str]) -> Vec<CondemnedTag> {
        let mut condemned = Vec::new();
        for name in names {
            condemned.push(CondemnedTag { facts: self.tag_facts(name).await, by: "retention: rule".to_owned() });
        }
        condemned
    }

    async fn delete_by_rule(&self, condemned: Vec<CondemnedTag>, breaker: Breaker) -> TagsOutcome {
        self.metadata.delete_tags(&repository("app"), condemned, breaker).await.unwrap()
    }

    async fn tag_names(&self) -> Vec<String> {
        self.inside.texts("SELECT name FROM tags ORDER BY name").await
    }

    async fn pull(&self, name: &str, ago: Duration) {
        let pulls = TagPulls { repository: repository("app"), tag: tag(name), last: ago };
        assert_eq!(self.metadata.record_pulls_of_tags(&[pulls]).await.unwrap(), 1);
    }

    async fn push_cache(&self, body: &str, name: &str) -> Digest {
        let cache = PutManifest { config_media_type: Some(CACHE.to_owned()), ..manifest("app", body) };
        self.push(tagged(cache, &[name])).await
    }
}

async fn tags_are_told_with_what_rules_ask(database: Database) {
    let annotated = |body: &str, annotations: &str| PutManifest {
        annotations: Some(annotations.to_owned()),
        ..manifest("app", body)
    };
    let both = r#"{"land.longshore.expires-after":"2w","quay.expires-after":"1h"}"#;
    database.push(tagged(annotated("ours", both), &["ours"])).await;
    database.push(tagged(annotated("quay", r#"{"a":"b","quay.expires-after":"3d"}"#), &["quay"])).await;
    database.push(tagged(annotated("neither", r#"{"a":"b"}"#), &["neither"])).await;
    database.push_cache("cache", "cache").await;
    let pushed = database.tag_facts("ours").await.pushed_at;
    database.advance(HOUR).await;
    database.pull("quay", TICK).await;
    let (now, ours) = database.metadata.tag_facts(&repository("app"), &tag("ours")).await.unwrap().unwrap();
    assert_eq!(now, pushed + HOUR);
    assert_eq!((ours.digest, ours.expires_after.as_deref()), (digest_of("ours"), Some("2w")));
    assert_eq!((ours.last_pulled_at, ours.is_build_cache), (None, false));
    let quay = database.tag_facts("quay").await;
    assert_eq!(quay.expires_after.as_deref(), Some("3d"));
    assert_eq!(quay.last_pulled_at, Some(now - TICK));
    assert_eq!(database.tag_facts("neither").await.expires_after, None);
    let cache = database.tag_facts("cache").await;
    assert!(cache.is_build_cache && cache.expires_after.is_none());
    // Pushed again it is younger, though it has not moved.
    database.push(tagged(annotated("ours", both), &["ours"])).await;
    assert_eq!(database.tag_facts("ours").await.pushed_at, now);
    assert!(database.metadata.tag_facts(&repository("app"), &tag("none")).await.unwrap().is_none());
}

async fn tags_are_told_in_pages(database: Database) {
    database.push(tagged(manifest("app", "manifest"), &["a", "b", "c"])).await;
    database.push(tagged(manifest("elsewhere", "manifest"), &["d"])).await;
    let page = async |after: &str| {
        let page = database.metadata.tag_page(&repository("app"), after, 2).await.unwrap();
        page.tags.iter().map(|facts| facts.tag.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(page("").await, ["a", "b"]);
    assert_eq!(page("b").await, ["c"]);
    assert!(page("c").await.is_empty());
}

async fn a_repository_is_looked_through_once_an_interval(database: Database) {
    for name in ["app", "elsewhere"] {
        database.push(manifest(name, "manifest")).await;
    }
    let due = async || {
        let due = database.metadata.repositories_to_look_through("", HOUR, 10).await.unwrap();
        due.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let look = async || database.metadata.look_through(&repository("app"), HOUR).await.unwrap();
    assert_eq!(due().await, ["app", "elsewhere"]);
    assert!(look().await && !look().await);
    assert_eq!(due().await, ["elsewhere"]);
    database.advance(HOUR - TICK).await;
    assert!(!look().await);
    database.advance(TICK).await;
    assert_eq!(due().await, ["app", "elsewhere"]);
    assert!(look().await);
    let after = database.metadata.repositories_to_look_through("app", HOUR, 10).await.unwrap();
    assert_eq!(after, [repository("elsewhere")]);
    assert!(!database.metadata.look_through(&repository("unknown"), HOUR).await.unwrap());
}

async fn replicas_look_through_a_repository_once(database: Database) {
    database.push(manifest("app", "manifest")).await;
    let processes = database.processes(4).await;
    let app = repository("app");
    for _ in 0..10 {
        let looks = join_all((0..8).map(|number| processes[number % 4].look_through(&app, HOUR))).await;
        let taken = looks.into_iter().filter(|look| *look.as_ref().unwrap()).count();
        assert_eq!(taken, 1);
        database.advance(HOUR).await;
    }
}

async fn a_tag_that_is_as_it_was_found_goes(database: Database) {
    database.push(tagged(manifest("app", "manifest"), &["a", "b", "c"])).await;
    database.pull("b", Duration::ZERO).await;
    let condemned = database.condemned_tags(&["a", "b"]).await;
    assert_eq!(database.delete_by_rule(condemned.clone(), NO_BREAKER).await, TagsOutcome::Deleted(2));
    assert_eq!(database.tag_names().await, ["c"]);
    let changes = database.metadata.tag_changes(&repository("app"), &tag("a"), None, 10).await.unwrap();
    assert_eq!((changes.len(), changes[0].digest, changes[0].by.as_deref()), (2, None, Some("retention: rule")));
    assert!(changes[1].is_here, "the manifest waits, and can be tagged again");
    assert_eq!(database.delete_by_rule(condemned, NO_BREAKER).await, TagsOutcome::Deleted(0), "once");
    database.assert_consistent().await;
}

async fn a_tag_that_was_pushed_moved_or_pulled_since_stays(database: Database) {
    database.push(tagged(manifest("app", "manifest"), &["pushed", "moved", "pulled", "again", "left"])).await;
    database.pull("again", Duration::ZERO).await;
    database.advance(HOUR).await;
    let condemned = database.condemned_tags(&["pushed", "moved", "pulled", "again", "left"]).await;
    database.push(tagged(manifest("app", "manifest"), &["pushed"])).await;
    database.push(tagged(manifest("app", "other"), &["moved"])).await;
    database.pull("pulled", Duration::ZERO).await;
    database.pull("again", Duration::ZERO).await;
    assert_eq!(database.delete_by_rule(condemned, NO_BREAKER).await, TagsOutcome::Deleted(1));
    assert_eq!(database.tag_names().await, ["again", "moved", "pulled", "pushed"]);
    database.assert_consistent().await;
}

async fn rules_and_pushes_at_the_same_moment_leave_what_was_pushed(database: Database) {
    let processes = database.processes(3).await;
    for round in 0..20 {
        database.push(tagged(manifest("app", "old"), &["a", "b"])).await;
        database.advance(HOUR).await;
        let condemned = database.condemned_tags(&["a", "b"]).await;
        let app = repository("app");
        let new = format!("new {round}");
        let (deleted, moved, pushed) = tokio::join!(
            processes[0].delete_tags(&app, condemned, NO_BREAKER),
            processes[1].put_manifest(tagged(manifest("app", &new), &["a"])),
            processes[2].put_manifest(tagged(manifest("app", "old"), &["b"])),
        );
        assert!(matches!(deleted.unwrap(), TagsOutcome::Deleted(0..=2)));
        moved.unwrap();
        pushed.unwrap();
        assert_eq!(database.tag_names().await, ["a", "b"]);
        database.assert_consistent().await;
    }
}

async fn too_many_tags_stop_collection(database: Database) {
    database.push(tagged(manifest("app", "manifest"), &["a", "b", "c", "d"])).await;
    let half = Breaker { percent: 50, floor: 0 };
    let (first, second) = (database.condemned_tags(&["a", "b"]).await, database.condemned_tags(&["c"]).await);
    assert_eq!(database.delete_by_rule(first, half).await, TagsOutcome::Deleted(2));
    assert_eq!(database.delete_by_rule(second.clone(), half).await, TagsOutcome::Stopped);
    let stopped = database.metadata.collection_state().await.unwrap().stopped.unwrap();
    assert_eq!(stopped, "the rules of retention would have deleted 3 of 4 tags within a day, more than 50 %");
    assert_eq!(database.delete_by_rule(second.clone(), NO_BREAKER).await, TagsOutcome::Stopped, "whoever asks");
    database.metadata.resume_collection().await.unwrap();
    assert_eq!(database.delete_by_rule(second, half).await, TagsOutcome::Deleted(1));
    assert_eq!(database.tag_names().await, ["d"]);
    // Few are never too many, and another day is another day.
    database.push(tagged(manifest("app", "manifest"), &["e"])).await;
    database.advance(24 * HOUR).await;
    let condemned = database.condemned_tags(&["d", "e"]).await;
    assert_eq!(database.delete_by_rule(condemned, Breaker { percent: 1, floor: 2 }).await, TagsOutcome::Deleted(2));
}

async fn old_generations_are_those_before_the_last_few(database: Database) {
    let mut pushed = Vec::new();
    for body in ["one", "two", "three", "two", "four"] {
        database.advance(TICK).await;
        pushed.push(database.push_cache(body, "cache").await);
    }
    let [one, two, three] = [pushed[0], pushed[1], pushed[2]];
    let old = async |kept| {
        let old = database.metadata.old_generations(&repository("app"), &tag("cache"), kept).await.unwrap();
        old.iter().map(|generation| generation.digest).collect::<Vec<_>>()
    };
    assert_eq!(old(1).await, [two, three, one], "by when the tag named it last");
    assert_eq!(old(2).await, [three, one]);
    assert!(old(4).await.is_empty());
    // What another tag names is in use, and what is no cache is none of its generations.
    database.push_cache("one", "pinned").await;
    database.push(tagged(manifest("app", "image"), &["cache"])).await;
    database.push_cache("five", "cache").await;
    assert_eq!(old(1).await, [digest_of("four"), two, three]);
    assert_eq!(old(2).await, [two, three], "the image is none of the last two");
    database.metadata.delete_manifest(&repository("app"), &digest_of("four"), None).await.unwrap();
    assert_eq!(old(2).await, [three], "nor is what a client has deleted");
    database.push_cache("four", "cache").await;
    database.push_cache("five", "cache").await;
    let generations = database.metadata.old_generations(&repository("app"), &tag("cache"), 1).await.unwrap();
    let condemned = generations.into_iter().map(|generation| generation.condemned).collect();
    let outcome = database.metadata.delete_unkept_manifests(condemned, NO_BREAKER).await.unwrap();
    assert_eq!(went(outcome).count, 3);
    assert!(old(1).await.is_empty());
    assert!(database.metadata.find_manifest(&repository("app"), &one).await.unwrap().is_some());
}

async fn a_generation_that_an_index_or_a_subject_keeps_is_in_use(database: Database) {
    let subject = database.push(tagged(manifest("app", "subject"), &["subject"])).await;
    database.push_cache("named", "cache").await;
    let index = database.push(index("app", "index", &["named"])).await;
    let cache = PutManifest { config_media_type: Some(CACHE.to_owned()), ..manifest("app", "referring") };
    database.push(tagged(PutManifest { subject: Some(subject), ..cache }, &["cache"])).await;
    database.push_cache("old", "cache").await;
    database.push_cache("new", "cache").await;
    let old = async || {
        let old = database.metadata.old_generations(&repository("app"), &tag("cache"), 1).await.unwrap();
        old.iter().map(|generation| generation.digest).collect::<Vec<_>>()
    };
    assert_eq!(old().await, [digest_of("old")]);
    for keeper in [index, subject] {
        database.metadata.delete_manifest(&repository("app"), &keeper, None).await.unwrap();
    }
    assert_eq!(old().await, ["old", "referring", "named"].map(digest_of));
}

async fn manifests_are_told_with_how_much_keeps_them(database: Database) {
    database.push(tagged(manifest("app", "child"), &["a", "b"])).await;
    database.push(index("app", "index", &["child"])).await;
    let facts = database.tag_facts("a").await;
    let told = database.metadata.manifests_with_keepers(&[facts.manifest]).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].digest, told[0].keepers, told[0].review), (facts.digest, 3, facts.manifest));
}
