//! Blobs that no repository holds. The row goes in the transaction that condemns the object, and the row is what a pusher
//! of the same digest would have to find: a flag on it would not stop him.

use super::blobs::{digest, size};
use super::dialect::{for_update, queue_list, review_list, skip_locked};
use super::garbage::{Budget, Counted};
use super::reviews::{FoundRow, Kind, drop_reviews, id_list, queue_list, queued};
use super::{Connection, Store, Transaction, repositories};
use crate::{BlobFacts, Breaker, Deleted, Durability, GarbageOutcome, Result, Review, ReviewPage, Reviewed};
use std::collections::HashSet;

statements! {
    DUE = concat!("SELECT q.id1, q.id2, q.review_after, c.now, b.digest, b.size, \
        (SELECT r.name FROM repository_blobs g JOIN repositories r ON r.id = g.repository_id \
            WHERE g.blob_id = b.id ORDER BY g.repository_id LIMIT 1) AS held_by \
        FROM clock c CROSS JOIN ", queued!("3"), " \
        LEFT JOIN blobs b ON b.id = q.id1 ORDER BY q.review_after, q.id1, q.id2");
    LOCK_REVIEWS = concat!("SELECT q.id1 FROM gc_queue q WHERE (q.kind, q.id1, q.id2, q.review_after) IN \
        (SELECT kind, id1, id2, due FROM ", queue_list!("$1"), " l) ORDER BY q.id1", for_update!());
    // Two holds may be let go at the same tick of the clock: when the review was due does not tell one from the other, so
    // what is kept must be held still.
    KEEP = concat!("DELETE FROM gc_queue WHERE (kind, id1, id2, review_after) IN \
        (SELECT l.kind, l.id1, l.id2, l.due FROM ", queue_list!("$1"), " l LEFT JOIN blobs b ON b.id = l.id1 \
            WHERE b.id IS NULL OR (SELECT g.blob_id FROM repository_blobs g WHERE g.blob_id = b.id LIMIT 1) IS NOT NULL)");
    LOCK = concat!("SELECT b.id FROM blobs b WHERE b.id IN (SELECT id1 FROM ", review_list!("$1"),
        " l) ORDER BY b.id", skip_locked!());
    UNHELD = concat!("SELECT b.id, COALESCE(b.object_id, 0) AS object_id, b.size FROM ", review_list!("$1"), " l \
        JOIN blobs b ON b.id = l.id1 WHERE NOT EXISTS (SELECT 1 FROM repository_blobs g WHERE g.blob_id = b.id)");
    CONDEMN = concat!("INSERT INTO tombstones (key, backend, size, reason, created_at, not_before) \
        SELECT o.key, o.backend, o.size, 'no repository holds its blob', e.now, e.delete_after \
        FROM lease e CROSS JOIN ", review_list!("$1"), " l JOIN objects o ON o.id = l.id2");
    DELETE = concat!("DELETE FROM blobs WHERE id IN (SELECT id1 FROM ", review_list!("$1"), " l)");
    DELETE_OBJECTS = concat!("DELETE FROM objects WHERE id IN (SELECT id2 FROM ", review_list!("$1"), " l)");
}

#[derive(sqlx::FromRow)]
struct BlobRow {
    digest: Option<Vec<u8>>,
    size: Option<i64>,
    held_by: Option<String>,
}

impl FoundRow for BlobRow {
    type Facts = BlobFacts;

    fn facts(self) -> Result<Option<BlobFacts>> {
        let (Some(own), Some(stored)) = (self.digest, self.size) else { return Ok(None) };
        let held_by = self.held_by.as_deref().map(repositories::name).transpose()?;
        Ok(Some(BlobFacts { digest: digest(&own)?, size: size(stored)?, held_by }))
    }
}

/// Ends the reviews of blobs that are held.
struct Keep(Vec<Review>);

impl Transaction for Keep {
    type Output = ();

    /// What is lost is looked at once more.
    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        let list = queue_list(Kind::Blob, self.0.iter().map(|review| (*review, 0)));
        // A hold that is being let go has its review locked: what comes of that is seen by the next statement only.
        sqlx::query(LOCK_REVIEWS).bind(&list).execute(&mut *connection).await?;
        sqlx::query(KEEP).bind(list).execute(connection).await?;
        Ok(())
    }
}

struct Delete {
    reviews: Vec<Review>,
    breaker: Breaker,
}

impl Transaction for Delete {
    type Output = GarbageOutcome;

    async fn run(&self, connection: &mut Connection) -> Result<GarbageOutcome> {
        let most = self.reviews.len();
        let Some(budget) = Budget::hold(connection, Counted::Blobs, self.breaker, most).await? else {
            return Ok(GarbageOutcome::Stopped);
        };
        let list = id_list(self.reviews.iter().map(|review| (review.id1, review.id2)));
        let locked: Vec<(i64,)> = sqlx::query_as(LOCK).bind(&list).fetch_all(&mut *connection).await?;
        let locked: HashSet<i64> = locked.into_iter().map(|(id,)| id).collect();
        let unheld: Vec<(i64, i64, i64)> = sqlx::query_as(UNHELD).bind(&list).fetch_all(&mut *connection).await?;
        let gone: Vec<_> = unheld.into_iter().filter(|(id, ..)| locked.contains(id)).collect();
        if gone.is_empty() {
            return Ok(GarbageOutcome::Deleted(Deleted::default()));
        }
        if !budget.spend(connection, gone.len()).await? {
            return Ok(GarbageOutcome::Stopped);
        }
        let pairs = id_list(gone.iter().map(|(id, object_id, _)| (*id, *object_id)));
        for statement in [CONDEMN, DELETE, DELETE_OBJECTS] {
            sqlx::query(statement).bind(&pairs).execute(&mut *connection).await?;
        }
        let ids: HashSet<i64> = gone.iter().map(|(id, ..)| *id).collect();
        let reviews: Vec<Review> = self.reviews.iter().filter(|review| ids.contains(&review.id1)).copied().collect();
        drop_reviews(connection, Kind::Blob, &reviews).await?;
        let bytes = gone.iter().map(|(.., stored)| size(*stored)).sum::<Result<u64>>()?;
        Ok(GarbageOutcome::Deleted(Deleted { count: gone.len() as u64, bytes }))
    }
}

impl Store {
    pub(crate) async fn review_blobs(&self, page: ReviewPage) -> Result<Reviewed<BlobFacts>> {
        self.review::<BlobRow>(DUE, page).await
    }

    pub(crate) async fn keep_blobs(&self, kept: Vec<Review>) -> Result<()> {
        if kept.is_empty() {
            return Ok(());
        }
        self.write(Keep(kept)).await
    }

    pub(crate) async fn delete_unheld_blobs(&self, reviews: Vec<Review>, breaker: Breaker) -> Result<GarbageOutcome> {
        self.write(Delete { reviews, breaker }).await
    }
}
