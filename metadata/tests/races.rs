//! What happens at the same moment, where the end is the same in whatever order things go: many operations run at once
//! against several handles, each a process of its own.

use crate::content::{UPLOAD_LIFETIME, digest_of, image, index, manifest, repository, tag, tagged};
use crate::database::{Database, PROMISE};
use crate::finish::finish;
use futures_util::future::join_all;
use longshore_metadata::{
    CommitOutcome, CommitUpload, DeleteOutcome, ExpiredUploads, FinishOutcome, Metadata, MountOutcome,
    PutManifestOutcome, SaveProgress, StoredContent, TailChange,
};
use std::collections::HashSet;

on_both_engines!(
    uploads_of_one_digest_that_end_together_leave_one_object,
    pushes_to_a_new_repository_make_it_once,
    a_manifest_and_the_delete_of_its_layer_end_in_one_of_two_ways,
    an_index_and_the_delete_of_its_child_end_in_one_of_two_ways,
    a_mount_and_the_delete_of_its_source_end_in_one_of_two_ways,
    tags_that_move_while_manifests_go_name_what_is_there,
    claims_of_one_session_have_one_order,
    a_session_is_committed_or_cancelled_and_never_both,
    ends_of_one_session_end_it_once,
    an_end_and_a_writer_agree_on_who_has_the_session,
    condemned_keys_are_claimed_once,
    expired_sessions_end_once,
);

impl Database {
    /// Several processes on this database.
    pub(crate) async fn processes(&self, number: usize) -> Vec<Metadata> {
        if self.metadata.engine() == "sqlite" {
            // SQLite is for one process: its writers are tasks.
            return vec![self.metadata.clone(); number];
        }
        join_all((0..number).map(|_| self.another_process())).await
    }

    /// What must hold whatever happened before.
    pub(crate) async fn assert_consistent(&self) {
        let untagged = "SELECT count(*) FROM manifests m WHERE (m.untagged_since IS NULL) <> \
            EXISTS (SELECT 1 FROM tags t WHERE t.manifest_id = m.id)";
        assert_eq!(self.inside.count(untagged).await, 0, "untagged_since is not that of its tags");
        let history = "SELECT count(*) FROM tags t JOIN manifests m ON m.id = t.manifest_id \
            WHERE m.digest IS DISTINCT FROM (SELECT h.digest FROM tag_history h \
            WHERE h.repository_id = t.repository_id AND h.tag = t.name ORDER BY h.id DESC LIMIT 1)";
        assert_eq!(self.inside.count(history).await, 0, "the history of a tag does not end with what it names");
        let deleted = "SELECT count(*) FROM tag_history h WHERE h.digest IS NOT NULL \
            AND NOT EXISTS (SELECT 1 FROM tag_history n WHERE n.repository_id = h.repository_id AND n.tag = h.tag AND n.id > h.id) \
            AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = h.repository_id AND t.name = h.tag)";
        assert_eq!(self.inside.count(deleted).await, 0, "the history of a deleted tag does not end with that");
    }
}

async fn uploads_of_one_digest_that_end_together_leave_one_object(database: Database) {
    const UPLOADS: usize = 32;
    let mut sessions = Vec::new();
    for number in 0..UPLOADS {
        let (name, key) = (format!("app/{number}"), format!("objects/{number}"));
        sessions.push(database.attached_upload(&name, &key, "layer").await);
    }
    let processes = database.processes(4).await;
    let commits =
        sessions.into_iter().enumerate().map(|(number, session)| processes[number % 4].commit_upload(session));
    for outcome in join_all(commits).await {
        assert_eq!(outcome.unwrap(), CommitOutcome::Committed);
    }
    assert_eq!(database.inside.count("SELECT count(*) FROM blobs").await, 1);
    assert_eq!(database.inside.count("SELECT count(*) FROM objects WHERE state = 'live'").await, 1);
    assert_eq!(database.inside.count("SELECT count(*) FROM objects").await, 1);
    assert_eq!(database.inside.count("SELECT count(*) FROM tombstones").await, UPLOADS as i64 - 1);
    assert_eq!(database.inside.count("SELECT count(*) FROM repository_blobs").await, UPLOADS as i64);
    let condemned_in_use = "SELECT count(*) FROM tombstones t JOIN objects o ON o.key = t.key";
    assert_eq!(database.inside.count(condemned_in_use).await, 0);
}

async fn pushes_to_a_new_repository_make_it_once(database: Database) {
    let processes = database.processes(4).await;
    let bodies: Vec<String> = (0..16).map(|number| format!("manifest {number}")).collect();
    let pushes = bodies.iter().enumerate().map(|(number, body)| {
        processes[number % 4].put_manifest(tagged(manifest("new/repository", body), &["latest"]))
    });
    for outcome in join_all(pushes).await {
        assert_eq!(outcome.unwrap(), PutManifestOutcome::Stored);
    }
    assert_eq!(database.inside.count("SELECT count(*) FROM repositories").await, 1);
    assert_eq!(database.inside.count("SELECT count(*) FROM manifests").await, 16);
    database.assert_consistent().await;
}

async fn a_manifest_and_the_delete_of_its_layer_end_in_one_of_two_ways(database: Database) {
    let (one, two) = (database.another_process().await, &database.metadata);
    let app = repository("app");
    for round in 0..20 {
        let (layer, body) = (format!("layer {round}"), format!("manifest {round}"));
        let digest = database.push_blob("app", &layer).await;
        let put = image("app", &body, &[&layer]);
        let (stored, deleted) = tokio::join!(one.put_manifest(put), two.delete_blob(&app, &digest));
        match (stored.unwrap(), deleted.unwrap()) {
            (PutManifestOutcome::Stored, DeleteOutcome::InUse { by }) => {
                assert_eq!(by, digest_of(&body));
                assert!(two.find_blob(&app, &digest).await.unwrap().is_some());
            }
            (PutManifestOutcome::Absent { digests }, DeleteOutcome::Deleted) => {
                assert_eq!(digests, [digest]);
                assert_eq!(two.find_manifest(&app, &digest_of(&body)).await.unwrap(), None);
            }
            neither => panic!("{neither:?}"),
        }
    }
}

async fn an_index_and_the_delete_of_its_child_end_in_one_of_two_ways(database: Database) {
    let (one, two) = (database.another_process().await, &database.metadata);
    let app = repository("app");
    for round in 0..20 {
        let (child, body) = (format!("child {round}"), format!("index {round}"));
        let digest = database.push(tagged(manifest("app", &child), &["child"])).await;
        let put = index("app", &body, &[&child]);
        let (stored, deleted) = tokio::join!(one.put_manifest(put), two.delete_manifest(&app, &digest, None));
        match (stored.unwrap(), deleted.unwrap()) {
            (PutManifestOutcome::Stored, DeleteOutcome::InUse { by }) => assert_eq!(by, digest_of(&body)),
            (PutManifestOutcome::Absent { digests }, DeleteOutcome::Deleted) => assert_eq!(digests, [digest]),
            neither => panic!("{neither:?}"),
        }
    }
    database.assert_consistent().await;
}

async fn a_mount_and_the_delete_of_its_source_end_in_one_of_two_ways(database: Database) {
    let (one, two) = (database.another_process().await, &database.metadata);
    let (from, target) = (repository("from"), repository("target"));
    for round in 0..20 {
        let digest = database.push_blob("from", &format!("layer {round}")).await;
        let (mounted, deleted) = tokio::join!(one.mount_blob(&target, &from, &digest), two.delete_blob(&from, &digest));
        assert_eq!(deleted.unwrap(), DeleteOutcome::Deleted);
        let held = two.find_blob(&target, &digest).await.unwrap().is_some();
        assert_eq!(held, mounted.unwrap() == MountOutcome::Mounted);
    }
}

async fn tags_that_move_while_manifests_go_name_what_is_there(database: Database) {
    let processes = database.processes(4).await;
    let bodies = ["a", "b", "c", "d"];
    let app = repository("app");
    let (latest, stable) = (tag("latest"), tag("stable"));
    for round in 0..15 {
        let pushes = bodies.map(|body| processes[0].put_manifest(tagged(manifest("app", body), &["latest", "stable"])));
        let moves = bodies.map(|body| processes[1].put_manifest(tagged(manifest("app", body), &["latest"])));
        let digests = [bodies[round % 4], bodies[(round + 1) % 4]].map(digest_of);
        let deletes = digests.iter().map(|digest| processes[2].delete_manifest(&app, digest, None));
        let untags = [&latest, &stable].map(|tag| processes[3].delete_tag(&app, tag, None));
        let (pushes, moves, deletes, untags) =
            tokio::join!(join_all(pushes), join_all(moves), join_all(deletes), join_all(untags));
        for stored in pushes.into_iter().chain(moves) {
            assert_eq!(stored.unwrap(), PutManifestOutcome::Stored);
        }
        for deleted in deletes {
            assert!(matches!(deleted.unwrap(), DeleteOutcome::Deleted | DeleteOutcome::Unknown));
        }
        for untagged in untags {
            untagged.unwrap();
        }
        database.assert_consistent().await;
    }
}

async fn claims_of_one_session_have_one_order(database: Database) {
    let address = database.open_upload("app").await;
    let processes = database.processes(4).await;
    let claims = (0..16).map(|number| processes[number % 4].claim_upload(address.clone(), UPLOAD_LIFETIME));
    let fences: HashSet<i64> =
        join_all(claims).await.into_iter().map(|claimed| claimed.unwrap().unwrap().fence).collect();
    assert_eq!(fences, (1..=16).collect());
}

async fn a_session_is_committed_or_cancelled_and_never_both(database: Database) {
    let other = database.another_process().await;
    for round in 0..20 {
        let address = database.open_upload("app").await;
        let fence = database.claim(&address).await;
        let key = format!("objects/{round}");
        assert!(database.metadata.attach_object(address.id, fence, &key, "files").await.unwrap());
        let session = CommitUpload {
            id: address.id,
            fence,
            digest: digest_of(&key),
            size: 5,
            content: StoredContent::AttachedObject,
        };
        let (committed, cancelled) =
            tokio::join!(database.metadata.commit_upload(session), other.cancel_upload(address));
        let committed = committed.unwrap() == CommitOutcome::Committed;
        assert_ne!(committed, cancelled.unwrap());
        let found = database.metadata.find_blob(&repository("app"), &digest_of(&key)).await.unwrap();
        assert_eq!(found.is_some(), committed);
    }
    let neither = "SELECT count(*) FROM objects o WHERE o.state = 'pending' \
        OR EXISTS (SELECT 1 FROM tombstones t WHERE t.key = o.key)";
    assert_eq!(database.inside.count(neither).await, 0);
    let all = "SELECT (SELECT count(*) FROM objects) + (SELECT count(*) FROM tombstones)";
    assert_eq!(database.inside.count(all).await, 20);
}

async fn ends_of_one_session_end_it_once(database: Database) {
    let processes = database.processes(4).await;
    for round in 0..10 {
        let address = database.open_upload("app").await;
        let contents: Vec<String> = (0..8).map(|number| format!("blob {number} of {round}")).collect();
        let ends = contents
            .iter()
            .enumerate()
            .map(|(number, content)| processes[number % 4].finish_upload(finish(&address, content, content)));
        let outcomes: Vec<FinishOutcome> = join_all(ends).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == FinishOutcome::Committed).count(), 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == FinishOutcome::Unknown).count(), 7, "{outcomes:?}");
        assert_eq!(database.inside.count("SELECT count(*) FROM blobs").await, round + 1);
    }
}

/// A writer claims the session, saves to it, and commits what it has, while another request ends the session with
/// bytes of its own: whatever the order, nobody's bytes are mixed, and the session ends once.
async fn an_end_and_a_writer_agree_on_who_has_the_session(database: Database) {
    let other = database.another_process().await;
    for round in 0..20 {
        let address = database.open_upload("app").await;
        let whole = format!("whole {round}");
        let ending = database.metadata.finish_upload(finish(&address, &whole, &whole));
        let writing = async {
            let claimed = other.claim_upload(address.clone(), UPLOAD_LIFETIME).await.unwrap()?;
            let progress = SaveProgress {
                id: claimed.id,
                fence: claimed.fence,
                received: 3,
                hash_state: claimed.hash_state,
                staged: b"abc".to_vec(),
                multipart: None,
                next_part: None,
                tail: TailChange::Kept,
                lifetime: UPLOAD_LIFETIME,
            };
            Some(other.save_progress(progress).await.unwrap())
        };
        let (ended, saved) = tokio::join!(ending, writing);
        match (ended.unwrap(), saved) {
            (FinishOutcome::Committed, None | Some(false)) => {
                assert_eq!(other.find_upload(address).await.unwrap(), None);
            }
            (FinishOutcome::DigestMismatch { computed }, Some(true)) => {
                assert_eq!(computed, digest_of(&format!("abc{whole}")));
                assert_eq!(other.find_upload(address).await.unwrap().unwrap().received, 3);
            }
            neither => panic!("{neither:?}"),
        }
    }
}

async fn condemned_keys_are_claimed_once(database: Database) {
    for number in 0..40 {
        let session = database.attached_upload("app", &format!("objects/{number}"), "layer").await;
        database.metadata.commit_upload(session).await.unwrap();
    }
    let processes = database.processes(4).await;
    let claims = (0..8).map(|number| processes[number % 4].claim_tombstones(10, PROMISE));
    let mut keys: Vec<String> =
        join_all(claims).await.into_iter().flat_map(Result::unwrap).map(|tombstone| tombstone.key).collect();
    // Whoever passes over locked keys may come back with fewer: nothing is left out, it is claimed the next time.
    keys.extend(database.metadata.claim_tombstones(100, PROMISE).await.unwrap().into_iter().map(|left| left.key));
    assert_eq!(keys.len(), 39);
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 39, "a key was claimed twice");
}

async fn expired_sessions_end_once(database: Database) {
    for number in 0..40 {
        database.attached_upload("app", &format!("objects/{number}"), "layer").await;
    }
    database.advance(PROMISE).await;
    let processes = database.processes(4).await;
    let steps = (0..8).map(|number| processes[number % 4].expire_uploads(10));
    let mut ended = 0;
    for ExpiredUploads { sessions } in join_all(steps).await.into_iter().map(Result::unwrap) {
        ended += sessions;
    }
    ended += database.metadata.expire_uploads(100).await.unwrap().sessions;
    assert_eq!(ended, 40);
    assert_eq!(database.inside.count("SELECT count(*) FROM tombstones").await, 40);
}
