//! How SQLite finds what each statement asks for. It knows no numbers here, so a statement's plan is the same with few rows and
//! with many. See docs/adr/0020.

use super::tests::store;
use super::*;
use sqlx::{Executor, SqlSafeStr};

#[tokio::test]
async fn every_statement_is_understood() {
    let (store, _folder) = store().await;
    let mut connection = store.owner_connection().await.unwrap();
    let joined = TOGETHER.iter().map(|(_, sql)| ("joined".to_owned(), *sql));
    for (name, sql) in every_statement!().into_iter().chain(joined) {
        let prepared = (&mut connection).prepare(sql.into_sql_str()).await;
        assert!(prepared.is_ok(), "{name}: {:?}", prepared.err());
    }
}

/// The steps of a statement, each with the one that it is a part of.
async fn plan(store: &Store, sql: &str) -> Vec<(i64, String)> {
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(explain).persistent(false).fetch_all(&store.connections).await.unwrap();
    steps.into_iter().map(|(_, parent, _, step)| (parent, step)).collect()
}

/// Tables that a statement may name without an alias.
const TABLES: [&str; 8] =
    ["blobs", "manifests", "repositories", "repository_blobs", "tags", "uploads", "gc_queue", "tombstones"];
/// Statements that are about all of something.
const WHOLE: [&str; 11] = [
    "contents::SIZES",
    "garbage::COUNT_BLOBS",
    "garbage::COUNT_MANIFESTS",
    "garbage::COUNT_TAGS",
    "repositories::LIST",
    "restore::REPOSITORIES",
    "reviews::OVERDUE",
    "scrub::SIZES",
    "usage::COMPARE",
    "usage::COUNT",
    "usage::MEASURE",
];
/// How steps end that find one row at most.
const ONE_ROW: [&str; 2] = ["INTEGER PRIMARY KEY (rowid=?)", "sqlite_autoindex_repositories_1 (name=?)"];

/// A list that a statement is given is what it begins with: one that went through a table and looked for each row in the
/// list would cost more the more there is. (The planner knows no numbers here, with few rows or with many.)
#[tokio::test]
async fn every_statement_finds_its_rows_by_an_index() {
    let (store, _folder) = store().await;
    let mut wrong = Vec::new();
    for (name, sql) in every_statement!() {
        let steps = plan(&store, sql).await;
        let is_loop = |step: &str| step.starts_with("SEARCH ") && !ONE_ROW.iter().any(|found| step.ends_with(found));
        let lists = steps.iter().enumerate().filter(|(_, (_, step))| step.contains("SCAN json_each"));
        let is_inside = lists
            .clone()
            .any(|(at, (parent, _))| steps[..at].iter().any(|(other, step)| other == parent && is_loop(step)));
        let is_whole = |step: &str| {
            let found =
                step.strip_prefix("SCAN ").is_some_and(|found| found.contains(" USING ") || TABLES.contains(&found));
            found || step.contains("AUTOMATIC") || step.ends_with("(repository_id=?)") || step.ends_with("(kind=?)")
        };
        if !WHOLE.contains(&name.as_str()) && (is_inside || steps.iter().any(|(_, step)| is_whole(step))) {
            wrong.push((name, steps));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// However many tags a repository has, a page of them costs a page.
#[tokio::test]
async fn pages_of_tags_are_not_sorted() {
    let (store, _folder) = store().await;
    for statement in [retention::TAGS, references::LIST_TAGS] {
        let steps = plan(&store, statement).await;
        assert!(steps.iter().all(|(_, step)| !step.contains("B-TREE")), "{statement}: {steps:#?}");
    }
}
