//! What retention rules ask of the database: pages of a repository's tags, and deletes of those that are still as they
//! were when a rule looked at them.

use super::blobs::{digest, size};
use super::dialect::{annotation, for_update_of, json_rows};
use super::garbage::{Budget, Counted};
use super::repositories::microseconds;
use super::reviews::{stored_time, time};
use super::{Connection, Store, Transaction, read, references, repositories};
use crate::cache::Change;
use crate::{
    Breaker, CondemnedManifest, CondemnedTag, Durability, OldGeneration, Result, Review, TagFacts, TagPage, TagsOutcome,
};
use longshore_oci::{RepositoryName, Tag};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, SystemTime};

/// What is told of a tag `t` and its manifest `m`. Tags are in the order of their index: a page costs a page, and not a sort
/// of all that follow.
macro_rules! facts {
    () => {
        concat!(
            "SELECT (SELECT now FROM clock) AS now, t.name, t.repository_id, t.manifest_id, m.digest, t.updated_at, t.last_pulled_at, \
            COALESCE(m.config_media_type = 'application/vnd.buildkit.cacheconfig.v0', FALSE) AS is_build_cache, \
            substr(COALESCE(",
            annotation!("m.annotations", "land.longshore.expires-after"),
            ", ",
            annotation!("m.annotations", "quay.expires-after"),
            "), 1, 64) AS expires_after \
            FROM tags t JOIN manifests m ON m.id = t.manifest_id \
            WHERE t.repository_id = (SELECT id FROM repositories WHERE name = $1) "
        )
    };
}

statements! {
    UNSEEN = "SELECT r.name FROM repositories r LEFT JOIN retention_looks k ON k.repository_id = r.id \
        WHERE r.name > $1 AND COALESCE(k.looked_at, 0) <= (SELECT now FROM clock) - $2 ORDER BY r.name LIMIT $3";
    LOOK = "INSERT INTO retention_looks (repository_id, looked_at) \
        SELECT r.id, c.now FROM repositories r CROSS JOIN clock c WHERE r.name = $1 \
        ON CONFLICT (repository_id) DO UPDATE SET looked_at = excluded.looked_at \
        WHERE retention_looks.looked_at <= excluded.looked_at - $2";
    TAGS = concat!(facts!(), "AND t.name > $2 ORDER BY t.name LIMIT $3");
    TAG = concat!(facts!(), "AND t.name = $2");
    // Rows of repository, tag, manifest, and when the tag was pushed and pulled. Who waits for a row here looks at it
    // again when it has it.
    LOCK = concat!("SELECT t.name FROM (SELECT CAST(value ->> 0 AS BIGINT) AS repository_id, value ->> 1 AS name, \
            CAST(value ->> 2 AS BIGINT) AS manifest_id, CAST(value ->> 3 AS BIGINT) AS pushed_at, \
            CAST(value ->> 4 AS BIGINT) AS pulled_at FROM ", json_rows!("$1"), ") l \
        JOIN tags t ON t.repository_id = l.repository_id AND t.name = l.name \
        WHERE t.manifest_id = l.manifest_id AND t.updated_at = l.pushed_at \
        AND t.last_pulled_at IS NOT DISTINCT FROM l.pulled_at ORDER BY t.name", for_update_of!("t"));
    // Rows of repository, tag, and who deletes it.
    RECORD = concat!("INSERT INTO tag_history (repository_id, tag, digest, changed_at, changed_by) \
        SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, NULL, c.now, value ->> 2 FROM ", json_rows!("$1"), " CROSS JOIN clock c");
    DELETE = concat!("DELETE FROM tags WHERE (repository_id, name) IN \
        (SELECT CAST(value ->> 0 AS BIGINT), value ->> 1 FROM ", json_rows!("$1"), ")");
    // A tag that has moved for years has a long past; what it named before its last thousand moves is gone by then.
    // Images that it named in between are no generations, and those that are gone already count for none.
    OLD_GENERATIONS = "SELECT m.id, m.repository_id, m.digest, m.size, m.untagged_since FROM ( \
            SELECT c.id, c.repository_id, c.digest, c.size, c.untagged_since, c.subject_digest, p.newest FROM ( \
                SELECT n.repository_id, n.digest, MAX(n.id) AS newest FROM ( \
                    SELECT h.repository_id, h.digest, h.id FROM repositories r \
                    JOIN tag_history h ON h.repository_id = r.id \
                    WHERE r.name = $1 AND h.tag = $2 AND h.digest IS NOT NULL ORDER BY h.id DESC LIMIT 1000 \
                ) n GROUP BY n.repository_id, n.digest \
            ) p JOIN manifests c ON c.repository_id = p.repository_id AND c.digest = p.digest \
            WHERE c.config_media_type = 'application/vnd.buildkit.cacheconfig.v0' \
            ORDER BY p.newest DESC LIMIT 1000 OFFSET $3 \
        ) m WHERE m.untagged_since IS NOT NULL \
        AND NOT EXISTS (SELECT 1 FROM manifest_children e WHERE e.repository_id = m.repository_id AND e.child_id = m.id) \
        AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository_id = m.repository_id AND s.digest = m.subject_digest) \
        ORDER BY m.newest DESC";
}

#[derive(sqlx::FromRow)]
struct TagRow {
    now: i64,
    name: String,
    repository_id: i64,
    manifest_id: i64,
    digest: Vec<u8>,
    updated_at: i64,
    last_pulled_at: Option<i64>,
    is_build_cache: bool,
    expires_after: Option<String>,
}

impl TagRow {
    fn facts(self) -> Result<TagFacts> {
        Ok(TagFacts {
            tag: references::tag(&self.name)?,
            manifest: Review { id1: self.repository_id, id2: self.manifest_id, due: 0 },
            digest: digest(&self.digest)?,
            pushed_at: time(self.updated_at)?,
            last_pulled_at: self.last_pulled_at.map(time).transpose()?,
            is_build_cache: self.is_build_cache,
            expires_after: self.expires_after,
        })
    }
}

struct Look {
    repository: RepositoryName,
    interval: Duration,
}

impl Transaction for Look {
    type Output = bool;

    /// What is lost is looked at once more.
    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let look = sqlx::query(LOOK).bind(self.repository.as_str()).bind(microseconds(self.interval));
        Ok(look.execute(connection).await?.rows_affected() > 0)
    }
}

struct DeleteTags {
    repository: RepositoryName,
    tags: Vec<CondemnedTag>,
    breaker: Breaker,
}

impl Transaction for DeleteTags {
    type Output = TagsOutcome;

    fn changes(&self) -> Vec<Change> {
        self.tags.iter().map(|tag| Change::Tag(self.repository.clone(), tag.facts.tag.clone())).collect()
    }

    async fn run(&self, connection: &mut Connection) -> Result<TagsOutcome> {
        let most = self.tags.len();
        let Some(budget) = Budget::hold(connection, Counted::Tags, self.breaker, most).await? else {
            return Ok(TagsOutcome::Stopped);
        };
        let found = |tag: &CondemnedTag| {
            let TagFacts { tag, manifest, pushed_at, last_pulled_at, .. } = &tag.facts;
            let pulled_at = last_pulled_at.map(stored_time);
            json!([manifest.id1, tag.as_str(), manifest.id2, stored_time(*pushed_at), pulled_at])
        };
        let rows = Value::from_iter(self.tags.iter().map(found)).to_string();
        let still: Vec<(String,)> = sqlx::query_as(LOCK).bind(rows).fetch_all(&mut *connection).await?;
        if still.is_empty() {
            return Ok(TagsOutcome::Deleted(0));
        }
        if !budget.spend(connection, still.len()).await? {
            return Ok(TagsOutcome::Stopped);
        }
        let still: HashSet<String> = still.into_iter().map(|(name,)| name).collect();
        let going = self.tags.iter().filter(|tag| still.contains(tag.facts.tag.as_str()));
        let going = going.map(|tag| json!([tag.facts.manifest.id1, tag.facts.tag.as_str(), tag.by]));
        let going = Value::from_iter(going).to_string();
        for statement in [RECORD, DELETE] {
            sqlx::query(statement).bind(&going).execute(&mut *connection).await?;
        }
        Ok(TagsOutcome::Deleted(still.len() as u64))
    }
}

type GenerationRow = (i64, i64, Vec<u8>, i64, i64);

impl Store {
    pub(crate) async fn repositories_to_look_through(
        &self,
        after: &str,
        interval: Duration,
        limit: u32,
    ) -> Result<Vec<RepositoryName>> {
        read!(self.connections, connection => {
            let unseen = sqlx::query_as(UNSEEN).bind(after).bind(microseconds(interval)).bind(i64::from(limit));
            let rows: Vec<(String,)> = unseen.fetch_all(connection).await?;
            rows.iter().map(|(text,)| repositories::name(text)).collect()
        })
    }

    pub(crate) async fn look_through(&self, repository: &RepositoryName, interval: Duration) -> Result<bool> {
        self.write(Look { repository: repository.clone(), interval }).await
    }

    pub(crate) async fn tag_page(&self, repository: &RepositoryName, after: &str, limit: u32) -> Result<TagPage> {
        let told: Result<Vec<TagRow>> = read!(self.connections, connection => {
            let tags = sqlx::query_as(TAGS).bind(repository.as_str()).bind(after).bind(i64::from(limit));
            Ok(tags.fetch_all(connection).await?)
        });
        let rows = told?;
        let now = time(rows.first().map_or(0, |row| row.now))?;
        Ok(TagPage { now, tags: rows.into_iter().map(TagRow::facts).collect::<Result<_>>()? })
    }

    pub(crate) async fn tag_facts(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<(SystemTime, TagFacts)>> {
        let told: Result<Option<TagRow>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(TAG).bind(repository.as_str()).bind(tag.as_str());
            Ok(asked.fetch_optional(connection).await?)
        });
        told?.map(|row| Ok((time(row.now)?, row.facts()?))).transpose()
    }

    pub(crate) async fn delete_tags(
        &self,
        repository: &RepositoryName,
        tags: Vec<CondemnedTag>,
        breaker: Breaker,
    ) -> Result<TagsOutcome> {
        self.write(DeleteTags { repository: repository.clone(), tags, breaker }).await
    }

    pub(crate) async fn old_generations(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        kept: u32,
    ) -> Result<Vec<OldGeneration>> {
        let told: Result<Vec<GenerationRow>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(OLD_GENERATIONS).bind(repository.as_str()).bind(tag.as_str());
            Ok(asked.bind(i64::from(kept)).fetch_all(connection).await?)
        });
        let generation = |(id, repository_id, own, stored, since): GenerationRow| {
            let review = Review { id1: repository_id, id2: id, due: 0 };
            let (digest, untagged_since) = (digest(&own)?, time(since)?);
            let condemned = CondemnedManifest { review, repository: repository.clone(), digest, untagged_since };
            Ok(OldGeneration { digest, size: size(stored)?, condemned })
        };
        told?.into_iter().map(generation).collect()
    }
}
