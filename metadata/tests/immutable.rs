//! Tags that may not move.

use crate::content::{digest_of, index, manifest, repository, tag, tagged};
use crate::database::Database;
use futures_util::future::join_all;
use longshore_metadata::{DeleteManifest, DeleteOutcome, GuardedDelete, PutManifest, PutManifestOutcome};
use longshore_oci::{Digest, ImmutableRule, ImmutableTags, TagScope};

on_both_engines!(
    an_immutable_tag_does_not_move,
    a_push_that_would_move_one_writes_nothing,
    what_an_immutable_tag_names_is_not_deleted,
    of_first_pushes_at_the_same_moment_one_wins,
    a_first_push_and_a_delete_end_in_one_of_two_ways,
);

/// Tags of `app` that begin with a v.
pub(crate) fn releases() -> ImmutableTags {
    let scope = TagScope { repositories: vec!["app".parse().unwrap()], tags: "v.*".parse().unwrap(), except: None };
    ImmutableTags::new(vec![ImmutableRule { name: "releases".to_owned(), scope }])
}

pub(crate) fn guarded(manifest: PutManifest) -> PutManifest {
    PutManifest { immutable: releases(), ..manifest }
}

fn refused(name: &str, body: &str) -> PutManifestOutcome {
    PutManifestOutcome::Immutable { tag: tag(name), digest: digest_of(body) }
}

fn delete(body: &str) -> DeleteManifest {
    DeleteManifest { repository: repository("app"), digest: digest_of(body), by: None, immutable: releases() }
}

async fn named(database: &Database, name: &str) -> Option<Digest> {
    let found = database.metadata.find_tag(&repository("app"), &tag(name)).await.unwrap();
    found.map(|record| record.digest)
}

async fn an_immutable_tag_does_not_move(database: Database) {
    let put = |body: &str, name: &str| database.metadata.put_manifest(guarded(tagged(manifest("app", body), &[name])));
    assert_eq!(put("one", "v1").await.unwrap(), PutManifestOutcome::Stored);
    assert_eq!(put("two", "v1").await.unwrap(), refused("v1", "one"));
    assert_eq!(put("one", "v1").await.unwrap(), PutManifestOutcome::Stored, "the same again");
    assert_eq!(put("two", "v2").await.unwrap(), PutManifestOutcome::Stored);
    for body in ["one", "two"] {
        assert_eq!(put(body, "latest").await.unwrap(), PutManifestOutcome::Stored, "another tag");
    }
    let elsewhere = |body| guarded(tagged(manifest("elsewhere", body), &["v1"]));
    database.push(elsewhere("one")).await;
    database.push(elsewhere("two")).await;
    assert_eq!(named(&database, "v1").await, Some(digest_of("one")));
    // Once it is gone it may name anything, once.
    assert!(database.metadata.delete_tag(&repository("app"), &tag("v1"), None).await.unwrap());
    assert_eq!(put("two", "v1").await.unwrap(), PutManifestOutcome::Stored);
    database.assert_consistent().await;
}

async fn a_push_that_would_move_one_writes_nothing(database: Database) {
    database.push(guarded(tagged(manifest("app", "one"), &["v1"]))).await;
    let put = guarded(tagged(manifest("app", "two"), &["latest", "v0", "v1"]));
    assert_eq!(database.metadata.put_manifest(put).await.unwrap(), refused("v1", "one"));
    assert_eq!(database.inside.texts("SELECT name FROM tags").await, ["v1"]);
    assert_eq!(database.inside.count("SELECT count(*) FROM manifests").await, 1);
}

async fn what_an_immutable_tag_names_is_not_deleted(database: Database) {
    let end = |body: &str| database.metadata.delete_manifest_unless_immutable(delete(body));
    assert_eq!(end("one").await.unwrap(), GuardedDelete::Ended(DeleteOutcome::Unknown));
    database.push(guarded(tagged(manifest("app", "one"), &["latest", "v1"]))).await;
    database.push(guarded(tagged(manifest("app", "two"), &["next"]))).await;
    assert_eq!(end("one").await.unwrap(), GuardedDelete::Immutable { tag: tag("v1") });
    assert_eq!(named(&database, "latest").await, Some(digest_of("one")), "nothing was deleted");
    assert_eq!(end("two").await.unwrap(), GuardedDelete::Ended(DeleteOutcome::Deleted));
    // Nor does what it needs go.
    database.push(manifest("app", "child")).await;
    database.push(guarded(tagged(index("app", "index", &["child"]), &["v2"]))).await;
    let in_use = DeleteOutcome::InUse { by: digest_of("index") };
    assert_eq!(end("child").await.unwrap(), GuardedDelete::Ended(in_use));
}

async fn of_first_pushes_at_the_same_moment_one_wins(database: Database) {
    let processes = database.processes(4).await;
    for round in 0..10 {
        let (name, other) = (format!("v{round}"), format!("v{round}-other"));
        let bodies: Vec<String> = (0..8).map(|number| format!("{number} of {round}")).collect();
        let pushes = bodies.iter().enumerate().map(|(number, body)| {
            // In another order: tags are held in one.
            let names = if number % 2 == 0 { [&*name, &*other] } else { [&*other, &*name] };
            processes[number % 4].put_manifest(guarded(tagged(manifest("app", body), &names)))
        });
        let outcomes: Vec<_> = join_all(pushes).await.into_iter().map(Result::unwrap).collect();
        let winner = outcomes.iter().position(|outcome| *outcome == PutManifestOutcome::Stored).unwrap();
        for (number, outcome) in outcomes.iter().enumerate().filter(|(number, _)| *number != winner) {
            assert_eq!(*outcome, refused(&name, &bodies[winner]), "{number}");
        }
        assert_eq!(named(&database, &name).await, Some(digest_of(&bodies[winner])));
        assert_eq!(named(&database, &other).await, Some(digest_of(&bodies[winner])));
    }
    assert_eq!(database.inside.count("SELECT count(*) FROM manifests").await, 10, "the others left nothing");
    database.assert_consistent().await;
}

async fn a_first_push_and_a_delete_end_in_one_of_two_ways(database: Database) {
    let processes = database.processes(2).await;
    for round in 0..20 {
        let (body, name) = (format!("manifest {round}"), format!("v{round}"));
        database.push(manifest("app", &body)).await;
        let (stored, deleted) = tokio::join!(
            processes[0].put_manifest(guarded(tagged(manifest("app", &body), &[&name]))),
            processes[1].delete_manifest_unless_immutable(delete(&body)),
        );
        assert_eq!(stored.unwrap(), PutManifestOutcome::Stored);
        match deleted.unwrap() {
            // Before the push.
            GuardedDelete::Ended(DeleteOutcome::Deleted) => {}
            GuardedDelete::Immutable { tag: by } => assert_eq!(by, tag(&name)),
            neither => panic!("{neither:?}"),
        }
        assert_eq!(named(&database, &name).await, Some(digest_of(&body)));
        database.assert_consistent().await;
    }
}
