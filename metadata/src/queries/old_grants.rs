//! Holds on blobs that nobody needs any more: their lease has ended, and no manifest of the repository names the blob. The
//! foreign key of `manifest_blobs` would refuse the delete of one that is named.

use super::blobs::{digest, size};
use super::dialect::{queue_list, review_list, skip_locked};
use super::reviews::{FoundRow, Kind, drop_reviews, id_list, queue_list, queued, time};
use super::{Connection, Store, Transaction, read, repositories};
use crate::cache::Change;
use crate::{CondemnedGrant, Deleted, GrantFacts, NeededBlob, Result, Review, ReviewPage, Reviewed};
use longshore_oci::{Digest, RepositoryName};
use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

/// What is told of a repository's `r` hold `g` on a blob `b`.
macro_rules! facts {
    () => {
        "r.name, b.digest, b.size, g.expires_at, (SELECT m.digest FROM manifest_blobs n CROSS JOIN manifests m \
            WHERE n.repository_id = g.repository_id AND n.blob_id = g.blob_id AND m.id = n.manifest_id \
            ORDER BY n.manifest_id LIMIT 1) AS needed_by "
    };
}

statements! {
    DUE = concat!("SELECT q.id1, q.id2, q.review_after, c.now, ", facts!(), "FROM clock c CROSS JOIN ", queued!("2"), " \
        LEFT JOIN repository_blobs g ON g.repository_id = q.id1 AND g.blob_id = q.id2 \
        LEFT JOIN blobs b ON b.id = g.blob_id LEFT JOIN repositories r ON r.id = g.repository_id \
        ORDER BY q.review_after, q.id1, q.id2");
    ONE = concat!("SELECT (SELECT now FROM clock) AS now, ", facts!(), "FROM blobs b JOIN repository_blobs g ON g.blob_id = b.id \
        AND g.repository_id = (SELECT id FROM repositories WHERE name = $1) \
        JOIN repositories r ON r.id = g.repository_id WHERE b.digest = $2");
    // What manifests need: each once, with how many of them need it, how many of the repository do, and how many repositories
    // hold it. However many of them share a layer, those that need it are counted once.
    NEEDED_BY = concat!("SELECT n.repository_id, n.blob_id, r.name, b.digest, b.size, n.lost, \
        (SELECT count(*) FROM manifest_blobs o WHERE o.repository_id = n.repository_id AND o.blob_id = n.blob_id) AS users, \
        (SELECT count(*) FROM repository_blobs g WHERE g.blob_id = n.blob_id) AS holders \
        FROM (SELECT u.repository_id, u.blob_id, count(*) AS lost FROM ", review_list!("$1"), " l \
            CROSS JOIN manifest_blobs u WHERE u.manifest_id = l.id2 GROUP BY u.repository_id, u.blob_id) n \
        CROSS JOIN blobs b CROSS JOIN repositories r WHERE b.id = n.blob_id AND r.id = n.repository_id \
        ORDER BY n.blob_id, n.repository_id");
    HOLDERS = concat!("SELECT b.id, count(*) AS holders FROM ", review_list!("$1"), " l JOIN blobs b ON b.id = l.id2 \
        JOIN repository_blobs g ON g.blob_id = b.id GROUP BY b.id");
    LOCK = concat!("SELECT g.repository_id, g.blob_id FROM repository_blobs g WHERE (g.repository_id, g.blob_id) IN \
        (SELECT id1, id2 FROM ", review_list!("$1"), " l) ORDER BY g.blob_id, g.repository_id", skip_locked!());
    UNKEPT = concat!("SELECT g.repository_id, g.blob_id, b.size FROM ", review_list!("$1"), " l \
        JOIN repository_blobs g ON g.repository_id = l.id1 AND g.blob_id = l.id2 JOIN blobs b ON b.id = g.blob_id \
        WHERE g.expires_at <= (SELECT now FROM clock) AND NOT EXISTS (SELECT 1 FROM manifest_blobs n \
            WHERE n.repository_id = g.repository_id AND n.blob_id = g.blob_id)");
    DELETE = concat!("DELETE FROM repository_blobs WHERE (repository_id, blob_id) IN \
        (SELECT id1, id2 FROM ", review_list!("$1"), " l)");
    // Nobody can be promised a blob that no repository holds: there is nothing to wait for.
    HASTEN = concat!("UPDATE gc_queue SET review_after = (SELECT now FROM clock) WHERE (kind, id1, id2) IN \
        (SELECT kind, id1, id2 FROM ", queue_list!("$1"), " l)");
}

#[derive(sqlx::FromRow)]
struct GrantRow {
    name: Option<String>,
    digest: Option<Vec<u8>>,
    size: Option<i64>,
    expires_at: Option<i64>,
    needed_by: Option<Vec<u8>>,
}

impl FoundRow for GrantRow {
    type Facts = GrantFacts;

    fn facts(self) -> Result<Option<GrantFacts>> {
        let (Some(name), Some(own), Some(stored), Some(expires_at)) =
            (self.name, self.digest, self.size, self.expires_at)
        else {
            return Ok(None);
        };
        Ok(Some(GrantFacts {
            repository: repositories::name(&name)?,
            digest: digest(&own)?,
            size: size(stored)?,
            expires_at: time(expires_at)?,
            needed_by: self.needed_by.as_deref().map(digest).transpose()?,
        }))
    }
}

/// A hold, and when it was read.
#[derive(sqlx::FromRow)]
struct ReadRow {
    now: i64,
    #[sqlx(flatten)]
    found: GrantRow,
}

#[derive(sqlx::FromRow)]
struct NeededRow {
    repository_id: i64,
    blob_id: i64,
    name: String,
    digest: Vec<u8>,
    size: i64,
    lost: i64,
    users: i64,
    holders: i64,
}

impl NeededRow {
    fn blob(self) -> Result<NeededBlob> {
        Ok(NeededBlob {
            review: Review { id1: self.repository_id, id2: self.blob_id, due: 0 },
            repository: repositories::name(&self.name)?,
            digest: digest(&self.digest)?,
            size: size(self.size)?,
            lost: size(self.lost)?,
            users: size(self.users)?,
            holders: size(self.holders)?,
        })
    }
}

struct Delete(Vec<CondemnedGrant>);

impl Transaction for Delete {
    type Output = Deleted;

    fn changes(&self) -> Vec<Change> {
        self.0.iter().map(|condemned| Change::Blob(condemned.repository.clone(), condemned.digest)).collect()
    }

    async fn run(&self, connection: &mut Connection) -> Result<Deleted> {
        let list = id_list(self.0.iter().map(|found| (found.review.id1, found.review.id2)));
        let locked: Vec<(i64, i64)> = sqlx::query_as(LOCK).bind(&list).fetch_all(&mut *connection).await?;
        let locked: HashSet<(i64, i64)> = locked.into_iter().collect();
        let unkept: Vec<(i64, i64, i64)> = sqlx::query_as(UNKEPT).bind(&list).fetch_all(&mut *connection).await?;
        let gone: Vec<_> = unkept.into_iter().filter(|(id1, id2, _)| locked.contains(&(*id1, *id2))).collect();
        if gone.is_empty() {
            return Ok(Deleted::default());
        }
        let ids: HashSet<(i64, i64)> = gone.iter().map(|(id1, id2, _)| (*id1, *id2)).collect();
        let list = id_list(ids.iter().copied());
        sqlx::query(DELETE).bind(&list).execute(&mut *connection).await?;
        let blobs = ids.iter().map(|(_, blob)| (Review { id1: *blob, id2: 0, due: 0 }, 0));
        sqlx::query(HASTEN).bind(queue_list(Kind::Blob, blobs)).execute(&mut *connection).await?;
        let reviews = self.0.iter().map(|found| found.review);
        let reviews: Vec<Review> = reviews.filter(|review| ids.contains(&(review.id1, review.id2))).collect();
        drop_reviews(connection, Kind::Grant, &reviews).await?;
        let bytes = gone.iter().map(|(.., stored)| size(*stored)).sum::<Result<u64>>()?;
        Ok(Deleted { count: gone.len() as u64, bytes })
    }
}

impl Store {
    pub(crate) async fn review_grants(&self, page: ReviewPage) -> Result<Reviewed<GrantFacts>> {
        self.review::<GrantRow>(DUE, page).await
    }

    pub(crate) async fn grant_facts(
        &self,
        repository: &RepositoryName,
        blob: &Digest,
    ) -> Result<Option<(SystemTime, GrantFacts)>> {
        let told: Result<Option<ReadRow>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(ONE).bind(repository.as_str()).bind(blob.to_bytes());
            Ok(asked.fetch_optional(connection).await?)
        });
        let Some(ReadRow { now, found }) = told? else { return Ok(None) };
        let now = time(now)?;
        Ok(found.facts()?.map(|facts| (now, facts)))
    }

    pub(crate) async fn blobs_needed_by(&self, manifests: &[Review]) -> Result<Vec<NeededBlob>> {
        let list = id_list(manifests.iter().map(|review| (review.id1, review.id2)));
        let told: Result<Vec<NeededRow>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(NEEDED_BY).bind(&list);
            Ok(asked.fetch_all(connection).await?)
        });
        let rows = told?;
        rows.into_iter().map(NeededRow::blob).collect()
    }

    pub(crate) async fn count_holders(&self, grants: &[Review]) -> Result<Vec<(Review, u64)>> {
        let list = id_list(grants.iter().map(|review| (review.id1, review.id2)));
        let told: Result<Vec<(i64, i64)>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(HOLDERS).bind(&list);
            Ok(asked.fetch_all(connection).await?)
        });
        let rows = told?;
        let holders: HashMap<i64, i64> = rows.into_iter().collect();
        let count = |grant: &Review| Ok((*grant, size(holders.get(&grant.id2).copied().unwrap_or_default())?));
        grants.iter().map(count).collect()
    }

    pub(crate) async fn delete_unkept_grants(&self, condemned: Vec<CondemnedGrant>) -> Result<Deleted> {
        self.write(Delete(condemned)).await
    }
}
