//! The queue of garbage collection: whatever changes what is reachable puts itself there, by triggers.

use crate::content::{digest_of, image, index, manifest, repository, tag, tagged};
use crate::database::{Database, REVIEW_DELAY, TICK, micros};
use longshore_metadata::PutManifest;
use longshore_oci::Digest;

on_both_engines!(
    a_new_manifest_is_queued,
    a_new_grant_is_queued,
    a_tag_that_moves_queues_what_it_left,
    a_tag_that_stays_queues_nothing,
    a_deleted_tag_queues_its_manifest,
    a_deleted_manifest_queues_its_layers,
    a_deleted_manifest_queues_its_referrers,
    a_deleted_index_queues_its_children,
    a_deleted_grant_queues_the_blob,
    an_event_begins_the_wait_and_the_attempts_anew,
);

const MANIFEST: i64 = 1;
const GRANT: i64 = 2;
const BLOB: i64 = 3;

impl Database {
    /// Forgets what is queued, and lets a moment pass so that what comes is told from what was.
    async fn clear_queue(&self) {
        self.inside.execute("DELETE FROM gc_queue", &[]).await.unwrap();
        self.advance(TICK).await;
    }

    /// What is queued; all of it must be due the delay from now.
    async fn queued(&self) -> Vec<(i64, i64, i64)> {
        let early = "SELECT count(*) FROM gc_queue WHERE review_after <> $1 OR attempts <> 0";
        let due = self.now().await + micros(REVIEW_DELAY);
        assert_eq!(self.inside.number(early, &[due]).await, Some(0), "something is not due at {due}");
        self.inside.triples("SELECT kind, id1, id2 FROM gc_queue ORDER BY kind, id1, id2", &[]).await
    }

    async fn repository_id(&self) -> i64 {
        self.inside.number("SELECT id FROM repositories WHERE name = 'app'", &[]).await.unwrap()
    }

    async fn queued_manifest(&self, digest: &Digest) -> (i64, i64, i64) {
        (MANIFEST, self.repository_id().await, self.inside.manifest_id(digest).await)
    }

    async fn queued_grant(&self, digest: &Digest) -> (i64, i64, i64) {
        (GRANT, self.repository_id().await, self.inside.blob_id(digest).await)
    }
}

async fn a_new_manifest_is_queued(database: Database) {
    let digest = database.push(manifest("app", "manifest")).await;
    assert_eq!(database.queued().await, [database.queued_manifest(&digest).await]);
}

async fn a_new_grant_is_queued(database: Database) {
    let digest = database.push_blob("app", "blob").await;
    assert_eq!(database.queued().await, [database.queued_grant(&digest).await]);
    database.clear_queue().await;
    let (target, from) = (repository("target"), repository("app"));
    database.metadata.mount_blob(&target, &from, &digest).await.unwrap();
    let target = "SELECT id FROM repositories WHERE name = 'target'";
    let target = database.inside.number(target, &[]).await.unwrap();
    assert_eq!(database.queued().await, [(GRANT, target, database.inside.blob_id(&digest).await)]);
}

async fn a_tag_that_moves_queues_what_it_left(database: Database) {
    let old = database.push(tagged(manifest("app", "old"), &["latest"])).await;
    database.push(manifest("app", "new")).await;
    database.clear_queue().await;
    database.push(tagged(manifest("app", "new"), &["latest"])).await;
    assert_eq!(database.queued().await, [database.queued_manifest(&old).await]);
}

async fn a_tag_that_stays_queues_nothing(database: Database) {
    database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
    database.clear_queue().await;
    database.push(tagged(manifest("app", "manifest"), &["latest", "second"])).await;
    assert_eq!(database.queued().await, []);
}

async fn a_deleted_tag_queues_its_manifest(database: Database) {
    let digest = database.push(tagged(manifest("app", "manifest"), &["one", "two"])).await;
    for name in ["one", "two"] {
        database.clear_queue().await;
        assert!(database.metadata.delete_tag(&repository("app"), &tag(name), None).await.unwrap());
        assert_eq!(database.queued().await, [database.queued_manifest(&digest).await]);
    }
}

async fn a_deleted_manifest_queues_its_layers(database: Database) {
    let first = database.push_blob("app", "first").await;
    let second = database.push_blob("app", "second").await;
    let digest = database.push(image("app", "manifest", &["first", "second"])).await;
    database.clear_queue().await;
    database.metadata.delete_manifest(&repository("app"), &digest, None).await.unwrap();
    let expected = [database.queued_grant(&first).await, database.queued_grant(&second).await];
    assert_eq!(database.queued().await, expected);
}

async fn a_deleted_manifest_queues_its_referrers(database: Database) {
    let subject = database.push(manifest("app", "subject")).await;
    let mut referrers = Vec::new();
    for body in ["signature", "attestation"] {
        referrers.push(database.push(PutManifest { subject: Some(subject), ..manifest("app", body) }).await);
    }
    database.push(manifest("app", "a bystander")).await;
    database.clear_queue().await;
    database.metadata.delete_manifest(&repository("app"), &subject, None).await.unwrap();
    let expected = [database.queued_manifest(&referrers[0]).await, database.queued_manifest(&referrers[1]).await];
    assert_eq!(database.queued().await, expected);
}

async fn a_deleted_index_queues_its_children(database: Database) {
    let amd64 = database.push(manifest("app", "amd64")).await;
    let arm64 = database.push(manifest("app", "arm64")).await;
    let digest = database.push(index("app", "index", &["amd64", "arm64"])).await;
    database.clear_queue().await;
    database.metadata.delete_manifest(&repository("app"), &digest, None).await.unwrap();
    let expected = [database.queued_manifest(&amd64).await, database.queued_manifest(&arm64).await];
    assert_eq!(database.queued().await, expected);
}

async fn a_deleted_grant_queues_the_blob(database: Database) {
    database.push_blob("app", "blob").await;
    database.clear_queue().await;
    database.metadata.delete_blob(&repository("app"), &digest_of("blob")).await.unwrap();
    assert_eq!(database.queued().await, [(BLOB, database.inside.blob_id(&digest_of("blob")).await, 0)]);
}

async fn an_event_begins_the_wait_and_the_attempts_anew(database: Database) {
    let digest = database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
    database.inside.execute("UPDATE gc_queue SET attempts = 5", &[]).await.unwrap();
    database.advance(REVIEW_DELAY * 2).await;
    database.metadata.delete_tag(&repository("app"), &tag("latest"), None).await.unwrap();
    // `queued` asserts the new time and no attempts.
    assert_eq!(database.queued().await, [database.queued_manifest(&digest).await]);
}
