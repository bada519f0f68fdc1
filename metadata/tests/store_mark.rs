//! The mark of the store that a database belongs to.

use crate::content::manifest;
use crate::database::Database;
use futures_util::future::join_all;
use std::collections::BTreeSet;

on_both_engines!(
    the_first_mark_stays,
    of_marks_at_the_same_moment_one_stays,
    a_database_has_one_mark,
    a_database_is_empty_until_something_is_stored,
);

async fn the_first_mark_stays(database: Database) {
    assert_eq!(database.metadata.store_mark().await.unwrap(), None);
    assert_eq!(database.metadata.mark_store("first").await.unwrap(), "first");
    assert_eq!(database.metadata.store_mark().await.unwrap().as_deref(), Some("first"));
    assert_eq!(database.metadata.mark_store("second").await.unwrap(), "first");
    let other = database.another_process().await;
    assert_eq!(other.mark_store("third").await.unwrap(), "first");
}

async fn of_marks_at_the_same_moment_one_stays(database: Database) {
    let marks: Vec<String> = (0..8).map(|number| format!("mark {number}")).collect();
    let told = join_all(marks.iter().map(|mark| database.metadata.mark_store(mark))).await;
    let told: BTreeSet<String> = told.into_iter().map(Result::unwrap).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told.iter().all(|mark| marks.contains(mark)), "{told:?}");
}

async fn a_database_is_empty_until_something_is_stored(database: Database) {
    database.metadata.mark_store("mark").await.unwrap();
    assert!(database.metadata.is_empty().await.unwrap());
    database.push(manifest("app", "manifest")).await;
    assert!(!database.metadata.is_empty().await.unwrap());
}

async fn a_database_has_one_mark(database: Database) {
    let second = "INSERT INTO store_mark (id, mark) VALUES (2, 'second')";
    let error = database.inside.execute(second, &[]).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("check constraint"), "{error}");
}
