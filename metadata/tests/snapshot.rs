//! Snapshots: what one database holds another one comes to hold, whatever its engine.

use crate::content::{digest_of, image, index, inline_blob, manifest, repository, sparse, tag, tagged};
use crate::database::{BEGIN, Database, PROMISE, REVIEW_DELAY, TICK, micros};
use longshore_metadata::{Error, Lifetimes, Metadata, PutManifest, SnapshotTable};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

on_both_engines!(
    what_is_restored_is_what_was_there,
    a_snapshot_is_of_one_moment,
    pages_leave_nothing_out,
    what_was_promised_is_promised_anew,
    garbage_collection_waits_after_a_restore,
    uploads_that_had_not_ended_are_condemned,
    a_restored_registry_goes_on,
    nothing_is_restored_into_a_database_that_is_not_empty,
    what_is_not_committed_is_not_there,
    a_schema_that_is_not_ours_is_not_read,
);

/// All that a snapshot holds.
type Rows = BTreeMap<SnapshotTable, Vec<String>>;

async fn rows_of(metadata: &Metadata) -> Rows {
    let mut snapshot = metadata.snapshot().await.unwrap();
    let mut all = Rows::new();
    for table in SnapshotTable::ALL {
        let rows = all.entry(table).or_default();
        loop {
            let page = snapshot.rows_after(table, rows.last().map(String::as_str)).await.unwrap();
            if page.is_empty() {
                break;
            }
            rows.extend(page);
        }
    }
    snapshot.end().await.unwrap();
    all
}

/// Without what the engines write in different ways: the blanks of JSON.
fn plain(rows: &Rows) -> BTreeMap<&'static str, Vec<Value>> {
    let values = |rows: &Vec<String>| rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    rows.iter().map(|(table, rows)| (table.name(), values(rows))).collect()
}

async fn restore(rows: &Rows, metadata: &Metadata) {
    let mut restore = metadata.begin_restore().await.unwrap().unwrap();
    for table in SnapshotTable::ALL {
        for few in rows[&table].chunks(3) {
            restore.insert(table, few).await.unwrap();
        }
    }
    restore.commit().await.unwrap();
}

impl Database {
    /// An empty one of the other engine.
    async fn other(&self) -> Self {
        if self.metadata.engine() == "sqlite" { Self::postgres().await } else { Self::sqlite().await }
    }

    /// An empty one of this engine.
    async fn same(&self) -> Self {
        if self.metadata.engine() == "sqlite" { Self::sqlite().await } else { Self::postgres().await }
    }

    /// Something of everything.
    async fn fill(&self) {
        for content in ["", "config", "layer"] {
            self.push_blob("app", content).await;
        }
        self.push_blob("team/other", "config").await;
        self.upload_blob("app", "objects/1", "large").await;
        self.push(tagged(image("app", "image", &["config", "large"]), &["latest", "v1"])).await;
        self.push(image("app", "untagged", &["layer"])).await;
        self.push(tagged(index("app", "index", &["image"]), &["all"])).await;
        self.push(sparse(index("app", "sparse index", &["image", "not here"]))).await;
        self.push(sparse(image("app", "sparse image", &["not here either"]))).await;
        let annotations = Some("{\"a\":\"\\\"quoted\\\" \u{e9} \\\\ \\n\"}".to_owned());
        let subject = Some(digest_of("image"));
        let artifact_type = Some("application/x".to_owned());
        self.push(PutManifest { subject, annotations, artifact_type, ..manifest("app", "signature") }).await;
        self.metadata.delete_tag(&repository("app"), &tag("v1"), Some("ann")).await.unwrap();
        for sql in [
            "INSERT INTO deleted_manifests (repository_id, digest, media_type, body, deleted_at, keep_until) \
                SELECT repository_id, digest, media_type, body, 1, 2 FROM manifests",
            "INSERT INTO damaged_blobs (blob_id, reason, found_at) SELECT id, 'torn', 6 FROM blobs WHERE object_id IS NOT NULL",
            "INSERT INTO users (name, kind, password_hash, created_at) \
                VALUES ('ann', 'person', NULL, 1), ('bot', 'robot', 'hash', 2)",
            "INSERT INTO tokens (user_id, kind, description, secret_hash, scope, created_at) \
                SELECT u.id, 'access', 'for work', b.digest, '*', 3 FROM users u, blobs b WHERE u.name = 'ann'",
            "INSERT INTO grants (subject_kind, subject, repository_pattern, role, created_at) \
                VALUES ('everyone', '', 'app/*', 'reader', 4)",
            "INSERT INTO audit_log (at, action, target, digest_after, outcome) \
                SELECT 5, 'push', 'app', digest, 'done' FROM blobs",
            "INSERT INTO tombstones (key, backend, size, reason, created_at, not_before, backend_upload) \
                VALUES ('objects/0', 'files', 7, 'nobody holds it', 1, 2, 'upload')",
            "INSERT INTO gc_queue (kind, id1, id2, review_after) SELECT 3, id, 0, 7 FROM blobs WHERE object_id IS NULL",
        ] {
            self.inside.execute(sql, &[]).await.unwrap();
        }
    }
}

async fn what_is_restored_is_what_was_there(database: Database) {
    database.fill().await;
    let there = rows_of(&database.metadata).await;
    for (table, rows) in &there {
        let may_be_empty = *table == SnapshotTable::UnfinishedObjects;
        assert_eq!(rows.is_empty(), may_be_empty, "the test has no row of {}", table.name());
    }
    let other = database.other().await;
    restore(&there, &other.metadata).await;
    other.assert_consistent().await;
    let moved = rows_of(&other.metadata).await;
    assert_eq!(plain(&moved), plain(&there));
    let back = database.same().await;
    restore(&moved, &back.metadata).await;
    back.assert_consistent().await;
    assert_eq!(plain(&rows_of(&back.metadata).await), plain(&there));
}

async fn a_snapshot_is_of_one_moment(database: Database) {
    database.push_blob("app", "before").await;
    let mut snapshot = database.metadata.snapshot().await.unwrap();
    assert_eq!(snapshot.at(), SystemTime::UNIX_EPOCH + Duration::from_micros(BEGIN as u64));
    let repositories = snapshot.rows_after(SnapshotTable::Repositories, None).await.unwrap();
    assert_eq!(repositories.len(), 1);
    // Nobody waits for it.
    database.push_blob("app", "after").await;
    database.push(image("new", "manifest", &[])).await;
    assert_eq!(snapshot.rows_after(SnapshotTable::Repositories, None).await.unwrap(), repositories);
    assert_eq!(snapshot.rows_after(SnapshotTable::Blobs, None).await.unwrap().len(), 1);
    assert_eq!(snapshot.rows_after(SnapshotTable::Manifests, None).await.unwrap(), [] as [String; 0]);
    snapshot.end().await.unwrap();
    assert_eq!(rows_of(&database.metadata).await[&SnapshotTable::Blobs].len(), 2);
}

/// More rows than a page has, and pages that end before that since their rows are large.
async fn pages_leave_nothing_out(database: Database) {
    for number in 0..7 {
        let body = format!("{number}{}", " ".repeat(1_500_000));
        database.push(tagged(manifest("app", &body), &[&format!("t{number}")])).await;
    }
    for number in 0..1100 {
        database.push_blob("many", &number.to_string()).await;
    }
    let rows = rows_of(&database.metadata).await;
    assert_eq!(rows[&SnapshotTable::Manifests].len(), 7);
    for table in [SnapshotTable::Blobs, SnapshotTable::RepositoryBlobs] {
        assert_eq!(rows[&table].len(), 1100, "{}", table.name());
    }
    let mut snapshot = database.metadata.snapshot().await.unwrap();
    let page = snapshot.rows_after(SnapshotTable::Manifests, None).await.unwrap();
    assert!((1..7).contains(&page.len()), "{} manifests of 1.5 MB in a page", page.len());
}

async fn what_was_promised_is_promised_anew(database: Database) {
    database.push_blob("app", "old").await;
    database.inside.execute("UPDATE repository_blobs SET expires_at = 5", &[]).await.unwrap();
    let far = BEGIN + micros(PROMISE) * 100;
    database.push_blob("other", "kept for long").await;
    let keep = "UPDATE repository_blobs SET expires_at = $1 WHERE expires_at > 5";
    database.inside.execute(keep, &[far]).await.unwrap();
    let condemn = "INSERT INTO tombstones (key, backend, size, reason, created_at, not_before, attempts, claimed_until) \
        VALUES ('objects/0', 'files', 7, 'nobody holds it', 1, 2, 3, 4)";
    database.inside.execute(condemn, &[]).await.unwrap();
    let rows = rows_of(&database.metadata).await;
    let new = database.other().await;
    let object_delay = Duration::from_secs(7 * 24 * 3600);
    let lifetimes = Lifetimes { promise: PROMISE, review_delay: REVIEW_DELAY, object_delay, undo: Duration::ZERO };
    new.metadata.set_lifetimes(lifetimes).await.unwrap();
    new.advance(PROMISE * 10).await;
    restore(&rows, &new.metadata).await;
    let now = new.now().await;
    let leases = new
        .inside
        .triples(
            "SELECT expires_at, expires_at - expires_at, expires_at - expires_at FROM repository_blobs ORDER BY 1",
            &[],
        )
        .await;
    assert_eq!(leases, [(now + 2 * micros(PROMISE), 0, 0), (far, 0, 0)]);
    let waiting = new.inside.triples("SELECT not_before, attempts, claimed_until FROM tombstones", &[]).await;
    assert_eq!(waiting, [(now + micros(object_delay), 0, 0)]);
}

async fn garbage_collection_waits_after_a_restore(database: Database) {
    database.push_blob("app", "blob").await;
    database.push(image("app", "manifest", &["blob"])).await;
    let rows = rows_of(&database.metadata).await;
    let new = database.other().await;
    restore(&rows, &new.metadata).await;
    let state = new.metadata.begin_collection().await.unwrap();
    assert_eq!(state.waits_until, Some(state.now + PROMISE));
    new.advance(PROMISE).await;
    assert_eq!(new.metadata.collection_state().await.unwrap().waits_until, None);
    // It will look at everything once.
    let queued = new.inside.triples("SELECT kind, review_after, attempts FROM gc_queue ORDER BY kind", &[]).await;
    let due = BEGIN + micros(REVIEW_DELAY);
    assert_eq!(queued, [(1, due, 0), (2, due, 0)]);
}

async fn uploads_that_had_not_ended_are_condemned(database: Database) {
    database.upload_blob("app", "objects/1", "whole").await;
    database.attached_upload("app", "objects/2", "never ended").await;
    let name = "UPDATE uploads SET backend_upload = 'parts'";
    assert_eq!(database.inside.execute(name, &[]).await.unwrap(), 1);
    let rows = rows_of(&database.metadata).await;
    let new = database.other().await;
    restore(&rows, &new.metadata).await;
    assert_eq!(new.inside.texts("SELECT key FROM objects").await, ["objects/1"]);
    let condemned = new.inside.texts("SELECT key || ' ' || backend_upload FROM tombstones").await;
    assert_eq!(condemned, ["objects/2 parts"]);
    assert_eq!(new.inside.count("SELECT count(*) FROM uploads").await, 0);
    new.assert_consistent().await;
}

/// New rows get numbers that nothing has.
async fn a_restored_registry_goes_on(database: Database) {
    database.fill().await;
    let rows = rows_of(&database.metadata).await;
    let new = database.other().await;
    restore(&rows, &new.metadata).await;
    new.push_blob("brand/new", "new blob").await;
    new.upload_blob("app", "objects/new", "new object").await;
    new.push(tagged(image("app", "new manifest", &["new object", "config"]), &["latest"])).await;
    let found = new.metadata.find_tag(&repository("app"), &tag("latest")).await.unwrap().unwrap();
    assert_eq!(found.digest, digest_of("new manifest"));
    assert_eq!(new.metadata.tag_changes(&repository("app"), &tag("latest"), None, 10).await.unwrap().len(), 2);
    new.inside.execute("INSERT INTO users (name, kind, created_at) VALUES ('new', 'person', 1)", &[]).await.unwrap();
    new.assert_consistent().await;
}

async fn nothing_is_restored_into_a_database_that_is_not_empty(database: Database) {
    database.push_blob("app", "blob").await;
    assert!(database.metadata.begin_restore().await.unwrap().is_none());
    // And whoever is refused holds nothing.
    database.push_blob("app", "another").await;
}

async fn what_is_not_committed_is_not_there(database: Database) {
    database.fill().await;
    let rows = rows_of(&database.metadata).await;
    let new = database.other().await;
    let mut begun = new.metadata.begin_restore().await.unwrap().unwrap();
    begun.insert(SnapshotTable::Repositories, &rows[&SnapshotTable::Repositories]).await.unwrap();
    drop(begun);
    // The connection that was dropped ends after its own time: the next waits for it.
    restore(&rows, &new.metadata).await;
    assert_eq!(plain(&rows_of(&new.metadata).await), plain(&rows));
    let third = database.other().await;
    let mut refused = third.metadata.begin_restore().await.unwrap().unwrap();
    let tags = refused.insert(SnapshotTable::Tags, &rows[&SnapshotTable::Tags]).await;
    assert!(matches!(tags, Err(Error::Statement(_))), "what they name is not there: {tags:?}");
}

async fn a_schema_that_is_not_ours_is_not_read(database: Database) {
    let newest = database.metadata.newest_migration();
    let newer = "UPDATE _sqlx_migrations SET version = version + 1 WHERE version = $1";
    database.inside.execute(newer, &[newest]).await.unwrap();
    let refused = database.metadata.snapshot().await.map(drop);
    assert!(matches!(refused, Err(Error::Schema { .. })), "{refused:?}");
}

/// One of the things that happen in a registry.
async fn happen(database: &Database, (what, one, two): (u8, u8, u8)) {
    let (name, other) = (format!("r{}", one % 3), format!("r{}", two % 3));
    let (first, second) = (format!("c{}", one % 5), format!("c{}", two % 5));
    let body = format!("m{}", two % 6);
    let metadata = &database.metadata;
    match what % 8 {
        0 => metadata.put_inline_blob(inline_blob(&name, &second)).await.unwrap(),
        1 => {
            let key = format!("objects/{}", uuid::Uuid::new_v4().simple());
            database.upload_blob(&name, &key, &first).await;
        }
        2 => {
            metadata.mount_blob(&repository(&name), &repository(&other), &digest_of(&first)).await.unwrap();
        }
        3 => {
            let image = image(&name, &format!("{body} {first} {second}"), &[&first, &second]);
            metadata.put_manifest(tagged(image, &[&format!("t{}", two % 2)])).await.unwrap();
        }
        4 => {
            let index = index(&name, &format!("index {body} {first}"), &[&body, &format!("index {body} {second}")]);
            metadata.put_manifest(sparse(index)).await.unwrap();
        }
        5 => {
            metadata.delete_tag(&repository(&name), &tag(&format!("t{}", two % 2)), None).await.unwrap();
        }
        6 => {
            metadata.delete_blob(&repository(&name), &digest_of(&second)).await.unwrap();
        }
        _ => {
            let subject = Some(digest_of(&body));
            let referrer = PutManifest { subject, ..manifest(&name, &format!("of {body} {first}")) };
            metadata.put_manifest(referrer).await.unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_survives(happened in proptest::collection::vec(any::<(u8, u8, u8)>(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let database = Database::sqlite().await;
            for thing in happened {
                happen(&database, thing).await;
                database.advance(TICK).await;
            }
            let there = rows_of(&database.metadata).await;
            let moved = Database::postgres().await;
            moved.advance(Duration::from_micros((database.now().await - BEGIN) as u64)).await;
            restore(&there, &moved.metadata).await;
            moved.assert_consistent().await;
            // Leases that began at different times end at the same one now.
            let mut there = plain(&there);
            let mut moved = plain(&rows_of(&moved.metadata).await);
            for rows in [&mut there, &mut moved] {
                for lease in rows.get_mut("repository_blobs").unwrap() {
                    lease[2] = Value::Null;
                }
            }
            assert_eq!(moved, there);
        });
    }
}
