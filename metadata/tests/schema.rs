//! The schema: the same on both engines, migrated once whoever comes first, and refusing the bad state by itself.

use crate::content::{image, index, repository, tagged};
use crate::database::{Database, Empty, connect};
use crate::inside::Inside;
use futures_util::future::join_all;
use longshore_metadata::Metadata;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

on_both_engines!(
    a_manifest_cannot_name_a_blob_without_a_grant,
    a_grant_cannot_go_while_a_manifest_needs_it,
    a_blob_cannot_go_while_a_repository_holds_it,
    an_object_cannot_go_while_a_blob_or_a_session_needs_it,
    a_child_cannot_go_under_its_index,
    a_tag_cannot_name_what_is_not_there,
    a_manifest_cannot_go_under_its_tag,
    links_do_not_cross_repositories,
    a_blob_has_exactly_one_content,
    a_migration_of_a_newer_release_is_left_be,
    migrating_again_changes_nothing,
);

/// What the two engines must agree on, as text that a failed assertion can show.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    columns: BTreeSet<String>,
    indexes: BTreeSet<String>,
    foreign_keys: Vec<String>,
    triggers: BTreeSet<String>,
    views: BTreeSet<String>,
}

async fn set(inside: &Inside, sql: &'static str) -> BTreeSet<String> {
    inside.texts(sql).await.into_iter().collect()
}

async fn sorted(inside: &Inside, sql: &'static str) -> Vec<String> {
    let mut texts = inside.texts(sql).await;
    texts.sort_unstable();
    texts
}

async fn shape_on_postgres(inside: &Inside) -> Shape {
    Shape {
        columns: set(
            inside,
            "SELECT c.table_name || '.' || c.column_name || ' ' || c.data_type || ' ' || c.is_nullable \
             FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) \
             WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.table_name NOT LIKE '\\_sqlx%'",
        )
        .await,
        indexes: set(
            inside,
            "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public' \
             AND indexname NOT IN (SELECT conname FROM pg_constraint)",
        )
        .await,
        foreign_keys: sorted(
            inside,
            "SELECT conrelid::regclass || ' -> ' || confrelid::regclass || ' ' || \
             CASE confdeltype WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' ELSE confdeltype::text END \
             FROM pg_constraint WHERE contype = 'f'",
        )
        .await,
        // Those that announce something do it for other replicas, of which SQLite has none.
        triggers: set(
            inside,
            "SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal AND tgname NOT LIKE 'announce%'",
        )
        .await,
        views: set(inside, "SELECT viewname::text FROM pg_views WHERE schemaname = 'public'").await,
    }
}

async fn shape_on_sqlite(inside: &Inside) -> Shape {
    Shape {
        columns: set(
            inside,
            "SELECT t.name || '.' || c.name || ' ' || \
             CASE c.type WHEN 'INTEGER' THEN 'bigint' WHEN 'BLOB' THEN 'bytea' ELSE lower(c.type) END || ' ' || \
             CASE WHEN c.\"notnull\" = 1 OR c.pk > 0 THEN 'NO' ELSE 'YES' END \
             FROM sqlite_schema t JOIN pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\'",
        )
        .await,
        indexes: set(inside, "SELECT name FROM sqlite_schema WHERE type = 'index' AND name NOT LIKE 'sqlite%'").await,
        foreign_keys: sorted(
            inside,
            "SELECT t.name || ' -> ' || k.\"table\" || ' ' || k.on_delete \
             FROM sqlite_schema t JOIN pragma_foreign_key_list(t.name) k WHERE t.type = 'table' AND k.seq = 0",
        )
        .await,
        triggers: set(inside, "SELECT name FROM sqlite_schema WHERE type = 'trigger'").await,
        views: set(inside, "SELECT name FROM sqlite_schema WHERE type = 'view'").await,
    }
}

#[tokio::test]
async fn both_schemas_have_the_same_shape() {
    let (sqlite, postgres) = (Empty::sqlite(), Empty::postgres());
    for empty in [&sqlite, &postgres] {
        empty.connect().await.migrate().await.unwrap();
    }
    let sqlite = shape_on_sqlite(&Inside::open(&sqlite.url).await).await;
    let postgres = shape_on_postgres(&Inside::open(&postgres.url).await).await;
    assert!(sqlite.columns.len() > 100, "the tables were not found: {sqlite:?}");
    assert_eq!(sqlite, postgres);
}

fn migration_files(engine: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(engine);
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn both_engines_have_the_same_migrations_numbered_without_gaps() {
    let files = migration_files("sqlite");
    assert_eq!(files, migration_files("postgres"));
    let numbers: Vec<i64> = files.iter().map(|file| file.split_once('_').unwrap().0.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=files.len() as i64).collect::<Vec<_>>());
    for empty in [Empty::sqlite(), Empty::postgres()] {
        let pending = empty.connect().await.migration_status().await.unwrap().pending;
        let embedded: Vec<i64> = pending.into_iter().map(|(number, _)| number).collect();
        assert_eq!(embedded, numbers, "what the program embeds is not what lies in the folder");
    }
}

#[tokio::test]
async fn the_status_says_what_is_applied_and_what_is_to_come() {
    for empty in [Empty::sqlite(), Empty::postgres()] {
        let metadata = empty.connect().await;
        let before = metadata.migration_status().await.unwrap();
        assert_eq!(before.applied, []);
        assert_eq!(before.pending[0], (1, "registry".to_owned()));
        metadata.migrate().await.unwrap();
        let after = metadata.migration_status().await.unwrap();
        assert_eq!((after.applied, after.pending), (before.pending, vec![]));
    }
}

#[tokio::test]
async fn processes_that_migrate_at_once_wait_for_each_other() {
    for empty in [Empty::sqlite(), Empty::postgres()] {
        // One after the other: SQLite lets nobody wait for the change to a write-ahead log, which the first one makes.
        let processes = [empty.connect().await, empty.connect().await, empty.connect().await, empty.connect().await];
        for migrated in join_all(processes.iter().map(Metadata::migrate)).await {
            migrated.unwrap();
        }
        let status = empty.connect().await.migration_status().await.unwrap();
        assert_eq!(status.pending, []);
    }
}

/// The other process has applied everything and not committed yet: who looks now sees an empty book of migrations, and
/// must not begin on it.
#[tokio::test]
async fn a_process_that_comes_in_the_middle_of_a_migration_waits_for_its_end() {
    let empty = Empty::sqlite();
    let metadata = empty.connect().await;
    assert_eq!(metadata.migration_status().await.unwrap().applied, []);
    let inside = Inside::open(&empty.url).await;
    let Inside::Sqlite(pool) = &inside else { unreachable!("it was opened by a SQLite address") };
    let mut other = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    sqlx::migrate!("../migrations/sqlite").run(&mut *other).await.unwrap();
    let end = async {
        for _ in 0..100 {
            assert_eq!(
                inside.count("SELECT count(*) FROM _sqlx_migrations").await,
                0,
                "time for the other one to look"
            );
        }
        other.commit().await.unwrap();
    };
    let (migrated, ()) = tokio::join!(metadata.migrate(), end);
    migrated.unwrap();
    assert_eq!(metadata.migration_status().await.unwrap().pending, []);
}

async fn a_migration_of_a_newer_release_is_left_be(database: Database) {
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        SELECT 9999, 'of a newer release', success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1";
    database.inside.execute(newer, &[]).await.unwrap();
    let older = database.another_process().await;
    older.migrate().await.unwrap();
    assert_eq!(older.migration_status().await.unwrap().pending, []);
    database.push_blob("app", "a blob").await;
}

async fn migrating_again_changes_nothing(database: Database) {
    let digest = database.push_blob("app", "a blob").await;
    database.another_process().await.migrate().await.unwrap();
    assert!(database.metadata.find_blob(&repository("app"), &digest).await.unwrap().is_some());
}

/// Between two looks at the system's clock, and on the same machine, so it must lie between them.
#[tokio::test]
async fn the_clock_is_in_microseconds_since_1970() {
    let system = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    for empty in [Empty::sqlite(), Empty::postgres()] {
        connect(&empty.url).await.migrate().await.unwrap();
        let inside = Inside::open(&empty.url).await;
        let before = system();
        let clock = inside.number("SELECT now FROM clock", &[]).await.unwrap();
        assert!((before * 1000..(system() + 1) * 1000).contains(&clock), "{clock} is not now");
    }
}

/// Runs a statement that a foreign key must refuse.
async fn assert_refused(database: &Database, sql: &'static str, numbers: &[i64]) {
    let error = database.inside.execute(sql, numbers).await.expect_err(sql).to_string();
    assert!(error.to_lowercase().contains("foreign key constraint"), "{sql}: {error}");
}

async fn a_manifest_cannot_name_a_blob_without_a_grant(database: Database) {
    database.push_blob("elsewhere", "layer").await;
    database.push(image("app", "manifest", &[])).await;
    let link = "INSERT INTO manifest_blobs (repository_id, manifest_id, blob_id) \
        SELECT m.repository_id, m.id, b.id FROM manifests m, blobs b";
    assert_refused(&database, link, &[]).await;
}

async fn a_grant_cannot_go_while_a_manifest_needs_it(database: Database) {
    database.push_blob("app", "layer").await;
    database.push(image("app", "manifest", &["layer"])).await;
    assert_refused(&database, "DELETE FROM repository_blobs", &[]).await;
}

async fn a_blob_cannot_go_while_a_repository_holds_it(database: Database) {
    database.push_blob("app", "blob").await;
    assert_refused(&database, "DELETE FROM blobs", &[]).await;
}

async fn an_object_cannot_go_while_a_blob_or_a_session_needs_it(database: Database) {
    database.upload_blob("app", "objects/1", "blob").await;
    assert_refused(&database, "DELETE FROM objects", &[]).await;
    database.attached_upload("app", "objects/2", "not there yet").await;
    assert_refused(&database, "DELETE FROM objects WHERE key = 'objects/2'", &[]).await;
}

async fn a_child_cannot_go_under_its_index(database: Database) {
    let child = database.push(image("app", "child", &[])).await;
    database.push(index("app", "index", &["child"])).await;
    let child_id = database.inside.manifest_id(&child).await;
    assert_refused(&database, "DELETE FROM manifests WHERE id = $1", &[child_id]).await;
}

async fn a_tag_cannot_name_what_is_not_there(database: Database) {
    database.push(image("app", "manifest", &[])).await;
    let set = "INSERT INTO tags (repository_id, name, manifest_id, updated_at) \
        SELECT id, 'latest', $1, created_at FROM repositories";
    assert_refused(&database, set, &[12345]).await;
}

async fn a_manifest_cannot_go_under_its_tag(database: Database) {
    database.push(tagged(image("app", "manifest", &[]), &["latest"])).await;
    assert_refused(&database, "DELETE FROM manifests", &[]).await;
}

async fn links_do_not_cross_repositories(database: Database) {
    database.push_blob("one", "layer").await;
    let manifest = database.push(image("two", "manifest", &[])).await;
    let manifest_id = database.inside.manifest_id(&manifest).await;
    let ids = async |sql| database.inside.number(sql, &[]).await.unwrap();
    let one = ids("SELECT id FROM repositories WHERE name = 'one'").await;
    let two = ids("SELECT id FROM repositories WHERE name = 'two'").await;
    let blob = ids("SELECT id FROM blobs").await;
    let link = "INSERT INTO manifest_blobs (repository_id, manifest_id, blob_id) VALUES ($1, $2, $3)";
    assert_refused(&database, link, &[one, manifest_id, blob]).await;
    assert_refused(&database, link, &[two, manifest_id, blob]).await;
    let tag = "INSERT INTO tags (repository_id, name, manifest_id, updated_at) VALUES ($1, 'latest', $2, 0)";
    assert_refused(&database, tag, &[one, manifest_id]).await;
}

async fn a_blob_has_exactly_one_content(database: Database) {
    database.push_blob("app", "blob").await;
    let error = database.inside.execute("UPDATE blobs SET inline = NULL", &[]).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("check constraint"), "{error}");
}
