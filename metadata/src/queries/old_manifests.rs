//! Manifests that nothing keeps. They are locked, looked at, and deleted by three statements: one that waits for a lock
//! sees of other tables what was there before it waited, so only a statement that begins with the locks held sees the tag
//! that came in between (READ COMMITTED).

use super::blobs::{digest, size};
use super::dialect::{review_list, skip_locked};
use super::garbage::{Budget, Counted};
use super::reviews::{FoundRow, Kind, drop_reviews, id_list, json_list, queued, stored_time, time};
use super::{Connection, Store, Transaction, read, repositories};
use crate::cache::Change;
use crate::{
    Breaker, CondemnedManifest, Deleted, Error, GarbageOutcome, KeptManifest, ManifestFacts, Result, Review,
    ReviewPage, Reviewed,
};
use longshore_oci::{Digest, RepositoryName};
use std::collections::HashSet;

/// What is told of a manifest `m`.
macro_rules! facts {
    () => {
        "r.name, m.digest, m.size, m.config_media_type, m.pushed_at, m.last_pulled_at, m.untagged_since, \
        (SELECT t.name FROM tags t WHERE t.manifest_id = m.id ORDER BY t.name LIMIT 1) AS tag, \
        (SELECT p.digest FROM manifest_children e JOIN manifests p ON p.id = e.parent_id \
            WHERE e.repository_id = m.repository_id AND e.child_id = m.id ORDER BY p.id LIMIT 1) AS parent, \
        (SELECT s.digest FROM manifests s WHERE s.repository_id = m.repository_id AND s.digest = m.subject_digest) \
            AS subject "
    };
}

/// A manifest `m`, and how much keeps it.
macro_rules! kept {
    () => {
        "SELECT m.id, r.name, m.digest, m.size, m.repository_id, \
        (SELECT count(*) FROM tags t WHERE t.manifest_id = m.id) \
        + (SELECT count(*) FROM manifest_children e WHERE e.repository_id = m.repository_id AND e.child_id = m.id) \
        + (SELECT count(*) FROM manifests s WHERE s.repository_id = m.repository_id AND s.digest = m.subject_digest) \
            AS keepers "
    };
}

statements! {
    DUE = concat!("SELECT q.id1, q.id2, q.review_after, c.now, ", facts!(), "FROM clock c CROSS JOIN ", queued!("1"), " \
        LEFT JOIN manifests m ON m.id = q.id2 LEFT JOIN repositories r ON r.id = m.repository_id \
        ORDER BY q.review_after, q.id1, q.id2");
    ONE = concat!("SELECT ", facts!(), "FROM repositories r JOIN manifests m ON m.repository_id = r.id \
        WHERE r.name = $1 AND m.digest = $2");
    // What an index names, and what refers to a subject: each with how much keeps it in all.
    KEPT_BY = concat!(kept!(), "FROM (SELECT e.child_id AS id FROM ", review_list!("$1"), " l JOIN manifest_children e ON e.parent_id = l.id2 \
            WHERE e.child_id IS NOT NULL \
            UNION ALL SELECT f.id FROM ", review_list!("$1"), " l JOIN manifests s ON s.id = l.id2 \
            JOIN manifests f ON f.repository_id = s.repository_id AND f.subject_digest = s.digest) k \
        JOIN manifests m ON m.id = k.id JOIN repositories r ON r.id = m.repository_id ORDER BY k.id");
    WITH_KEEPERS = concat!(kept!(), "FROM ", review_list!("$1"), " l JOIN manifests m ON m.id = l.id2 \
        JOIN repositories r ON r.id = m.repository_id ORDER BY m.id");
    LOCK = concat!("SELECT m.id FROM manifests m WHERE m.id IN (SELECT id2 FROM ", review_list!("$1"),
        " l) ORDER BY m.id", skip_locked!());
    UNKEPT = concat!("SELECT m.id, m.size FROM ", review_list!("$1"), " l JOIN manifests m ON m.id = l.id2 \
        WHERE m.untagged_since = l.other \
        AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest_id = m.id) \
        AND NOT EXISTS (SELECT 1 FROM manifest_children e WHERE e.repository_id = m.repository_id AND e.child_id = m.id) \
        AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository_id = m.repository_id AND s.digest = m.subject_digest)");
    DELETE = concat!("DELETE FROM manifests WHERE id IN (SELECT id1 FROM ", review_list!("$1"), " l)");
}

#[derive(sqlx::FromRow)]
struct ManifestRow {
    name: Option<String>,
    digest: Option<Vec<u8>>,
    size: Option<i64>,
    config_media_type: Option<String>,
    pushed_at: Option<i64>,
    last_pulled_at: Option<i64>,
    untagged_since: Option<i64>,
    tag: Option<String>,
    parent: Option<Vec<u8>>,
    subject: Option<Vec<u8>>,
}

impl FoundRow for ManifestRow {
    type Facts = ManifestFacts;

    fn facts(self) -> Result<Option<ManifestFacts>> {
        let (Some(name), Some(own), Some(stored), Some(pushed_at)) =
            (self.name, self.digest, self.size, self.pushed_at)
        else {
            return Ok(None);
        };
        let damaged = |reason: String| Error::Damaged { table: "tags", reason };
        Ok(Some(ManifestFacts {
            repository: repositories::name(&name)?,
            digest: digest(&own)?,
            size: size(stored)?,
            config_media_type: self.config_media_type,
            pushed_at: time(pushed_at)?,
            last_pulled_at: self.last_pulled_at.map(time).transpose()?,
            untagged_since: self.untagged_since.map(time).transpose()?,
            tag: self.tag.map(|tag| tag.parse().map_err(|error| damaged(format!("{tag}: {error}")))).transpose()?,
            parent: self.parent.as_deref().map(digest).transpose()?,
            subject: self.subject.as_deref().map(digest).transpose()?,
        }))
    }
}

type KeptRow = (i64, String, Vec<u8>, i64, i64, i64);

fn kept((id, name, own, stored, repository_id, keepers): KeptRow) -> Result<KeptManifest> {
    Ok(KeptManifest {
        review: Review { id1: repository_id, id2: id, due: 0 },
        repository: repositories::name(&name)?,
        digest: digest(&own)?,
        size: size(stored)?,
        keepers: size(keepers)?,
    })
}

struct Delete {
    condemned: Vec<CondemnedManifest>,
    breaker: Breaker,
}

impl Transaction for Delete {
    type Output = GarbageOutcome;

    fn changes(&self) -> Vec<Change> {
        let change = |condemned: &CondemnedManifest| Change::Manifest(condemned.repository.clone(), condemned.digest);
        self.condemned.iter().map(change).collect()
    }

    async fn run(&self, connection: &mut Connection) -> Result<GarbageOutcome> {
        let most = self.condemned.len();
        let Some(budget) = Budget::hold(connection, Counted::Manifests, self.breaker, most).await? else {
            return Ok(GarbageOutcome::Stopped);
        };
        let list = json_list(self.condemned.iter().map(|found| (found.review, stored_time(found.untagged_since))));
        let locked: Vec<(i64,)> = sqlx::query_as(LOCK).bind(&list).fetch_all(&mut *connection).await?;
        let locked: HashSet<i64> = locked.into_iter().map(|(id,)| id).collect();
        let unkept: Vec<(i64, i64)> = sqlx::query_as(UNKEPT).bind(&list).fetch_all(&mut *connection).await?;
        let gone: Vec<_> = unkept.into_iter().filter(|(id, _)| locked.contains(id)).collect();
        if gone.is_empty() {
            return Ok(GarbageOutcome::Deleted(Deleted::default()));
        }
        if !budget.spend(connection, gone.len()).await? {
            return Ok(GarbageOutcome::Stopped);
        }
        let ids: HashSet<i64> = gone.iter().map(|(id, _)| *id).collect();
        sqlx::query(DELETE).bind(id_list(ids.iter().map(|id| (*id, 0)))).execute(&mut *connection).await?;
        let reviews: Vec<Review> = self.condemned.iter().map(|found| found.review).collect();
        let reviews: Vec<Review> = reviews.into_iter().filter(|review| ids.contains(&review.id2)).collect();
        drop_reviews(connection, Kind::Manifest, &reviews).await?;
        let bytes = gone.iter().map(|(_, stored)| size(*stored)).sum::<Result<u64>>()?;
        Ok(GarbageOutcome::Deleted(Deleted { count: gone.len() as u64, bytes }))
    }
}

impl Store {
    pub(crate) async fn review_manifests(&self, page: ReviewPage) -> Result<Reviewed<ManifestFacts>> {
        self.review::<ManifestRow>(DUE, page).await
    }

    pub(crate) async fn manifest_facts(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestFacts>> {
        let told: Result<Option<ManifestRow>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(ONE).bind(repository.as_str()).bind(digest.to_bytes());
            Ok(asked.fetch_optional(connection).await?)
        });
        told?.map_or(Ok(None), ManifestRow::facts)
    }

    pub(crate) async fn manifests_kept_by(&self, keepers: &[Review]) -> Result<Vec<KeptManifest>> {
        self.kept_manifests(KEPT_BY, keepers).await
    }

    pub(crate) async fn manifests_with_keepers(&self, manifests: &[Review]) -> Result<Vec<KeptManifest>> {
        self.kept_manifests(WITH_KEEPERS, manifests).await
    }

    async fn kept_manifests(&self, statement: &'static str, list: &[Review]) -> Result<Vec<KeptManifest>> {
        let list = json_list(list.iter().map(|review| (*review, 0)));
        let told: Result<Vec<KeptRow>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(statement).bind(&list);
            Ok(asked.fetch_all(connection).await?)
        });
        let rows = told?;
        rows.into_iter().map(kept).collect()
    }

    pub(crate) async fn delete_unkept_manifests(
        &self,
        condemned: Vec<CondemnedManifest>,
        breaker: Breaker,
    ) -> Result<GarbageOutcome> {
        self.write(Delete { condemned, breaker }).await
    }
}
