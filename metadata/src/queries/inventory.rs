//! What is compared with the store, and what has fallen out of garbage collection's sight: pages of whole tables, for a
//! check that somebody asked for.

use super::blobs::{digest, size};
use super::dialect::{json_rows, review_list, text_list};
use super::reviews::{Kind, id_list};
use super::{Batch, Connection, Store, Transaction, read, repositories, uploads};
use crate::{Content, ContentPage, Forgotten, InRows, ObjectRow, Result, StrayObject};
use std::collections::HashSet;

statements! {
    KNOWN = concat!("SELECT k.value FROM ", text_list!("$1"), " k LEFT JOIN objects o ON o.key = k.value \
        LEFT JOIN tombstones t ON t.key = k.value WHERE o.key IS NOT NULL OR t.key IS NOT NULL");
    TO_BE_ENDED = concat!("SELECT k.value, \
        (SELECT u.id FROM uploads u WHERE u.object_id = (SELECT o.id FROM objects o WHERE o.key = k.value)) AS session, \
        (SELECT t.key FROM tombstones t WHERE t.key = k.value) AS tombstone FROM ", text_list!("$1"), " k");
    CONDEMN_STRAYS = concat!("INSERT INTO tombstones (key, backend, size, reason, created_at, not_before) \
        SELECT value ->> 0, $2, CAST(value ->> 1 AS BIGINT), 'no row names it', e.now, e.delete_after \
        FROM ", json_rows!("$1"), " j CROSS JOIN lease e \
        WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.key = j.value ->> 0) ON CONFLICT (key) DO NOTHING");
    OBJECTS = "SELECT p.id, p.key, p.size, CAST(CASE WHEN EXISTS (SELECT 1 FROM blobs b WHERE b.object_id = p.id) \
        OR EXISTS (SELECT 1 FROM uploads u WHERE u.object_id = p.id) OR EXISTS (SELECT 1 FROM uploads u WHERE u.tail_id = p.id) \
        OR EXISTS (SELECT 1 FROM uploads u WHERE u.next_tail_id = p.id) THEN 1 ELSE 0 END AS BIGINT) AS is_used \
        FROM (SELECT id, key, size FROM objects WHERE id > $1 ORDER BY id LIMIT $2) p ORDER BY p.id";
    MANIFESTS = "SELECT p.repository_id AS id1, p.id AS id2, r.name, p.digest, \
        CAST(CASE WHEN EXISTS (SELECT 1 FROM tags t WHERE t.manifest_id = p.id) \
        OR EXISTS (SELECT 1 FROM manifest_children c WHERE c.repository_id = p.repository_id AND c.child_id = p.id) \
        OR EXISTS (SELECT 1 FROM manifests s WHERE s.repository_id = p.repository_id AND s.digest = p.subject_digest) \
        OR EXISTS (SELECT 1 FROM gc_queue q WHERE q.kind = 1 AND q.id1 = p.repository_id AND q.id2 = p.id) \
        THEN 1 ELSE 0 END AS BIGINT) AS is_seen \
        FROM (SELECT repository_id, id, digest, subject_digest FROM manifests WHERE (repository_id, id) > ($1, $2) \
            ORDER BY repository_id, id LIMIT $3) p JOIN repositories r ON r.id = p.repository_id \
        ORDER BY p.repository_id, p.id";
    GRANTS = "SELECT p.repository_id AS id1, p.blob_id AS id2, r.name, b.digest, CAST(CASE WHEN EXISTS \
        (SELECT 1 FROM manifest_blobs n WHERE n.repository_id = p.repository_id AND n.blob_id = p.blob_id) \
        OR EXISTS (SELECT 1 FROM gc_queue q WHERE q.kind = 2 AND q.id1 = p.repository_id AND q.id2 = p.blob_id) \
        THEN 1 ELSE 0 END AS BIGINT) AS is_seen \
        FROM (SELECT repository_id, blob_id FROM repository_blobs WHERE (repository_id, blob_id) > ($1, $2) \
            ORDER BY repository_id, blob_id LIMIT $3) p JOIN repositories r ON r.id = p.repository_id \
        JOIN blobs b ON b.id = p.blob_id ORDER BY p.repository_id, p.blob_id";
    BLOBS = "SELECT p.id AS id1, CAST(0 AS BIGINT) AS id2, NULL AS name, p.digest, CAST(CASE WHEN EXISTS \
        (SELECT 1 FROM repository_blobs g WHERE g.blob_id = p.id) \
        OR EXISTS (SELECT 1 FROM gc_queue q WHERE q.kind = 3 AND q.id1 = p.id AND q.id2 = 0) \
        THEN 1 ELSE 0 END AS BIGINT) AS is_seen \
        FROM (SELECT id, digest FROM blobs WHERE id > $1 AND $2 < 1 ORDER BY id LIMIT $3) p ORDER BY p.id";
    QUEUE = concat!("INSERT INTO gc_queue (kind, id1, id2, review_after) SELECT $2, l.id1, l.id2, e.review_after \
        FROM ", review_list!("$1"), " l CROSS JOIN lease e WHERE true ON CONFLICT (kind, id1, id2) DO NOTHING");
    BODIES = "SELECT m.repository_id AS id1, m.id AS id2, r.name, m.digest, m.body AS bytes, \
        (SELECT d.found_at FROM damaged_manifests d WHERE d.manifest_id = m.id) AS damaged_at FROM manifests m \
        JOIN repositories r ON r.id = m.repository_id WHERE (m.repository_id, m.id) > ($1, $2) \
        ORDER BY m.repository_id, m.id LIMIT $3";
    // No index tells which blobs are small: a page is of so many blobs, however few of those are.
    LAST_OF_BLOBS = "SELECT max(p.id) FROM (SELECT id FROM blobs WHERE id > $1 ORDER BY id LIMIT $2) p";
    INLINE = "SELECT b.id AS id1, CAST(0 AS BIGINT) AS id2, NULL AS name, b.digest, b.inline AS bytes, \
        (SELECT d.found_at FROM damaged_blobs d WHERE d.blob_id = b.id) AS damaged_at FROM blobs b \
        WHERE b.id > $1 AND b.id <= $2 AND b.inline IS NOT NULL ORDER BY b.id LIMIT $3";
}

/// Blobs that are looked at together for small ones among them.
const LOOKED_AT: i64 = 1000;

#[derive(sqlx::FromRow)]
struct UsedRow {
    id: i64,
    key: String,
    size: i64,
    is_used: i64,
}

#[derive(sqlx::FromRow)]
struct SeenRow {
    id1: i64,
    id2: i64,
    name: Option<String>,
    digest: Vec<u8>,
    is_seen: i64,
}

#[derive(sqlx::FromRow)]
struct ContentRow {
    id1: i64,
    id2: i64,
    name: Option<String>,
    digest: Vec<u8>,
    bytes: Vec<u8>,
    damaged_at: Option<i64>,
}

impl ContentRow {
    fn content(self) -> Result<Content> {
        let repository = self.name.as_deref().map(repositories::name).transpose()?;
        let (place, is_damaged) = ((self.id1, self.id2), self.damaged_at.is_some());
        Ok(Content { place, repository, digest: digest(&self.digest)?, bytes: self.bytes, is_damaged })
    }
}

struct CondemnStrays {
    strays: Vec<StrayObject>,
    backend: String,
}

impl Transaction for CondemnStrays {
    type Output = u64;

    async fn run(&self, connection: &mut Connection) -> Result<u64> {
        let rows = self.strays.iter().map(|stray| serde_json::json!([stray.key, stray.size]));
        let list = serde_json::Value::from_iter(rows).to_string();
        let condemned = sqlx::query(CONDEMN_STRAYS).bind(list).bind(&self.backend).execute(connection).await?;
        Ok(condemned.rows_affected())
    }
}

struct CondemnUnused(Vec<ObjectRow>);

impl Transaction for CondemnUnused {
    type Output = ();

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        let mut batch = Batch::default();
        for object in &self.0 {
            uploads::condemn_object(&mut batch, object.number, None, "nothing names it");
        }
        batch.execute(connection).await
    }
}

struct Queue {
    kind: Kind,
    ids: Vec<(i64, i64)>,
}

impl Transaction for Queue {
    type Output = ();

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        let list = id_list(self.ids.iter().copied());
        sqlx::query(QUEUE).bind(list).bind(self.kind as i64).execute(connection).await?;
        Ok(())
    }
}

impl Store {
    pub(crate) async fn known_keys(&self, keys: &[String]) -> Result<HashSet<String>> {
        let list = serde_json::Value::from_iter(keys.iter().map(String::as_str)).to_string();
        let told: Result<Vec<(String,)>> =
            read!(self.connections, connection => Ok(sqlx::query_as(KNOWN).bind(&list).fetch_all(connection).await?));
        Ok(told?.into_iter().map(|(key,)| key).collect())
    }

    pub(crate) async fn keys_to_be_ended(&self, keys: &[String]) -> Result<HashSet<String>> {
        type Row = (String, Option<String>, Option<String>);
        let list = serde_json::Value::from_iter(keys.iter().map(String::as_str)).to_string();
        let told: Result<Vec<Row>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(TO_BE_ENDED).bind(&list).fetch_all(connection).await?)
        });
        let is_known = |(_, session, tombstone): &Row| session.is_some() || tombstone.is_some();
        Ok(told?.into_iter().filter(is_known).map(|(key, ..)| key).collect())
    }

    pub(crate) async fn condemn_strays(&self, strays: Vec<StrayObject>, backend: &str) -> Result<u64> {
        self.write(CondemnStrays { strays, backend: backend.to_owned() }).await
    }

    pub(crate) async fn used_objects(&self, after: i64, limit: u32) -> Result<Vec<ObjectRow>> {
        let told: Result<Vec<UsedRow>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(OBJECTS).bind(after).bind(i64::from(limit)).fetch_all(connection).await?)
        });
        let object = |row: UsedRow| {
            Ok(ObjectRow { number: row.id, key: row.key, size: size(row.size)?, is_used: row.is_used != 0 })
        };
        told?.into_iter().map(object).collect()
    }

    pub(crate) async fn condemn_unused(&self, unused: Vec<ObjectRow>) -> Result<()> {
        self.write(CondemnUnused(unused)).await
    }

    pub(crate) async fn seen(&self, kind: Kind, after: (i64, i64), limit: u32) -> Result<Vec<Forgotten>> {
        let statement = match kind {
            Kind::Manifest => MANIFESTS,
            Kind::Grant => GRANTS,
            Kind::Blob => BLOBS,
        };
        let told: Result<Vec<SeenRow>> = read!(self.connections, connection => {
            let page = sqlx::query_as(statement).bind(after.0).bind(after.1).bind(i64::from(limit));
            Ok(page.fetch_all(connection).await?)
        });
        let row = |row: SeenRow| {
            let repository = row.name.as_deref().map(repositories::name).transpose()?;
            let (place, is_seen) = ((row.id1, row.id2), row.is_seen != 0);
            Ok(Forgotten { place, repository, digest: digest(&row.digest)?, is_seen })
        };
        told?.into_iter().map(row).collect()
    }

    pub(crate) async fn queue_forgotten(&self, kind: Kind, ids: Vec<(i64, i64)>) -> Result<()> {
        self.write(Queue { kind, ids }).await
    }

    pub(crate) async fn contents(&self, of: InRows, after: (i64, i64), limit: u32) -> Result<ContentPage> {
        match of {
            InRows::Manifests => self.bodies(after, limit).await,
            InRows::Blobs => self.inline_blobs(after.0, limit).await,
        }
    }

    async fn bodies(&self, after: (i64, i64), limit: u32) -> Result<ContentPage> {
        let told: Result<Vec<ContentRow>> = read!(self.connections, connection => {
            let page = sqlx::query_as(BODIES).bind(after.0).bind(after.1).bind(i64::from(limit));
            Ok(page.fetch_all(connection).await?)
        });
        let contents: Vec<Content> = told?.into_iter().map(ContentRow::content).collect::<Result<_>>()?;
        let reached = contents.last().map(|last| last.place);
        Ok(ContentPage { contents, reached })
    }

    async fn inline_blobs(&self, after: i64, limit: u32) -> Result<ContentPage> {
        let told: Result<(Option<i64>,)> = read!(self.connections, connection => {
            Ok(sqlx::query_as(LAST_OF_BLOBS).bind(after).bind(LOOKED_AT).fetch_one(connection).await?)
        });
        let (Some(last),) = told? else { return Ok(ContentPage { contents: Vec::new(), reached: None }) };
        let told: Result<Vec<ContentRow>> = read!(self.connections, connection => {
            let page = sqlx::query_as(INLINE).bind(after).bind(last).bind(i64::from(limit));
            Ok(page.fetch_all(connection).await?)
        });
        let contents: Vec<Content> = told?.into_iter().map(ContentRow::content).collect::<Result<_>>()?;
        let is_full = contents.len() == limit as usize;
        let reached = contents.last().filter(|_| is_full).map_or((last, 0), |last| last.place);
        Ok(ContentPage { contents, reached: Some(reached) })
    }
}
