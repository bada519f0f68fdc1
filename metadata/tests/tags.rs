//! Tags and their history.

use crate::content::{by, digest_of, manifest, repository, tag, tagged};
use crate::database::{Database, TICK};
use longshore_oci::{Digest, Tag};
use sqlx::Row;

on_both_engines!(
    tags_come_in_pages_of_byte_order,
    tags_of_an_unknown_repository_are_no_empty_list,
    a_tag_moves_with_a_push,
    a_deleted_tag_leaves_its_manifest,
    a_tag_that_is_not_there_cannot_be_deleted,
    the_history_says_what_when_and_by_whom,
    a_tag_that_stays_where_it_is_is_no_news,
    a_deleted_manifest_is_the_end_of_each_of_its_tags,
);

async fn list(database: &Database, after: &str, limit: u32) -> Vec<Tag> {
    database.metadata.list_tags(&repository("app"), after, limit).await.unwrap().unwrap()
}

async fn find(database: &Database, name: &str) -> Option<Digest> {
    let found = database.metadata.find_tag(&repository("app"), &tag(name)).await.unwrap();
    found.map(|record| record.digest)
}

/// A line of a tag's history: the tag, what it named (nothing once it was deleted), when, and by whom.
type Change = (String, Option<Digest>, i64, Option<String>);

async fn history(database: &Database) -> Vec<Change> {
    const ALL: &str = "SELECT tag, digest, changed_at, changed_by FROM tag_history ORDER BY id";
    let digest = |bytes: Option<Vec<u8>>| bytes.map(|bytes| Digest::from_bytes(&bytes).unwrap());
    match &database.inside {
        crate::inside::Inside::Sqlite(pool) => {
            let rows = sqlx::query(ALL).fetch_all(pool).await.unwrap();
            rows.iter().map(|row| (row.get(0), digest(row.get(1)), row.get(2), row.get(3))).collect()
        }
        crate::inside::Inside::Postgres(pool) => {
            let rows = sqlx::query(ALL).fetch_all(pool).await.unwrap();
            rows.iter().map(|row| (row.get(0), digest(row.get(1)), row.get(2), row.get(3))).collect()
        }
    }
}

async fn tags_come_in_pages_of_byte_order(database: Database) {
    let names =
        ["1.0", "1.0-rc.1", "1.0.1", "1.0_a", "10", "A", "Z-1", "_under", "a", "a-b", "a.b", "aB", "ab", "latest"];
    assert!(names.is_sorted());
    let mut shuffled = names;
    shuffled.reverse();
    shuffled.swap(2, 9);
    database.push(tagged(manifest("app", "manifest"), &shuffled)).await;
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let page = list(&database, &after, 4).await;
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4);
        after = last.to_string();
        listed.extend(page);
    }
    assert_eq!(listed, names.map(tag));
    assert_eq!(list(&database, "B", 1).await, [tag("Z-1")], "after a tag that is not there");
    assert_eq!(list(&database, "", 0).await, []);
}

async fn tags_of_an_unknown_repository_are_no_empty_list(database: Database) {
    assert_eq!(database.metadata.list_tags(&repository("app"), "", 10).await.unwrap(), None);
    database.push(manifest("app", "untagged")).await;
    assert_eq!(list(&database, "", 10).await, []);
}

async fn a_tag_moves_with_a_push(database: Database) {
    let old = database.push(tagged(manifest("app", "old"), &["latest", "v1"])).await;
    let new = database.push(tagged(manifest("app", "new"), &["latest", "v2"])).await;
    assert_eq!(find(&database, "latest").await, Some(new));
    assert_eq!(find(&database, "v1").await, Some(old));
    database.push(tagged(manifest("elsewhere", "else"), &["latest"])).await;
    assert_eq!(find(&database, "latest").await, Some(new));
}

async fn a_deleted_tag_leaves_its_manifest(database: Database) {
    let digest = database.push(tagged(manifest("app", "manifest"), &["one", "two"])).await;
    assert!(database.metadata.delete_tag(&repository("app"), &tag("one"), None).await.unwrap());
    assert_eq!(find(&database, "one").await, None);
    assert_eq!(find(&database, "two").await, Some(digest));
    assert!(database.metadata.delete_tag(&repository("app"), &tag("two"), None).await.unwrap());
    assert!(database.metadata.find_manifest(&repository("app"), &digest).await.unwrap().is_some());
}

async fn a_tag_that_is_not_there_cannot_be_deleted(database: Database) {
    let delete = |name| {
        let app = repository("app");
        let metadata = database.metadata.clone();
        async move { metadata.delete_tag(&app, &tag(name), None).await.unwrap() }
    };
    assert!(!delete("latest").await);
    database.push(tagged(manifest("app", "manifest"), &["latest"])).await;
    assert!(!delete("Latest").await);
    assert!(delete("latest").await);
    assert!(!delete("latest").await);
    assert_eq!(history(&database).await.len(), 2, "what was not there leaves no trace");
}

async fn the_history_says_what_when_and_by_whom(database: Database) {
    let app = repository("app");
    let began = database.now().await;
    let old = database.push(by(tagged(manifest("app", "old"), &["latest"]), "alice")).await;
    database.advance(TICK).await;
    let new = database.push(by(tagged(manifest("app", "new"), &["latest"]), "bob")).await;
    database.advance(TICK).await;
    database.metadata.delete_tag(&app, &tag("latest"), Some("carol")).await.unwrap();
    database.advance(TICK).await;
    // What it named before it was deleted is news again.
    database.push(tagged(manifest("app", "new"), &["latest"])).await;
    let latest = || "latest".to_owned();
    let expected = [
        (latest(), Some(old), began, Some("alice".to_owned())),
        (latest(), Some(new), began + 1, Some("bob".to_owned())),
        (latest(), None, began + 2, Some("carol".to_owned())),
        (latest(), Some(new), began + 3, None),
    ];
    assert_eq!(history(&database).await, expected);
}

async fn a_tag_that_stays_where_it_is_is_no_news(database: Database) {
    database.push(by(tagged(manifest("app", "manifest"), &["latest"]), "alice")).await;
    let first = history(&database).await;
    database.advance(TICK).await;
    database.push(by(tagged(manifest("app", "manifest"), &["latest"]), "bob")).await;
    assert_eq!(history(&database).await, first);
    // The same tag elsewhere is another tag.
    database.push(by(tagged(manifest("elsewhere", "manifest"), &["latest"]), "bob")).await;
    assert_eq!(history(&database).await.len(), 2);
}

async fn a_deleted_manifest_is_the_end_of_each_of_its_tags(database: Database) {
    let digest = database.push(tagged(manifest("app", "manifest"), &["one", "two"])).await;
    database.push(tagged(manifest("app", "other"), &["three"])).await;
    database.metadata.delete_manifest(&repository("app"), &digest, Some("dave")).await.unwrap();
    let ended: Vec<Change> = history(&database).await.split_off(3);
    let now = database.now().await;
    let end = |name: &str| (name.to_owned(), None, now, Some("dave".to_owned()));
    assert_eq!(ended, [end("one"), end("two")]);
    assert_eq!(find(&database, "three").await, Some(digest_of("other")));
}
