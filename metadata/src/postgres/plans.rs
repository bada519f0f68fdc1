//! How Postgres finds what each statement asks for, in a database that is new and in one that is not. See docs/adr/0011 and 0020.

use super::tests::empty;
use super::*;
use sqlx::{Executor, SqlSafeStr};

#[tokio::test]
async fn every_statement_is_understood() {
    let store = empty().await;
    store.migrate().await.unwrap();
    let mut connection = store.owner_connection().await.unwrap();
    for (name, sql) in every_statement!(notifications hearing sequences statistics) {
        let prepared = connection.prepare(sql.into_sql_str()).await;
        assert!(prepared.is_ok(), "{name}: {:?}", prepared.err());
    }
}

/// What each statement's plan is that knows no parameters, as connections of the pool have it.
async fn plans(store: &Store) -> Vec<(String, String)> {
    let mut connection = store.connections.acquire().await.unwrap();
    let mut plans = Vec::new();
    for (number, (name, sql)) in every_statement!(notifications hearing sequences statistics).into_iter().enumerate() {
        let parameters = (1..=12).take_while(|number| sql.contains(&format!("${number}"))).count();
        let values = vec!["NULL"; parameters].join(", ");
        let call = if parameters == 0 { String::new() } else { format!("({values})") };
        let prepare = format!("PREPARE s{number} AS {sql}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *connection).await.unwrap();
        let explain = format!("EXPLAIN EXECUTE s{number}{call}");
        let lines: Vec<(String,)> =
            sqlx::query_as(sqlx::AssertSqlSafe(explain)).persistent(false).fetch_all(&mut *connection).await.unwrap();
        let plan = lines.into_iter().map(|(line,)| line).collect::<Vec<_>>().join("\n");
        plans.push((name, plan));
    }
    plans
}

#[tokio::test]
async fn every_statement_finds_its_rows_by_an_index_when_there_are_none_yet() {
    let store = empty().await;
    store.migrate().await.unwrap();
    for (name, plan) in plans(&store).await {
        // The one row of how long things are promised has no other way to it.
        let scans = plan.lines().filter(|line| line.contains("Seq Scan") && !line.contains("on lifetimes"));
        assert_eq!(scans.count(), 0, "{name}:\n{plan}");
        assert!(!["Hash Join", "Merge Join", "JIT:"].iter().any(|bad| plan.contains(bad)), "{name}:\n{plan}");
    }
}

/// Three large repositories among three thousand small ones, and all of it to be reviewed.
const FILL: &str = "INSERT INTO repositories (name, created_at) SELECT 'app/' || n, 0 FROM generate_series(1, 3003) n; \
    INSERT INTO objects (key, backend, size, state, created_at) \
        SELECT 'k' || n, 'files', 1, 'live', 0 FROM generate_series(1, 3000) n; \
    INSERT INTO blobs (digest, size, object_id, created_at) SELECT sha256(key::bytea), 1, id, 0 FROM objects; \
    INSERT INTO repository_blobs (repository_id, blob_id, expires_at) SELECT 1 + id % 3, id, id FROM blobs \
        UNION ALL SELECT 3 + id, id, id FROM blobs; \
    INSERT INTO manifests (repository_id, digest, media_type, subject_digest, body, size, pushed_at, untagged_since) \
        SELECT CASE WHEN n <= 3000 THEN 1 + n % 3 ELSE n - 2997 END, sha256(('m' || n)::bytea), 'type', \
            CASE n % 5 WHEN 0 THEN sha256(('m' || n - 3)::bytea) END, sha256(('m' || n)::bytea), 32, n, n \
        FROM generate_series(1, 6000) n; \
    INSERT INTO manifest_blobs (repository_id, manifest_id, blob_id) SELECT m.repository_id, m.id, g.blob_id FROM manifests m \
        JOIN repository_blobs g ON g.repository_id = m.repository_id AND g.blob_id / 3 % 1000 = m.id / 3 % 1000; \
    INSERT INTO manifest_children (repository_id, parent_id, child_digest, child_id) \
        SELECT p.repository_id, p.id, c.digest, c.id FROM manifests p JOIN manifests c ON c.id = p.id - 3 \
        WHERE p.id % 7 = 0 AND c.repository_id = p.repository_id; \
    INSERT INTO manifest_absent_blobs (repository_id, manifest_id, digest) SELECT repository_id, id, digest FROM manifests; \
    INSERT INTO tags (repository_id, name, manifest_id, updated_at) \
        SELECT repository_id, 't' || id, id, id FROM manifests WHERE id % 2 = 0; \
    INSERT INTO tag_history (repository_id, tag, digest, changed_at) SELECT repository_id, 't' || id, digest, id FROM manifests; \
    INSERT INTO tombstones (key, backend, size, reason, created_at, not_before) \
        SELECT 'k' || n, 'files', 1, 'old', 0, n FROM generate_series(3001, 6000) n; \
    INSERT INTO gc_queue (kind, id1, id2, review_after) SELECT 3, id, 0, id FROM blobs;";

/// Statements that find two rows, each by a key of its own, and compare them.
const ONE_WITH_ONE: [&str; 2] = ["damage::MARK", "uploads::FIND"];
/// Statements that are about all of a repository, or of a kind.
const WHOLE: [&str; 7] = [
    "contents::SIZES",
    "repositories::LIST",
    "retention::UNSEEN",
    "reviews::OVERDUE",
    "usage::COMPARE",
    "usage::COUNT",
    "usage::MEASURE",
];

/// Whether a plan goes through a repository, or a queue, or compares each row with each.
fn is_broad(plan: &str) -> bool {
    let is_broad = |line: &str| {
        let condition = line.trim().strip_prefix("Index Cond: (").unwrap_or_default();
        ["repository_id = ", "kind = "].iter().any(|broad| condition.starts_with(broad)) && !condition.contains(" AND ")
    };
    plan.contains("Join Filter") || plan.contains("hashed SubPlan") || plan.lines().any(is_broad)
}

async fn filled() -> Store {
    let store = empty().await;
    store.statistics.stop();
    store.migrate().await.unwrap();
    sqlx::raw_sql(FILL).execute(&store.connections.pool).await.unwrap();
    let grown = statistics::analyze_grown(&store.connections).await.unwrap();
    let expected = ["blobs", "gc_queue", "manifests", "tags"];
    assert!(expected.iter().all(|table| grown.contains(&(*table).to_owned())), "{grown:?}");
    store
}

#[tokio::test]
async fn every_statement_finds_its_rows_at_once_when_there_are_many() {
    let store = filled().await;
    let is_allowed = |name: &str| ONE_WITH_ONE.contains(&name) || WHOLE.contains(&name);
    let is_wrong = |(name, plan): &(String, String)| is_broad(plan) && !is_allowed(name);
    let broad = plans(&store).await.into_iter().filter(is_wrong);
    let broad: Vec<String> = broad.map(|(name, plan)| format!("{name}:\n{plan}")).collect();
    assert!(broad.is_empty(), "{}", broad.join("\n\n"));
}

/// What a foreign key asks of the table that refers, whenever something is deleted that may be referred to. (Repositories are
/// never deleted.)
#[tokio::test]
async fn every_foreign_key_finds_its_rows_at_once_when_there_are_many() {
    let store = filled().await;
    let keys: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.conrelid::regclass::text, (SELECT string_agg(a.attname || ' = NULL', ' AND ') FROM pg_attribute a \
            WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)) \
        FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid <> 'repositories'::regclass",
    )
    .fetch_all(&store.connections.pool)
    .await
    .unwrap();
    assert!(keys.len() > 10, "{keys:?}");
    for (table, condition) in keys {
        let explain = format!("EXPLAIN SELECT 1 FROM ONLY {table} WHERE {condition}");
        let lines: Vec<(String,)> =
            sqlx::query_as(sqlx::AssertSqlSafe(explain)).fetch_all(&store.connections.pool).await.unwrap();
        let plan = lines.into_iter().map(|(line,)| line).collect::<Vec<_>>().join("\n");
        assert!(!is_broad(&plan) && !plan.contains("Seq Scan"), "{table}: {plan}");
    }
}

#[tokio::test]
async fn a_table_is_analyzed_once_it_has_doubled() {
    let store = filled().await;
    let grown = async || statistics::analyze_grown(&store.connections).await.unwrap();
    assert!(grown().await.is_empty(), "nothing has grown since");
    let more = "INSERT INTO tombstones (key, backend, size, reason, created_at, not_before) \
        SELECT 'new' || n, 'files', 1, 'old', 0, n FROM generate_series(1, 9000) n";
    sqlx::query(more).execute(&store.connections.pool).await.unwrap();
    assert_eq!(grown().await, ["tombstones"]);
}

/// However many tags a repository has, a page of them costs a page.
#[tokio::test]
async fn pages_of_tags_are_not_sorted() {
    let store = empty().await;
    store.migrate().await.unwrap();
    let mut connection = store.connections.acquire().await.unwrap();
    let prepare = sqlx::AssertSqlSafe(format!("PREPARE page AS {}", retention::TAGS));
    sqlx::raw_sql(prepare).execute(&mut *connection).await.unwrap();
    let explain = "EXPLAIN EXECUTE page(NULL, NULL, NULL)";
    let plan: Vec<(String,)> = sqlx::query_as(explain).persistent(false).fetch_all(&mut *connection).await.unwrap();
    assert!(plan.iter().all(|(line,)| !line.contains("Sort")), "{plan:#?}");
}
