//! What namespaces hold is counted to the byte, and none holds more than it may.

use crate::content::{digest_of, image, manifest, repository, tagged};
use crate::database::{Database, PROMISE};
use crate::orders::{begin_blocked, hold};
use longshore_metadata::{
    CommitOutcome, ComparedUsage, Error, MountOutcome, NamespaceUsage, PutInlineBlob, PutManifest, Quotas,
};
use std::collections::BTreeMap;

on_both_engines!(
    every_change_counts_once,
    what_was_there_before_is_counted_at_first,
    other_namespaces_are_others,
    namespaces_are_measured_without_being_added_up,
    what_was_added_up_is_compared_with_what_is_there,
    what_fits_is_taken_and_what_does_not_changes_nothing,
    every_way_to_get_a_blob_counts,
    what_adds_nothing_is_taken_beyond_the_quota,
    what_goes_makes_room,
    two_pushes_do_not_share_the_last_room,
);

impl Database {
    async fn usage(&self, namespace: &str) -> u64 {
        self.metadata.namespace_usage(namespace).await.unwrap()
    }

    /// As a process whose settings let the namespace `team` hold so many bytes.
    fn with_quota(&self, bytes: u64) -> longshore_metadata::Metadata {
        let quotas = Quotas::new(BTreeMap::from([("team".to_owned(), bytes)]), None);
        self.metadata.clone().with_quotas(quotas)
    }
}

fn blob(repository_name: &str, content: &str) -> PutInlineBlob {
    crate::content::inline_blob(repository_name, content)
}

fn assert_over<T: std::fmt::Debug>(outcome: Result<T, Error>, expected: (u64, u64)) {
    match outcome {
        Err(Error::OverQuota { namespace, held, wanted, .. }) => {
            assert_eq!((namespace.as_str(), held, wanted), ("team", expected.0, expected.1));
        }
        other => panic!("{other:?}"),
    }
}

async fn every_change_counts_once(database: Database) {
    database.push_blob("team/a", "four").await;
    database.push_blob("team/a", "four").await;
    database.push_blob("team/b/c", "four").await;
    assert_eq!(database.usage("team").await, 8, "once for each repository");
    let digest = database.push(tagged(image("team/a", "manifest", &["four"]), &["latest"])).await;
    database.push(tagged(image("team/a", "manifest", &["four"]), &["other"])).await;
    assert_eq!(database.usage("team").await, 16);
    database.metadata.add_up_usage().await.unwrap();
    assert_eq!(database.inside.count("SELECT count(*) FROM usage_changes").await, 0);
    assert_eq!(database.usage("team").await, 16);
    database.metadata.delete_manifest(&repository("team/a"), &digest, None).await.unwrap();
    database.metadata.delete_blob(&repository("team/b/c"), &digest_of("four")).await.unwrap();
    assert_eq!(database.usage("team").await, 4);
    database.metadata.add_up_usage().await.unwrap();
    assert_eq!(database.usage("team").await, 4);
    assert_eq!(database.metadata.added_up_namespaces("", 10).await.unwrap(), ["team"]);
}

async fn what_was_there_before_is_counted_at_first(database: Database) {
    database.push_blob("team/a", "four").await;
    database.push(manifest("team", "manifest")).await;
    // As the migration finds it.
    database.inside.execute("DELETE FROM usage_changes", &[]).await.unwrap();
    database.push_blob("team/a", "seven!!").await;
    assert_eq!(database.usage("team").await, 4 + 8 + 7);
    assert_eq!(database.usage("nobody").await, 0);
}

async fn other_namespaces_are_others(database: Database) {
    for name in ["team", "team/a", "team-b/a", "team.c", "tea/m", "team0"] {
        database.push_blob(name, "four").await;
    }
    database.inside.execute("DELETE FROM usage_changes", &[]).await.unwrap();
    assert_eq!(database.usage("team").await, 8);
    assert_eq!(database.usage("team-b").await, 4);
    assert_eq!(database.usage("team0").await, 4);
}

async fn namespaces_are_measured_without_being_added_up(database: Database) {
    for name in ["team", "team/a", "team/b/c", "team-b/a", "team.c", "team0"] {
        database.push_blob(name, "four").await;
    }
    database.push_blob("team/a", "seven!!").await;
    database.push(manifest("team", "manifest")).await;
    let names: Vec<String> = database.metadata.list_namespaces().await.unwrap().into_iter().collect();
    assert_eq!(names, ["team", "team-b", "team.c", "team0"]);
    let measure = async |namespace| database.metadata.measure_namespace(namespace).await.unwrap();
    assert_eq!(measure("team").await, NamespaceUsage { logical: 3 * 4 + 7 + 8, stored: 4 + 7 + 8 });
    assert_eq!(measure("team-b").await, NamespaceUsage { logical: 4, stored: 4 });
    assert_eq!(measure("nobody").await, NamespaceUsage { logical: 0, stored: 0 });
    assert_eq!(database.inside.count("SELECT count(*) FROM namespace_usage").await, 0, "nothing is written");
    assert_eq!(database.usage("team").await, 3 * 4 + 7 + 8);
}

async fn what_was_added_up_is_compared_with_what_is_there(database: Database) {
    database.push_blob("team/a", "four").await;
    database.push(manifest("team", "manifest")).await;
    database.push_blob("team-b/a", "four").await;
    assert_eq!(database.metadata.compare_usage("team").await.unwrap(), None, "nothing was added up");
    database.metadata.add_up_usage().await.unwrap();
    database.push_blob("team/b/c", "seven!!").await;
    let right = Some(ComparedUsage { told: 19, counted: 19 });
    assert_eq!(database.metadata.compare_usage("team").await.unwrap(), right);
    database.inside.execute("UPDATE namespace_usage SET bytes = bytes + 1", &[]).await.unwrap();
    let wrong = Some(ComparedUsage { told: 20, counted: 19 });
    assert_eq!(database.metadata.compare_usage("team").await.unwrap(), wrong);
    database.metadata.count_usage_anew("team").await.unwrap();
    database.metadata.add_up_usage().await.unwrap();
    assert_eq!(database.metadata.compare_usage("team").await.unwrap(), right);
}

async fn what_fits_is_taken_and_what_does_not_changes_nothing(database: Database) {
    let metadata = database.with_quota(12);
    metadata.put_inline_blob(blob("team/a", "four")).await.unwrap();
    metadata.put_manifest(image("team/a", "manifest", &["four"])).await.unwrap();
    assert_eq!(database.usage("team").await, 12);
    assert_over(metadata.put_inline_blob(blob("team/b", "1")).await, (12, 1));
    let tagged = tagged(image("team/a", "another", &["four"]), &["latest"]);
    assert_over(metadata.put_manifest(tagged).await, (12, 7));
    assert_eq!(database.usage("team").await, 12);
    assert_eq!(metadata.find_blob(&repository("team/b"), &digest_of("1")).await.unwrap(), None);
    assert_eq!(metadata.find_tag(&repository("team/a"), &"latest".parse().unwrap()).await.unwrap(), None);
    metadata.put_inline_blob(blob("other/b", "elsewhere")).await.unwrap();
    database.assert_consistent().await;
}

async fn every_way_to_get_a_blob_counts(database: Database) {
    let metadata = database.with_quota(3);
    database.push_blob("other", "four").await;
    let mounted = metadata.mount_blob(&repository("team/a"), &repository("other"), &digest_of("four")).await;
    assert_over(mounted, (0, 4));
    let commit = database.attached_upload("team/a", "objects/1", "four").await;
    assert_over(metadata.commit_upload(commit.clone()).await, (0, 4));
    // The session is there still: it can be ended when there is room.
    assert_eq!(database.with_quota(4).commit_upload(commit).await.unwrap(), CommitOutcome::Committed);
}

async fn what_adds_nothing_is_taken_beyond_the_quota(database: Database) {
    database.push_blob("team/a", "four").await;
    database.push(image("team/a", "manifest", &["four"])).await;
    let metadata = database.with_quota(1);
    metadata.put_inline_blob(blob("team/a", "four")).await.unwrap();
    let again = PutManifest { tags: vec!["latest".parse().unwrap()], ..image("team/a", "manifest", &["four"]) };
    metadata.put_manifest(again).await.unwrap();
    assert!(metadata.find_tag(&repository("team/a"), &"latest".parse().unwrap()).await.unwrap().is_some());
    let within = metadata.mount_blob(&repository("team/a"), &repository("team/a"), &digest_of("four")).await;
    assert_eq!(within.unwrap(), MountOutcome::Mounted);
}

async fn what_goes_makes_room(database: Database) {
    let metadata = database.with_quota(4);
    metadata.put_inline_blob(blob("team/a", "four")).await.unwrap();
    assert_over(metadata.put_inline_blob(blob("team/a", "more")).await, (4, 4));
    metadata.delete_blob(&repository("team/a"), &digest_of("four")).await.unwrap();
    metadata.put_inline_blob(blob("team/a", "more")).await.unwrap();
    database.advance(2 * PROMISE).await;
    assert_eq!(database.usage("team").await, 4);
}

async fn two_pushes_do_not_share_the_last_room(database: Database) {
    for round in 0..8 {
        let metadata = database.with_quota(4 * (round + 1));
        let (first, second) = (format!("a{round:03}"), format!("b{round:03}"));
        let (first, second) = tokio::join!(
            metadata.put_inline_blob(blob("team/a", &first)),
            metadata.put_inline_blob(blob("team/b", &second)),
        );
        assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1, "{first:?} {second:?}");
        assert_eq!(database.usage("team").await, 4 * (round + 1));
    }
}

/// Both come when the other one has not ended, and stand at the namespace's row. Fails where that is not held from the first
/// look on: then each adds up without the other.
#[tokio::test]
async fn two_pushes_that_meet_do_not_share_the_last_room() {
    let database = Database::postgres().await;
    let metadata = database.with_quota(8);
    metadata.put_inline_blob(blob("team/a", "four")).await.unwrap();
    let gate = hold(&database, "SELECT FROM namespace_usage FOR UPDATE").await;
    let (first, second) = (metadata.clone(), metadata);
    let first = begin_blocked(&database, async move { first.put_inline_blob(blob("team/a", "more")).await }).await;
    let second = begin_blocked(&database, async move { second.put_inline_blob(blob("team/b", "much")).await }).await;
    gate.commit().await.unwrap();
    let outcomes = [first.await.unwrap(), second.await.unwrap()];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert_eq!(database.usage("team").await, 8);
}
