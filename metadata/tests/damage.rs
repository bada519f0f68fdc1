//! Blobs whose bytes were found damaged, and the reading that finds them.

use crate::content::{digest_of, image, index, inline_blob, manifest, repository, sparse, tag, tagged};
use crate::database::{Database, TICK};
use crate::inside::Inside;
use longshore_metadata::{
    BlobContent, CommitOutcome, Content, DamagedRow, InRows, MountOutcome, PutManifestOutcome, RowsRead, Scrubbed,
    StoredObject,
};
use longshore_oci::Digest;
use std::time::Duration;

on_both_engines!(
    a_damaged_blob_can_be_got_in_no_way,
    a_push_takes_the_place_of_what_was_damaged,
    a_small_push_takes_the_place_of_a_damaged_object,
    of_two_pushes_one_takes_the_place,
    what_is_right_again_can_be_read_again,
    a_blob_that_was_pushed_anew_since_is_not_damaged,
    a_damaged_blob_goes_as_others_do,
    every_process_hears_of_damage,
    one_process_reads_at_a_time,
    who_is_asked_to_read_takes_the_claim,
    a_round_goes_on_where_the_last_process_was,
    who_lost_the_claim_saves_nothing,
    a_damaged_row_can_be_got_in_no_way_and_is_mended_by_a_push,
    a_push_mends_a_small_blob_that_nobody_has_found_damaged,
    what_is_read_from_a_damaged_row_is_kept_in_no_memory,
    a_damaged_manifest_is_written_down_once,
    an_index_waits_until_its_damaged_child_is_pushed_anew,
    the_damage_of_a_manifest_leaves_others_in_memory,
    what_is_damaged_is_not_there_although_nothing_can_be_written,
    a_row_that_was_pushed_anew_since_is_not_damaged,
    a_page_of_small_blobs_ends_after_so_many_rows_whatever_is_in_them,
    how_far_rows_were_read_is_kept_until_the_next_round,
);

const HOLD: Duration = Duration::from_secs(60);

impl Database {
    async fn objects(&self) -> Vec<StoredObject> {
        self.metadata.objects_after(0, 100).await.unwrap()
    }

    /// A blob in an object, found damaged.
    async fn damaged(&self, repository_name: &str, content: &str) -> StoredObject {
        self.upload_blob(repository_name, "objects/damaged", content).await;
        let object = self.objects().await.into_iter().find(|object| object.digest == digest_of(content)).unwrap();
        assert!(self.metadata.mark_damaged(object.clone(), "torn".to_owned()).await.unwrap());
        object
    }

    async fn content_of(&self, content: &str) -> Option<BlobContent> {
        let found = self.metadata.find_blob(&repository("app"), &digest_of(content)).await.unwrap();
        found.map(|blob| blob.content)
    }
}

async fn a_damaged_blob_can_be_got_in_no_way(database: Database) {
    let object = database.damaged("app", "layer").await;
    let digest = digest_of("layer");
    let app = repository("app");
    assert_eq!(database.metadata.find_blob(&app, &digest).await.unwrap(), None);
    assert_eq!(database.metadata.promise_blob(&app, &digest).await.unwrap(), None);
    let mounted = database.metadata.mount_blob(&repository("other"), &app, &digest).await.unwrap();
    assert_eq!(mounted, MountOutcome::NotThere);
    for allow_absent in [false, true] {
        let manifest = longshore_metadata::PutManifest { allow_absent, ..image("app", "manifest", &["layer"]) };
        let put = database.metadata.put_manifest(manifest).await.unwrap();
        assert_eq!(put, PutManifestOutcome::Absent { digests: vec![digest] });
    }
    let listed = database.metadata.damaged_blobs(0, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].digest, listed[0].reason.as_str()), (1, digest, "torn"));
    assert_eq!(listed[0].key.as_deref(), Some("objects/damaged"));
    assert_eq!(database.metadata.damaged_blobs(listed[0].number, 10).await.unwrap(), []);
    assert_eq!(database.metadata.count_damaged().await.unwrap(), 1);
    assert_eq!(database.metadata.holder_of(&object).await.unwrap(), Some(repository("app")));
    assert!(!database.metadata.mark_damaged(object, "again".to_owned()).await.unwrap(), "that is known");
}

async fn a_push_takes_the_place_of_what_was_damaged(database: Database) {
    database.damaged("app", "layer").await;
    database.upload_blob("other", "objects/right", "layer").await;
    // Also where the damaged one is needed.
    assert_eq!(database.content_of("layer").await, Some(BlobContent::Object { key: "objects/right".into() }));
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/damaged"]);
    assert_eq!(database.metadata.count_damaged().await.unwrap(), 0);
    assert_eq!(database.objects().await.len(), 1);
    database.assert_consistent().await;
}

async fn a_small_push_takes_the_place_of_a_damaged_object(database: Database) {
    database.damaged("app", "layer").await;
    database.metadata.put_inline_blob(inline_blob("app", "layer")).await.unwrap();
    assert_eq!(database.content_of("layer").await, Some(BlobContent::Inline(b"layer".as_slice().into())));
    assert_eq!(database.inside.texts("SELECT key FROM tombstones").await, ["objects/damaged"]);
    database.assert_consistent().await;
}

async fn of_two_pushes_one_takes_the_place(database: Database) {
    database.damaged("app", "layer").await;
    let first = database.attached_upload("app", "objects/1", "layer").await;
    let second = database.attached_upload("other", "objects/2", "layer").await;
    let (first, second) = tokio::join!(database.metadata.commit_upload(first), database.metadata.commit_upload(second));
    assert_eq!((first.unwrap(), second.unwrap()), (CommitOutcome::Committed, CommitOutcome::Committed));
    let mut condemned = database.inside.texts("SELECT key FROM tombstones").await;
    condemned.retain(|key| key != "objects/damaged");
    assert_eq!(condemned.len(), 1, "{condemned:?}");
    let Some(BlobContent::Object { key }) = database.content_of("layer").await else { panic!("it is gone") };
    assert_ne!(*key, *condemned[0]);
    database.assert_consistent().await;
}

async fn what_is_right_again_can_be_read_again(database: Database) {
    let object = database.damaged("app", "layer").await;
    assert!(database.metadata.clear_damage(&object).await.unwrap());
    assert!(database.content_of("layer").await.is_some());
    assert!(!database.metadata.clear_damage(&object).await.unwrap());
}

async fn a_blob_that_was_pushed_anew_since_is_not_damaged(database: Database) {
    let object = database.damaged("app", "layer").await;
    database.upload_blob("app", "objects/right", "layer").await;
    assert!(!database.metadata.mark_damaged(object, "seen before".to_owned()).await.unwrap());
    assert!(database.content_of("layer").await.is_some());
}

async fn a_damaged_blob_goes_as_others_do(database: Database) {
    database.damaged("app", "layer").await;
    database.metadata.delete_blob(&repository("app"), &digest_of("layer")).await.unwrap();
    assert_eq!(database.inside.execute("DELETE FROM blobs", &[]).await.unwrap(), 1);
    assert_eq!(database.metadata.count_damaged().await.unwrap(), 0);
}

async fn every_process_hears_of_damage(database: Database) {
    let other = database.empty.connect_with_cache(1 << 20).await;
    let own = database.empty.connect_with_cache(1 << 20).await;
    database.upload_blob("app", "objects/1", "layer").await;
    let (app, digest) = (repository("app"), digest_of("layer"));
    // SQLite has one process.
    let reader = if matches!(database.inside, Inside::Postgres(_)) { &other } else { &own };
    assert!(reader.find_blob(&app, &digest).await.unwrap().is_some());
    let object = database.objects().await.remove(0);
    assert!(own.mark_damaged(object, "torn".to_owned()).await.unwrap());
    assert_eq!(reader.find_blob(&app, &digest).await.unwrap(), None);
}

async fn one_process_reads_at_a_time(database: Database) {
    let first = database.metadata.claim_scrub(HOLD).await.unwrap().unwrap();
    assert_eq!((first.began, first.finished), (None, None));
    assert_eq!(database.metadata.claim_scrub(HOLD).await.unwrap(), None);
    database.advance(HOLD - TICK).await;
    assert_eq!(database.metadata.claim_scrub(HOLD).await.unwrap(), None);
    database.advance(TICK).await;
    assert!(database.metadata.claim_scrub(HOLD).await.unwrap().is_some());
}

async fn who_is_asked_to_read_takes_the_claim(database: Database) {
    let first = database.metadata.claim_scrub(HOLD).await.unwrap().unwrap().claim;
    database.metadata.begin_scrub(first).await.unwrap();
    let saved = |claim, last| Scrubbed { claim, last, bytes: 1, right: Vec::new(), hold: HOLD };
    assert!(database.metadata.save_scrub(saved(first, 7)).await.unwrap());
    let taken = database.metadata.take_scrub(HOLD).await.unwrap().unwrap();
    assert_eq!((taken.last, taken.done, taken.finished), (7, 1, None));
    assert!(!database.metadata.save_scrub(saved(first, 8)).await.unwrap(), "it was taken");
    assert_eq!(database.metadata.claim_scrub(HOLD).await.unwrap(), None, "and nobody else reads");
    assert!(database.metadata.save_scrub(saved(taken.claim, 8)).await.unwrap());
}

async fn a_round_goes_on_where_the_last_process_was(database: Database) {
    for content in ["one", "three", "seven"] {
        database.upload_blob("app", &format!("objects/{content}"), content).await;
    }
    let objects = database.objects().await;
    let claim = database.metadata.claim_scrub(HOLD).await.unwrap().unwrap().claim;
    assert_eq!(database.metadata.begin_scrub(claim).await.unwrap(), Some(13));
    let (last, right) = (objects[1].number, vec![objects[0].number]);
    let saved = Scrubbed { claim, last, bytes: 8, right, hold: HOLD };
    assert!(database.metadata.save_scrub(saved).await.unwrap());
    database.metadata.release_scrub(claim).await.unwrap();
    let next = database.metadata.claim_scrub(HOLD).await.unwrap().unwrap();
    assert_eq!((next.last, next.total, next.done, next.finished), (last, 13, 8, None));
    assert!(next.began.is_some());
    assert_eq!(database.metadata.objects_after(next.last, 10).await.unwrap(), objects[2..]);
    let verified = database.inside.count("SELECT count(*) FROM objects WHERE verified_at IS NOT NULL").await;
    assert_eq!(verified, 1);
    database.metadata.finish_scrub(next.claim).await.unwrap();
    assert!(database.metadata.scrub_state().await.unwrap().finished.is_some());
}

async fn who_lost_the_claim_saves_nothing(database: Database) {
    let lost = database.metadata.claim_scrub(HOLD).await.unwrap().unwrap().claim;
    database.advance(HOLD).await;
    let taken = database.metadata.claim_scrub(HOLD).await.unwrap().unwrap().claim;
    let saved = |claim| Scrubbed { claim, last: 7, bytes: 1, right: Vec::new(), hold: HOLD };
    assert!(!database.metadata.save_scrub(saved(lost)).await.unwrap());
    assert_eq!(database.metadata.begin_scrub(lost).await.unwrap(), None);
    database.metadata.release_scrub(lost).await.unwrap();
    assert_eq!(database.metadata.claim_scrub(HOLD).await.unwrap(), None, "it is another's");
    assert!(database.metadata.save_scrub(saved(taken)).await.unwrap());
}

impl Database {
    /// Gives all that is in rows the bytes "rotten".
    async fn spoil(&self) {
        let rotten = match &self.inside {
            Inside::Postgres(_) => [
                "UPDATE blobs SET inline = convert_to('rotten', 'UTF8')",
                "UPDATE manifests SET body = convert_to('rotten', 'UTF8')",
            ],
            Inside::Sqlite(_) => [
                "UPDATE blobs SET inline = CAST('rotten' AS BLOB)",
                "UPDATE manifests SET body = CAST('rotten' AS BLOB)",
            ],
        };
        for sql in rotten {
            assert_eq!(self.inside.execute(sql, &[]).await.unwrap(), 1);
        }
    }

    /// Does something of its own, given for either engine, whenever somebody comes to write a damaged row down.
    async fn when_damage_is_written(&self, postgres: &'static str, sqlite: &'static str) {
        let statements = match &self.inside {
            Inside::Postgres(_) => vec![
                postgres,
                "CREATE TRIGGER of_blob BEFORE INSERT ON damaged_blobs FOR EACH ROW EXECUTE FUNCTION written()",
                "CREATE TRIGGER of_manifest BEFORE INSERT ON damaged_manifests FOR EACH ROW EXECUTE FUNCTION written()",
            ],
            Inside::Sqlite(_) => vec![sqlite],
        };
        for sql in statements {
            self.inside.execute(sql, &[]).await.unwrap();
        }
    }

    async fn only_content(&self, of: InRows) -> Content {
        let mut page = self.metadata.contents(of, (0, 0), 10).await.unwrap();
        assert_eq!(page.contents.len(), 1);
        page.contents.remove(0)
    }

    /// Blobs whose bytes are in objects.
    async fn fifteen_hundred_objects(&self) {
        let blobs = match &self.inside {
            Inside::Postgres(_) => {
                "INSERT INTO blobs (digest, size, object_id, created_at) SELECT sha256(key::bytea), 1, id, 0 FROM objects"
            }
            Inside::Sqlite(_) => {
                "INSERT INTO blobs (digest, size, object_id, created_at) SELECT CAST(key AS BLOB), 1, id, 0 FROM objects"
            }
        };
        let objects = "WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 1500) \
            INSERT INTO objects (key, backend, size, state, created_at) SELECT 'k' || n, 'files', 1, 'live', 0 FROM counted";
        for sql in [objects, blobs] {
            assert_eq!(self.inside.execute(sql, &[]).await.unwrap(), 1500);
        }
    }

    /// Page after page, what of small blobs is found in each.
    async fn small_blobs(&self, limit: u32) -> Vec<Vec<Digest>> {
        let (mut pages, mut after) = (Vec::new(), (0, 0));
        loop {
            let page = self.metadata.contents(InRows::Blobs, after, limit).await.unwrap();
            let Some(reached) = page.reached else {
                assert_eq!(page.contents, []);
                return pages;
            };
            assert!(reached > after);
            after = reached;
            pages.push(page.contents.iter().map(|content| content.digest).collect());
        }
    }

    async fn mark_row(&self, of: InRows) -> bool {
        let content = self.only_content(of).await;
        let row = DamagedRow::of(content.repository.as_ref(), &content.digest, &content.bytes).unwrap();
        self.metadata.mark_damaged_row(row).await.unwrap()
    }
}

async fn a_damaged_row_can_be_got_in_no_way_and_is_mended_by_a_push(database: Database) {
    let (app, blob, body) = (repository("app"), digest_of("blob"), digest_of("body"));
    database.metadata.put_inline_blob(inline_blob("app", "blob")).await.unwrap();
    database.metadata.put_manifest(manifest("app", "body")).await.unwrap();
    database.spoil().await;
    for of in [InRows::Blobs, InRows::Manifests] {
        assert!(!database.only_content(of).await.is_damaged);
        assert!(database.mark_row(of).await);
        assert!(!database.mark_row(of).await, "that is known");
        assert!(database.only_content(of).await.is_damaged);
    }
    assert_eq!(database.metadata.find_blob(&app, &blob).await.unwrap(), None);
    assert_eq!(database.metadata.promise_blob(&app, &blob).await.unwrap(), None);
    assert_eq!(database.metadata.find_manifest(&app, &body).await.unwrap(), None);
    assert_eq!(database.metadata.damaged_blobs(0, 10).await.unwrap()[0].key, None);
    let listed = database.metadata.damaged_manifests(0, 10).await.unwrap();
    assert_eq!((listed.len(), &listed[0].repository, listed[0].digest), (1, &app, body));
    assert_eq!(database.metadata.damaged_manifests(listed[0].number, 10).await.unwrap(), []);
    database.metadata.put_inline_blob(inline_blob("app", "blob")).await.unwrap();
    database.metadata.put_manifest(manifest("app", "body")).await.unwrap();
    assert_eq!(database.content_of("blob").await, Some(BlobContent::Inline(b"blob".as_slice().into())));
    assert!(database.metadata.find_manifest(&app, &body).await.unwrap().is_some());
    assert_eq!(database.metadata.count_damaged().await.unwrap(), 0);
    assert_eq!(database.metadata.count_damaged_manifests().await.unwrap(), 0);
    database.assert_consistent().await;
}

async fn a_push_mends_a_small_blob_that_nobody_has_found_damaged(database: Database) {
    database.metadata.put_inline_blob(inline_blob("app", "blob")).await.unwrap();
    database.metadata.put_manifest(manifest("app", "body")).await.unwrap();
    database.spoil().await;
    database.metadata.put_inline_blob(inline_blob("other", "blob")).await.unwrap();
    assert_eq!(database.content_of("blob").await, Some(BlobContent::Inline(b"blob".as_slice().into())));
    database.assert_consistent().await;
}

async fn what_is_read_from_a_damaged_row_is_kept_in_no_memory(database: Database) {
    let (app, blob, body) = (repository("app"), digest_of("blob"), digest_of("body"));
    let reader = database.empty.connect_with_cache(1 << 20).await;
    database.metadata.put_inline_blob(inline_blob("app", "blob")).await.unwrap();
    database.metadata.put_manifest(manifest("app", "body")).await.unwrap();
    database.spoil().await;
    for _ in 0..2 {
        assert_eq!(reader.find_blob(&app, &blob).await.unwrap(), None);
        assert_eq!(reader.find_manifest(&app, &body).await.unwrap(), None);
    }
    // Whoever sees it remembers it, so that a client that asks first pushes it.
    assert_eq!(database.metadata.count_damaged().await.unwrap(), 1);
    assert_eq!(database.metadata.count_damaged_manifests().await.unwrap(), 1);
    assert_eq!(reader.promise_blob(&app, &blob).await.unwrap(), None);
    reader.put_inline_blob(inline_blob("app", "blob")).await.unwrap();
    reader.put_manifest(manifest("app", "body")).await.unwrap();
    assert!(reader.find_blob(&app, &blob).await.unwrap().is_some());
    assert!(reader.find_manifest(&app, &body).await.unwrap().is_some());
}

/// However often it is asked for, by its digest and by its tag.
async fn a_damaged_manifest_is_written_down_once(database: Database) {
    let app = repository("app");
    database.push_blob("app", "blob").await;
    let damaged = database.push(tagged(manifest("app", "body"), &["latest"])).await;
    database.spoil().await;
    database.inside.execute("CREATE TABLE writes (number BIGINT NOT NULL)", &[]).await.unwrap();
    database
        .when_damage_is_written(
            "CREATE FUNCTION written() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN INSERT INTO writes (number) VALUES (1); RETURN NEW; END'",
            "CREATE TRIGGER of_manifest BEFORE INSERT ON damaged_manifests BEGIN INSERT INTO writes (number) VALUES (1); END",
        )
        .await;
    for _ in 0..2 {
        assert_eq!(database.metadata.find_manifest(&app, &damaged).await.unwrap(), None);
        assert_eq!(database.metadata.find_tag(&app, &tag("latest")).await.unwrap(), None);
    }
    assert_eq!(database.inside.count("SELECT count(*) FROM writes").await, 1);
    database.push(manifest("app", "body")).await;
    let found = database.metadata.find_tag(&app, &tag("latest")).await.unwrap().unwrap();
    assert_eq!((found.digest, &found.body[..]), (damaged, &b"body"[..]));
}

async fn an_index_waits_until_its_damaged_child_is_pushed_anew(database: Database) {
    database.push_blob("app", "blob").await;
    let child = database.push(manifest("app", "child")).await;
    database.spoil().await;
    assert!(database.mark_row(InRows::Manifests).await);
    let index = index("app", "index", &["child"]);
    for index in [index.clone(), sparse(index.clone())] {
        let put = database.metadata.put_manifest(index).await.unwrap();
        assert_eq!(put, PutManifestOutcome::Absent { digests: vec![child] });
    }
    // Whoever asks whether to push it hears the same.
    assert_eq!(database.metadata.find_manifest(&repository("app"), &child).await.unwrap(), None);
    database.push(manifest("app", "child")).await;
    database.push(index).await;
    database.assert_consistent().await;
}

async fn the_damage_of_a_manifest_leaves_others_in_memory(database: Database) {
    let app = repository("app");
    let reader = database.process_with_cache().await;
    database.push_blob("app", "blob").await;
    let damaged = database.push(manifest("app", "body")).await;
    database.spoil().await;
    let mut others = Vec::new();
    for number in 0..8 {
        let other = manifest("app", &format!("sound {number}"));
        others.push(other.digest);
        // By the reader itself: nothing that others have done before is heard of later.
        reader.put_manifest(other).await.unwrap();
    }
    let read_others = async || {
        for other in &others {
            assert!(reader.find_manifest(&app, other).await.unwrap().is_some());
        }
    };
    read_others().await;
    let before = reader.cache_usage().hits;
    assert_eq!(reader.find_manifest(&app, &damaged).await.unwrap(), None);
    assert_eq!(database.metadata.count_damaged_manifests().await.unwrap(), 1);
    read_others().await;
    // Things share counters now and then.
    assert!(reader.cache_usage().hits - before > 4);
}

async fn what_is_damaged_is_not_there_although_nothing_can_be_written(database: Database) {
    let (app, blob, body) = (repository("app"), digest_of("blob"), digest_of("body"));
    database.push_blob("app", "blob").await;
    database.push(tagged(manifest("app", "body"), &["latest"])).await;
    database.spoil().await;
    database
        .when_damage_is_written(
            "CREATE FUNCTION written() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it is full''; END'",
            "CREATE TRIGGER of_manifest BEFORE INSERT ON damaged_manifests BEGIN SELECT RAISE(ABORT, 'it is full'); END",
        )
        .await;
    for _ in 0..2 {
        assert_eq!(database.metadata.find_manifest(&app, &body).await.unwrap(), None);
        assert_eq!(database.metadata.find_tag(&app, &tag("latest")).await.unwrap(), None);
        assert_eq!(database.metadata.find_blob(&app, &blob).await.unwrap(), None);
    }
    assert_eq!(database.metadata.count_damaged_manifests().await.unwrap(), 0);
}

async fn a_row_that_was_pushed_anew_since_is_not_damaged(database: Database) {
    database.metadata.put_inline_blob(inline_blob("app", "blob")).await.unwrap();
    database.metadata.put_manifest(manifest("app", "body")).await.unwrap();
    let app = repository("app");
    for (repository, content) in [(None, "blob"), (Some(&app), "body")] {
        let row = DamagedRow::of(repository, &digest_of(content), b"seen before").unwrap();
        assert!(!database.metadata.mark_damaged_row(row).await.unwrap());
    }
    assert!(database.content_of("blob").await.is_some());
}

async fn a_page_of_small_blobs_ends_after_so_many_rows_whatever_is_in_them(database: Database) {
    assert_eq!(database.small_blobs(1).await, Vec::<Vec<Digest>>::new());
    database.metadata.put_inline_blob(inline_blob("app", "first")).await.unwrap();
    database.fifteen_hundred_objects().await;
    database.metadata.put_inline_blob(inline_blob("app", "last")).await.unwrap();
    let (first, last) = (digest_of("first"), digest_of("last"));
    assert_eq!(database.small_blobs(10).await, [[first], [last]]);
    assert_eq!(database.small_blobs(1).await, [vec![first], vec![], vec![last]]);
}

async fn how_far_rows_were_read_is_kept_until_the_next_round(database: Database) {
    let claim = database.metadata.claim_scrub(HOLD).await.unwrap().unwrap();
    assert_eq!(claim.rows, RowsRead::UpTo(InRows::Blobs, (0, 0)));
    let claim = claim.claim;
    database.metadata.begin_scrub(claim).await.unwrap();
    for rows in [RowsRead::UpTo(InRows::Blobs, (7, 0)), RowsRead::UpTo(InRows::Manifests, (2, 9)), RowsRead::All] {
        assert!(database.metadata.save_scrub_rows(claim, rows, HOLD).await.unwrap());
        assert_eq!(database.metadata.scrub_state().await.unwrap().rows, rows);
    }
    let taken = database.metadata.take_scrub(HOLD).await.unwrap().unwrap();
    assert_eq!(taken.rows, RowsRead::All);
    let begun = RowsRead::UpTo(InRows::Blobs, (0, 0));
    assert!(!database.metadata.save_scrub_rows(claim, begun, HOLD).await.unwrap(), "it was taken");
    database.metadata.begin_scrub(taken.claim).await.unwrap();
    assert_eq!(database.metadata.scrub_state().await.unwrap().rows, begun);
}
