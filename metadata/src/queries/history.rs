//! The past of tags, and manifests that were deleted not long ago.

use super::blobs::digest;
use super::dialect::review_list;
use super::repositories::microseconds;
use super::reviews::{id_list, stored_time, time};
use super::{Batch, Connection, Store, Transaction, read};
use crate::{DeletedManifest, Durability, HistoryPlace, Result, TagChange};
use longshore_oci::{Digest, RepositoryName, Tag};
use std::time::{Duration, SystemTime};

/// What is told of a change `h`.
macro_rules! change {
    () => {
        "SELECT h.id, h.digest, h.changed_at, h.changed_by, \
        EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = h.repository_id AND m.digest = h.digest) AS is_here, \
        EXISTS (SELECT 1 FROM deleted_manifests d WHERE d.repository_id = h.repository_id AND d.digest = h.digest \
            AND d.keep_until > (SELECT now FROM clock)) AS is_restorable \
        FROM repositories r JOIN tag_history h ON h.repository_id = r.id WHERE r.name = $1 AND h.tag = $2 "
    };
}

statements! {
    CHANGES = concat!(change!(), "AND h.id < $3 ORDER BY h.id DESC LIMIT $4");
    CHANGE_AT = concat!(change!(), "AND h.changed_at <= $3 ORDER BY h.id DESC LIMIT 1");
    FIND_DELETED = "SELECT d.media_type, d.body FROM repositories r JOIN deleted_manifests d ON d.repository_id = r.id \
        WHERE r.name = $1 AND d.digest = $2 AND d.keep_until > (SELECT now FROM clock)";
    KEEP_DELETED = "INSERT INTO deleted_manifests \
            (repository_id, digest, media_type, body, deleted_at, deleted_by, keep_until) \
        SELECT m.repository_id, m.digest, m.media_type, m.body, c.now, $2, c.now + l.undo \
        FROM manifests m CROSS JOIN clock c CROSS JOIN lifetimes l WHERE m.id = $1 AND l.undo > 0 \
        ON CONFLICT (repository_id, digest) DO UPDATE SET media_type = excluded.media_type, \
        deleted_at = excluded.deleted_at, deleted_by = excluded.deleted_by, keep_until = excluded.keep_until";
    KEEP_BLOBS = "UPDATE repository_blobs SET expires_at = (SELECT c.now + l.undo FROM clock c CROSS JOIN lifetimes l) \
        WHERE expires_at < (SELECT c.now + l.undo FROM clock c CROSS JOIN lifetimes l) AND (repository_id, blob_id) IN \
        (SELECT n.repository_id, n.blob_id FROM manifest_blobs n WHERE n.manifest_id = $1)";
    FORGET_DELETED = "DELETE FROM deleted_manifests WHERE (repository_id, digest) IN (SELECT repository_id, digest \
        FROM deleted_manifests WHERE keep_until <= (SELECT now FROM clock) ORDER BY keep_until LIMIT $1)";
    // A change is followed where the next one of the tag is as old: not where any one is, which would go through all that a tag
    // has done since.
    OLD_CHANGES = "SELECT h.changed_at, h.id, (h.digest IS NULL) AS is_deletion, \
        COALESCE((SELECT n.changed_at FROM tag_history n WHERE n.repository_id = h.repository_id AND n.tag = h.tag \
            AND n.id > h.id ORDER BY n.id LIMIT 1) < (SELECT now FROM clock) - $1, FALSE) AS is_followed \
        FROM tag_history h WHERE h.changed_at < (SELECT now FROM clock) - $1 AND (h.changed_at, h.id) > ($2, $3) \
        ORDER BY h.changed_at, h.id LIMIT $4";
    FORGET_FOLLOWED = concat!("DELETE FROM tag_history WHERE id IN (SELECT l.id1 FROM ", review_list!("$1"), " l)");
    // One that has something before it stays: without it, that would be what the tag names.
    FORGET_DELETIONS = concat!("DELETE FROM tag_history WHERE id IN (SELECT l.id1 FROM ", review_list!("$1"), " l) \
        AND NOT EXISTS (SELECT 1 FROM tag_history o WHERE o.repository_id = tag_history.repository_id \
            AND o.tag = tag_history.tag AND o.id < tag_history.id)");
}

/// Keeps what is about to be deleted, and its blobs, for as long as it can be brought back.
pub(super) fn keep_deleted(batch: &mut Batch, manifest_id: i64, by: Option<&str>) {
    batch.add(KEEP_DELETED).bind(manifest_id).bind(by);
    batch.add(KEEP_BLOBS).bind(manifest_id);
}

type ChangeRow = (i64, Option<Vec<u8>>, i64, Option<String>, bool, bool);

fn change((number, named, at, by, is_here, is_restorable): ChangeRow) -> Result<TagChange> {
    let digest = named.as_deref().map(digest).transpose()?;
    Ok(TagChange { number, digest, at: time(at)?, by, is_here, is_restorable })
}

struct ForgetDeleted {
    limit: u32,
}

impl Transaction for ForgetDeleted {
    type Output = u64;

    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<u64> {
        let forgotten = sqlx::query(FORGET_DELETED).bind(i64::from(self.limit)).execute(connection).await?;
        Ok(forgotten.rows_affected())
    }
}

/// When a change was, its number, whether it is a deletion, and whether one that is as old has followed it.
type OldChangeRow = (i64, i64, bool, bool);

/// Forgets changes that say nothing any more, whatever has happened since they were read: nothing comes before what is here.
struct ForgetChanges {
    followed: Vec<i64>,
    /// Those that none has followed.
    deletions: Vec<i64>,
}

impl ForgetChanges {
    fn of(rows: &[OldChangeRow]) -> Self {
        let numbers = |chosen: fn(&OldChangeRow) -> bool| -> Vec<i64> {
            rows.iter().filter(|row| chosen(row)).map(|(_, number, ..)| *number).collect()
        };
        Self {
            followed: numbers(|(.., is_followed)| *is_followed),
            deletions: numbers(|(.., is_deletion, is_followed)| *is_deletion && !is_followed),
        }
    }

    fn is_empty(&self) -> bool {
        self.followed.is_empty() && self.deletions.is_empty()
    }
}

impl Transaction for ForgetChanges {
    type Output = ();

    /// What is lost is forgotten once more.
    const DURABILITY: Durability = Durability::Relaxed;

    /// In this order: a deletion goes when what it ended has gone.
    async fn run(&self, connection: &mut Connection) -> Result<()> {
        for (statement, numbers) in [(FORGET_FOLLOWED, &self.followed), (FORGET_DELETIONS, &self.deletions)] {
            if !numbers.is_empty() {
                let list = id_list(numbers.iter().map(|number| (*number, 0)));
                sqlx::query(statement).bind(list).execute(&mut *connection).await?;
            }
        }
        Ok(())
    }
}

impl Store {
    pub(crate) async fn tag_changes(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<TagChange>> {
        let told: Result<Vec<ChangeRow>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(CHANGES)
                .bind(repository.as_str())
                .bind(tag.as_str())
                .bind(before.unwrap_or(i64::MAX))
                .bind(i64::from(limit));
            Ok(asked.fetch_all(connection).await?)
        });
        let rows = told?;
        rows.into_iter().map(change).collect()
    }

    pub(crate) async fn tag_at(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        at: SystemTime,
    ) -> Result<Option<TagChange>> {
        let told: Result<Option<ChangeRow>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(CHANGE_AT)
                .bind(repository.as_str())
                .bind(tag.as_str())
                .bind(stored_time(at));
            Ok(asked.fetch_optional(connection).await?)
        });
        let row = told?;
        row.map(change).transpose()
    }

    pub(crate) async fn deleted_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<DeletedManifest>> {
        let told: Result<Option<(String, Vec<u8>)>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(FIND_DELETED).bind(repository.as_str()).bind(digest.to_bytes());
            Ok(asked.fetch_optional(connection).await?)
        });
        let row = told?;
        Ok(row.map(|(media_type, body)| DeletedManifest { media_type, body }))
    }

    pub(crate) async fn forget_deleted(&self, limit: u32) -> Result<u64> {
        self.write(ForgetDeleted { limit }).await
    }

    pub(crate) async fn forget_history(
        &self,
        age: Duration,
        after: HistoryPlace,
        limit: u32,
    ) -> Result<Option<HistoryPlace>> {
        let old: Result<Vec<OldChangeRow>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(OLD_CHANGES)
                .bind(microseconds(age))
                .bind(after.at)
                .bind(after.number)
                .bind(i64::from(limit));
            Ok(asked.fetch_all(connection).await?)
        });
        let rows = old?;
        let forget = ForgetChanges::of(&rows);
        if !forget.is_empty() {
            self.write(forget).await?;
        }
        Ok(rows.last().map(|(at, number, ..)| HistoryPlace { at: *at, number: *number }))
    }
}
