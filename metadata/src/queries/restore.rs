//! Fills an empty database with what `snapshot.rs` has read from one, in one transaction.
//!
//! Triggers do what they do for every new row: manifests and holds are queued for review, so that garbage collection looks
//! at everything once. What depends on the time is promised anew: nothing that was promised by another clock, or long ago,
//! may end at once.

use super::dialect::{json_rows, unhex};
use super::garbage::HOLD;
use super::{AFTER_RESTORE, BEGIN_RESTORE, Connection, Store, read};
use crate::{Result, SnapshotTable};
use sqlx::Connection as _;

/// A value of the row `j`, at this place of the list.
macro_rules! value {
    (number $place:literal) => {
        concat!("CAST(j.value ->> ", $place, " AS BIGINT)")
    };
    (text $place:literal) => {
        concat!("j.value ->> ", $place)
    };
    (bytes $place:literal) => {
        unhex!(concat!("j.value ->> ", $place))
    };
}

/// Rows of these columns from the values at these places.
macro_rules! insert {
    ($columns:literal: $first:ident $zero:literal $(, $kind:ident $place:literal)*) => {
        concat!(
            "INSERT INTO ", $columns, " SELECT ", value!($first $zero) $(, ", ", value!($kind $place))*,
            " FROM ", json_rows!("$1"), " j"
        )
    };
}

statements! {
    IS_EMPTY = "SELECT CAST(CASE WHEN (SELECT id FROM repositories WHERE id > 0 LIMIT 1) IS NULL \
        AND (SELECT id FROM objects WHERE id > 0 LIMIT 1) IS NULL AND (SELECT id FROM blobs WHERE id > 0 LIMIT 1) IS NULL \
        AND (SELECT id FROM users WHERE id > 0 LIMIT 1) IS NULL AND (SELECT id FROM grants WHERE id > 0 LIMIT 1) IS NULL \
        AND (SELECT key FROM tombstones WHERE key > '' LIMIT 1) IS NULL THEN 1 ELSE 0 END AS BIGINT)";
    // What namespaces hold is counted anew: triggers have written down each row.
    FORGET_CHANGES = "DELETE FROM usage_changes WHERE id > 0";
    REPOSITORIES = insert!("repositories (id, name, created_at)": number 0, text 1, number 2);
    OBJECTS = insert!("objects (id, key, backend, size, encoding, state, created_at, verified_at)":
        number 0, text 1, text 2, number 3, text 4, text 5, number 6, number 7);
    UNFINISHED_OBJECTS = concat!("INSERT INTO tombstones (key, backend, size, reason, created_at, not_before, backend_upload) \
        SELECT ", value!(text 1), ", ", value!(text 2), ", ", value!(number 3), ", 'its upload is not in the backup', \
        e.now, e.delete_after, ", value!(text 4), " FROM ", json_rows!("$1"), " j CROSS JOIN lease e");
    BLOBS = insert!("blobs (id, digest, size, object_id, inline, created_at)":
        number 0, bytes 1, number 2, number 3, bytes 4, number 5);
    REPOSITORY_BLOBS = concat!("INSERT INTO repository_blobs (repository_id, blob_id, expires_at) \
        SELECT ", value!(number 0), ", ", value!(number 1), ", CASE WHEN ", value!(number 2), " > e.expires_at THEN ",
        value!(number 2), " ELSE e.expires_at END FROM ", json_rows!("$1"), " j CROSS JOIN lease e");
    MANIFESTS = insert!("manifests (id, repository_id, digest, media_type, artifact_type, config_media_type, \
        subject_digest, annotations, body, size, pushed_at, pushed_by, last_pulled_at, untagged_since, pulls)":
        number 0, number 1, bytes 2, text 3, text 4, text 5, bytes 6, text 7, bytes 8, number 9, number 10, text 11,
        number 12, number 13, number 14);
    MANIFEST_BLOBS = insert!("manifest_blobs (manifest_id, blob_id, repository_id)": number 0, number 1, number 2);
    MANIFEST_CHILDREN = insert!("manifest_children (parent_id, child_digest, repository_id, child_id)":
        number 0, bytes 1, number 2, number 3);
    MANIFEST_ABSENT_BLOBS = insert!("manifest_absent_blobs (manifest_id, digest, repository_id)":
        number 0, bytes 1, number 2);
    TAGS = insert!("tags (repository_id, name, manifest_id, updated_at, last_pulled_at)":
        number 0, text 1, number 2, number 3, number 4);
    TAG_HISTORY = insert!("tag_history (id, repository_id, tag, digest, changed_at, changed_by)":
        number 0, number 1, text 2, bytes 3, number 4, text 5);
    DELETED_MANIFESTS = insert!("deleted_manifests (repository_id, digest, media_type, body, deleted_at, deleted_by, \
        keep_until)": number 0, bytes 1, text 2, bytes 3, number 4, text 5, number 6);
    DAMAGED_BLOBS = insert!("damaged_blobs (blob_id, reason, found_at)": number 0, text 1, number 2);
    USERS = insert!("users (id, name, kind, password_hash, created_at, disabled_at)":
        number 0, text 1, text 2, text 3, number 4, number 5);
    TOKENS = insert!("tokens (id, user_id, kind, description, secret_hash, scope, created_at, expires_at, last_used_at)":
        number 0, number 1, text 2, text 3, bytes 4, text 5, number 6, number 7, number 8);
    GRANTS = insert!("grants (id, subject_kind, subject, repository_pattern, role, created_at, created_by)":
        number 0, text 1, text 2, text 3, text 4, number 5, text 6);
    // Whoever restores an older snapshot after this one must find their bytes.
    TOMBSTONES = concat!("INSERT INTO tombstones (key, backend, size, reason, created_at, not_before, backend_upload) \
        SELECT ", value!(text 0), ", ", value!(text 1), ", ", value!(number 2), ", ", value!(text 3), ", ",
        value!(number 4), ", e.delete_after, ", value!(text 5), " FROM ", json_rows!("$1"), " j CROSS JOIN lease e");
    BLOB_REVIEWS = concat!("INSERT INTO gc_queue (kind, id1, id2, review_after) \
        SELECT 3, ", value!(number 0), ", 0, e.review_after FROM ", json_rows!("$1"), " j CROSS JOIN lease e \
        WHERE true ON CONFLICT (kind, id1, id2) DO NOTHING");
    AUDIT_LOG = insert!("audit_log (id, at, actor, action, target, digest_before, digest_after, address, request_id, \
        outcome)": number 0, number 1, text 2, text 3, text 4, bytes 5, bytes 6, text 7, text 8, text 9);
}

/// How rows of a table are put where they were.
fn insert(table: SnapshotTable) -> &'static str {
    match table {
        SnapshotTable::Repositories => REPOSITORIES,
        SnapshotTable::Objects => OBJECTS,
        SnapshotTable::UnfinishedObjects => UNFINISHED_OBJECTS,
        SnapshotTable::Blobs => BLOBS,
        SnapshotTable::RepositoryBlobs => REPOSITORY_BLOBS,
        SnapshotTable::Manifests => MANIFESTS,
        SnapshotTable::ManifestBlobs => MANIFEST_BLOBS,
        SnapshotTable::ManifestChildren => MANIFEST_CHILDREN,
        SnapshotTable::ManifestAbsentBlobs => MANIFEST_ABSENT_BLOBS,
        SnapshotTable::Tags => TAGS,
        SnapshotTable::TagHistory => TAG_HISTORY,
        SnapshotTable::DeletedManifests => DELETED_MANIFESTS,
        SnapshotTable::DamagedBlobs => DAMAGED_BLOBS,
        SnapshotTable::Users => USERS,
        SnapshotTable::Tokens => TOKENS,
        SnapshotTable::Grants => GRANTS,
        SnapshotTable::Tombstones => TOMBSTONES,
        SnapshotTable::BlobReviews => BLOB_REVIEWS,
        SnapshotTable::AuditLog => AUDIT_LOG,
    }
}

/// A transaction that fills the database. What is not committed goes with the connection.
#[derive(Debug)]
pub(crate) struct Restore {
    connection: Connection,
}

impl Store {
    pub(crate) async fn is_empty(&self) -> Result<bool> {
        let told: Result<i64> =
            read!(self.connections, connection => Ok(sqlx::query_scalar(IS_EMPTY).fetch_one(connection).await?));
        Ok(told? != 0)
    }

    pub(crate) async fn begin_restore(&self) -> Result<Option<Restore>> {
        let mut connection = self.long_connection().await?;
        sqlx::raw_sql(BEGIN_RESTORE).execute(&mut connection).await?;
        let is_empty: i64 = sqlx::query_scalar(IS_EMPTY).fetch_one(&mut connection).await?;
        if is_empty == 0 {
            connection.close().await?;
            return Ok(None);
        }
        Ok(Some(Restore { connection }))
    }
}

impl Restore {
    pub(crate) async fn insert(&mut self, table: SnapshotTable, rows: &[String]) -> Result<()> {
        let list = format!("[{}]", rows.join(","));
        sqlx::query(insert(table)).bind(list).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Garbage collection waits: the time that things were promised begins anew.
    pub(crate) async fn commit(mut self) -> Result<()> {
        for statement in AFTER_RESTORE.iter().chain([&FORGET_CHANGES, &HOLD, &"COMMIT"]) {
            sqlx::query(*statement).execute(&mut self.connection).await?;
        }
        self.connection.close().await?;
        Ok(())
    }
}
