//! All rows of all tables that matter, page by page, in one transaction that only reads.
//!
//! What is made anew is left out: uploads that are under way, jobs, counters, what is known of upstreams, and how far
//! garbage collection and scrub have come. `restore.rs` reads what is written here; a change of a row here raises
//! [`crate::SNAPSHOT_FORMAT`].

use super::dialect::{hex, json_row, unhex};
use super::migrations::newest_migration;
use super::reviews::time;
use super::{BEGIN_SNAPSHOT, Connection, Store};
use crate::{Error, Result, SnapshotTable};
use sqlx::Connection as _;
use std::time::SystemTime;

statements! {
    /// The first read of the transaction: from here on it sees nothing new.
    STATE = "SELECT (SELECT now FROM clock) AS now, (SELECT MAX(version) FROM _sqlx_migrations) AS version";
    REPOSITORIES = concat!("SELECT ", json_row!("r.id, r.name, r.created_at"), " FROM repositories r \
        WHERE r.id > $1 ORDER BY r.id LIMIT $2");
    // Not by EXISTS, see repositories.rs.
    OBJECTS = concat!("SELECT ", json_row!("o.id, o.key, o.backend, o.size, o.encoding, o.state, o.created_at, o.verified_at"),
        " FROM objects o WHERE o.id > $1 AND (SELECT b.id FROM blobs b WHERE b.object_id = o.id) IS NOT NULL \
        ORDER BY o.id LIMIT $2");
    UNFINISHED_OBJECTS = concat!("SELECT ", json_row!("o.id, o.key, o.backend, o.size, \
        (SELECT u.backend_upload FROM uploads u WHERE u.object_id = o.id)"),
        " FROM objects o WHERE o.id > $1 AND (SELECT b.id FROM blobs b WHERE b.object_id = o.id) IS NULL \
        ORDER BY o.id LIMIT $2");
    // Where rows hold bytes, a page ends after some megabytes of them; it has one row at least.
    BLOBS = concat!("SELECT ", json_row!("b.id, ", hex!("b.digest"), ", b.size, b.object_id, ", hex!("b.inline"), ", b.created_at"),
        " FROM (SELECT id, CASE WHEN inline IS NULL THEN 0 ELSE size END AS bytes, \
            SUM(CASE WHEN inline IS NULL THEN 0 ELSE size END) OVER (ORDER BY id) AS total \
            FROM blobs WHERE id > $1 ORDER BY id LIMIT $2) p JOIN blobs b ON b.id = p.id \
        WHERE p.total - p.bytes < 4194304 ORDER BY p.id");
    REPOSITORY_BLOBS = concat!("SELECT ", json_row!("g.repository_id, g.blob_id, g.expires_at"), " FROM repository_blobs g \
        WHERE (g.repository_id, g.blob_id) > ($1, $2) ORDER BY g.repository_id, g.blob_id LIMIT $3");
    MANIFESTS = concat!("SELECT ", json_row!("m.id, m.repository_id, ", hex!("m.digest"), ", m.media_type, m.artifact_type, \
        m.config_media_type, ", hex!("m.subject_digest"), ", m.annotations, ", hex!("m.body"), ", m.size, m.pushed_at, \
        m.pushed_by, m.last_pulled_at, m.untagged_since, m.pulls"),
        " FROM (SELECT id, size AS bytes, SUM(size) OVER (ORDER BY id) AS total \
            FROM manifests WHERE id > $1 ORDER BY id LIMIT $2) p JOIN manifests m ON m.id = p.id \
        WHERE p.total - p.bytes < 4194304 ORDER BY p.id");
    MANIFEST_BLOBS = concat!("SELECT ", json_row!("n.manifest_id, n.blob_id, n.repository_id"), " FROM manifest_blobs n \
        WHERE (n.manifest_id, n.blob_id) > ($1, $2) ORDER BY n.manifest_id, n.blob_id LIMIT $3");
    MANIFEST_CHILDREN = concat!("SELECT ", json_row!("c.parent_id, ", hex!("c.child_digest"), ", c.repository_id, c.child_id"),
        " FROM manifest_children c WHERE (c.parent_id, c.child_digest) > ($1, ", unhex!("$2"), ") \
        ORDER BY c.parent_id, c.child_digest LIMIT $3");
    MANIFEST_ABSENT_BLOBS = concat!("SELECT ", json_row!("a.manifest_id, ", hex!("a.digest"), ", a.repository_id"),
        " FROM manifest_absent_blobs a WHERE (a.manifest_id, a.digest) > ($1, ", unhex!("$2"), ") \
        ORDER BY a.manifest_id, a.digest LIMIT $3");
    TAGS = concat!("SELECT ", json_row!("t.repository_id, t.name, t.manifest_id, t.updated_at, t.last_pulled_at"),
        " FROM tags t WHERE (t.repository_id, t.name) > ($1, $2) ORDER BY t.repository_id, t.name LIMIT $3");
    TAG_HISTORY = concat!("SELECT ", json_row!("h.id, h.repository_id, h.tag, ", hex!("h.digest"), ", h.changed_at, h.changed_by"),
        " FROM tag_history h WHERE h.id > $1 ORDER BY h.id LIMIT $2");
    DELETED_MANIFESTS = concat!("SELECT ", json_row!("d.repository_id, ", hex!("d.digest"), ", d.media_type, ", hex!("d.body"),
        ", d.deleted_at, d.deleted_by, d.keep_until"),
        " FROM (SELECT repository_id, digest, octet_length(body) AS bytes, \
            SUM(octet_length(body)) OVER (ORDER BY repository_id, digest) AS total FROM deleted_manifests \
            WHERE (repository_id, digest) > ($1, ", unhex!("$2"), ") ORDER BY repository_id, digest LIMIT $3) p \
        JOIN deleted_manifests d ON d.repository_id = p.repository_id AND d.digest = p.digest \
        WHERE p.total - p.bytes < 4194304 ORDER BY p.repository_id, p.digest");
    DAMAGED_BLOBS = concat!("SELECT ", json_row!("d.blob_id, d.reason, d.found_at"), " FROM damaged_blobs d \
        WHERE d.blob_id > $1 ORDER BY d.blob_id LIMIT $2");
    USERS = concat!("SELECT ", json_row!("u.id, u.name, u.kind, u.password_hash, u.created_at, u.disabled_at"),
        " FROM users u WHERE u.id > $1 ORDER BY u.id LIMIT $2");
    TOKENS = concat!("SELECT ", json_row!("t.id, t.user_id, t.kind, t.description, ", hex!("t.secret_hash"), ", t.scope, \
        t.created_at, t.expires_at, t.last_used_at"), " FROM tokens t WHERE t.id > $1 ORDER BY t.id LIMIT $2");
    GRANTS = concat!("SELECT ", json_row!("g.id, g.subject_kind, g.subject, g.repository_pattern, g.role, g.created_at, \
        g.created_by"), " FROM grants g WHERE g.id > $1 ORDER BY g.id LIMIT $2");
    TOMBSTONES = concat!("SELECT ", json_row!("t.key, t.backend, t.size, t.reason, t.created_at, t.backend_upload"),
        " FROM tombstones t WHERE t.key > $1 ORDER BY t.key LIMIT $2");
    // Manifests and holds are queued by triggers when they are restored.
    BLOB_REVIEWS = concat!("SELECT ", json_row!("q.id1"), " FROM gc_queue q \
        WHERE q.kind = 3 AND q.id1 > $1 ORDER BY q.id1 LIMIT $2");
    AUDIT_LOG = concat!("SELECT ", json_row!("l.id, l.at, l.actor, l.action, l.target, ", hex!("l.digest_before"), ", ",
        hex!("l.digest_after"), ", l.address, l.request_id, l.outcome"),
        " FROM audit_log l WHERE l.id > $1 ORDER BY l.id LIMIT $2");
}

/// Rows of a page at most.
const PAGE: i64 = 500;

/// What pages of a table go by: the beginning of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Number,
    Text,
    TwoNumbers,
    NumberAndText,
}

/// How a table is read.
fn page(table: SnapshotTable) -> (&'static str, Order) {
    match table {
        SnapshotTable::Repositories => (REPOSITORIES, Order::Number),
        SnapshotTable::Objects => (OBJECTS, Order::Number),
        SnapshotTable::UnfinishedObjects => (UNFINISHED_OBJECTS, Order::Number),
        SnapshotTable::Blobs => (BLOBS, Order::Number),
        SnapshotTable::RepositoryBlobs => (REPOSITORY_BLOBS, Order::TwoNumbers),
        SnapshotTable::Manifests => (MANIFESTS, Order::Number),
        SnapshotTable::ManifestBlobs => (MANIFEST_BLOBS, Order::TwoNumbers),
        SnapshotTable::ManifestChildren => (MANIFEST_CHILDREN, Order::NumberAndText),
        SnapshotTable::ManifestAbsentBlobs => (MANIFEST_ABSENT_BLOBS, Order::NumberAndText),
        SnapshotTable::Tags => (TAGS, Order::NumberAndText),
        SnapshotTable::TagHistory => (TAG_HISTORY, Order::Number),
        SnapshotTable::DeletedManifests => (DELETED_MANIFESTS, Order::NumberAndText),
        SnapshotTable::DamagedBlobs => (DAMAGED_BLOBS, Order::Number),
        SnapshotTable::Users => (USERS, Order::Number),
        SnapshotTable::Tokens => (TOKENS, Order::Number),
        SnapshotTable::Grants => (GRANTS, Order::Number),
        SnapshotTable::Tombstones => (TOMBSTONES, Order::Text),
        SnapshotTable::BlobReviews => (BLOB_REVIEWS, Order::Number),
        SnapshotTable::AuditLog => (AUDIT_LOG, Order::Number),
    }
}

/// Where a page begins: after the row that begins so. No number that pages go by is below 1.
#[derive(Debug, Default)]
struct Place {
    first: i64,
    second: i64,
    text: String,
}

impl Place {
    fn after(order: Order, row: Option<&str>) -> Result<Self> {
        let Some(row) = row else { return Ok(Self::default()) };
        let damaged = |reason: String| Error::Damaged { table: "the snapshot", reason };
        let row: Vec<serde_json::Value> = serde_json::from_str(row).map_err(|error| damaged(error.to_string()))?;
        let number = |place: usize| row.get(place).and_then(serde_json::Value::as_i64);
        let text = |place: usize| row.get(place).and_then(serde_json::Value::as_str).map(str::to_owned);
        let place = match order {
            Order::Number => number(0).map(|first| Self { first, ..Self::default() }),
            Order::Text => text(0).map(|text| Self { text, ..Self::default() }),
            Order::TwoNumbers => {
                number(0).zip(number(1)).map(|(first, second)| Self { first, second, ..Self::default() })
            }
            Order::NumberAndText => number(0).zip(text(1)).map(|(first, text)| Self { first, text, ..Self::default() }),
        };
        place.ok_or_else(|| damaged("a row begins with something else than pages go by".to_owned()))
    }
}

/// A transaction that only reads.
#[derive(Debug)]
pub(crate) struct Snapshot {
    connection: Connection,
    at: SystemTime,
}

impl Store {
    pub(crate) async fn snapshot(&self) -> Result<Snapshot> {
        let program = newest_migration();
        let status = self.migration_status().await?;
        if !status.pending.is_empty() {
            let database = status.applied.last().map_or(0, |(version, _)| *version);
            return Err(Error::Schema { database, program });
        }
        let mut connection = self.long_connection().await?;
        sqlx::raw_sql(BEGIN_SNAPSHOT).execute(&mut connection).await?;
        let (now, version): (i64, i64) = sqlx::query_as(STATE).fetch_one(&mut connection).await?;
        // A newer release keeps what is unknown here.
        if version != program {
            return Err(Error::Schema { database: version, program });
        }
        Ok(Snapshot { connection, at: time(now)? })
    }
}

impl Snapshot {
    pub(crate) fn at(&self) -> SystemTime {
        self.at
    }

    pub(crate) async fn rows_after(&mut self, table: SnapshotTable, last: Option<&str>) -> Result<Vec<String>> {
        let (statement, order) = page(table);
        let place = Place::after(order, last)?;
        let rows = sqlx::query_as(statement);
        let rows = match order {
            Order::Number => rows.bind(place.first),
            Order::Text => rows.bind(place.text),
            Order::TwoNumbers => rows.bind(place.first).bind(place.second),
            Order::NumberAndText => rows.bind(place.first).bind(place.text),
        };
        let rows: Vec<(String,)> = rows.bind(PAGE).fetch_all(&mut self.connection).await?;
        Ok(rows.into_iter().map(|(row,)| row).collect())
    }

    pub(crate) async fn end(mut self) -> Result<()> {
        sqlx::query("COMMIT").execute(&mut self.connection).await?;
        self.connection.close().await?;
        Ok(())
    }
}
