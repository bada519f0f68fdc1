//! Repositories: known from the first push, listed once they hold a manifest.

use super::dialect::for_update;
use super::{Connection, Store, Transaction, read};
use crate::cache::Change;
use crate::{Error, Lifetimes, Result};
use longshore_oci::RepositoryName;
use std::time::Duration;

statements! {
    PING = "SELECT 1";
    FIND = "SELECT id FROM repositories WHERE name = $1";
    INSERT = "INSERT INTO repositories (name, created_at) VALUES ($1, (SELECT now FROM clock)) ON CONFLICT (name) DO NOTHING";
    LOCK = concat!("SELECT id FROM repositories WHERE id = $1", for_update!());
    // Not by EXISTS: Postgres may make that a join, which reads all manifests for a page of a hundred names.
    LIST = "SELECT r.name FROM repositories r WHERE r.name > $1 \
        AND (SELECT m.id FROM manifests m WHERE m.repository_id = r.id LIMIT 1) IS NOT NULL ORDER BY r.name LIMIT $2";
    LIFETIMES = "SELECT promise, review_delay, object_delay, undo FROM lifetimes WHERE id = 1";
    SET_LIFETIMES = "UPDATE lifetimes SET promise = $1, review_delay = $2, object_delay = $3, undo = $4 \
        WHERE id = 1 AND (promise <> $1 OR review_delay <> $2 OR object_delay <> $3 OR undo <> $4)";
}

/// The id of a repository, if it is known.
pub(super) async fn find(connection: &mut Connection, name: &RepositoryName) -> Result<Option<i64>> {
    let row: Option<(i64,)> = sqlx::query_as(FIND).bind(name.as_str()).fetch_optional(connection).await?;
    Ok(row.map(|(id,)| id))
}

/// The id of a repository that is being pushed to: it comes to be with its first push.
pub(super) async fn find_or_insert(connection: &mut Connection, name: &RepositoryName) -> Result<i64> {
    if let Some(id) = find(connection, name).await? {
        return Ok(id);
    }
    sqlx::query(INSERT).bind(name.as_str()).execute(&mut *connection).await?;
    let id = find(connection, name).await?;
    id.ok_or_else(|| Error::Damaged { table: "repositories", reason: "a new row is not there".into() })
}

/// Waits for every transaction that adds a blob or a manifest to the repository, and lets no new one begin: each of
/// them holds the repository's row by its foreign key.
pub(super) async fn lock(connection: &mut Connection, id: i64) -> Result<()> {
    sqlx::query(LOCK).bind(id).execute(connection).await?;
    Ok(())
}

/// A name as the database gave it back.
pub(super) fn name(text: &str) -> Result<RepositoryName> {
    text.parse().map_err(|error| Error::Damaged { table: "repositories", reason: format!("name {text:?}: {error}") })
}

/// Microseconds, as the database counts time.
pub(super) fn microseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

struct SetLifetimes(Lifetimes);

impl Transaction for SetLifetimes {
    type Output = ();

    /// Every promise. (Another replica keeps those that it made by the old setting for as long as an entry lives.)
    fn changes(&self) -> Vec<Change> {
        vec![Change::Everything]
    }

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        sqlx::query(SET_LIFETIMES)
            .bind(microseconds(self.0.promise))
            .bind(microseconds(self.0.review_delay))
            .bind(microseconds(self.0.object_delay))
            .bind(microseconds(self.0.undo))
            .execute(connection)
            .await?;
        Ok(())
    }
}

impl Store {
    pub(crate) async fn ping(&self) -> Result<()> {
        read!(self.connections, connection => {
            sqlx::query(PING).execute(connection).await?;
            Ok(())
        })
    }

    pub(crate) async fn lifetimes(&self) -> Result<Lifetimes> {
        let told: Result<(i64, i64, i64, i64)> =
            read!(self.connections, connection => Ok(sqlx::query_as(LIFETIMES).fetch_one(connection).await?));
        let (promise, review_delay, object_delay, undo) = told?;
        let time = |stored: i64| Duration::from_micros(u64::try_from(stored).unwrap_or_default());
        Ok(Lifetimes {
            promise: time(promise),
            review_delay: time(review_delay),
            object_delay: time(object_delay),
            undo: time(undo),
        })
    }

    pub(crate) async fn set_lifetimes(&self, lifetimes: Lifetimes) -> Result<()> {
        self.write(SetLifetimes(lifetimes)).await
    }

    pub(crate) async fn list_repositories(&self, after: &str, limit: u32) -> Result<Vec<RepositoryName>> {
        read!(self.connections, connection => {
            let list = sqlx::query_as(LIST).bind(after).bind(i64::from(limit));
            let rows: Vec<(String,)> = list.fetch_all(connection).await?;
            rows.iter().map(|(text,)| name(text)).collect()
        })
    }
}
