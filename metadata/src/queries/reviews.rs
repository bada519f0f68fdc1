//! The queue of garbage collection: what waits in it, and how a review ends.
//!
//! A review is read without a lock, and whatever comes of it counts only if the queue still says the same: an event that
//! came in between has queued the thing anew, for later.

use super::dialect::review_list;
use super::repositories::microseconds;
use super::{Connection, Store, Transaction, read};
pub(super) use crate::garbage::Kind;
use crate::{Durability, Error, Result, Review};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

statements! {
    DROP_REVIEWS = concat!("DELETE FROM gc_queue WHERE kind = $2 AND (id1, id2, review_after) IN \
        (SELECT id1, id2, due FROM ", review_list!("$1"), " l)");
    OVERDUE = "SELECT c.now, MIN((SELECT q.review_after FROM gc_queue q WHERE q.kind = k.kind ORDER BY q.review_after LIMIT 1)) \
        FROM clock c CROSS JOIN (SELECT 1 AS kind UNION ALL SELECT 2 UNION ALL SELECT 3) k GROUP BY c.now";
    POSTPONE = concat!("UPDATE gc_queue SET review_after = l.other, attempts = attempts + 1 FROM ", review_list!("$1"),
        " l WHERE gc_queue.kind = $2 AND gc_queue.id1 = l.id1 AND gc_queue.id2 = l.id2 AND gc_queue.review_after = l.due");
}

/// Reviews as the JSON list that `review_list!` reads, each with one more number.
pub(super) fn json_list(reviews: impl IntoIterator<Item = (Review, i64)>) -> String {
    let row = |(review, other): (Review, i64)| serde_json::json!([review.id1, review.id2, review.due, other]);
    serde_json::Value::from_iter(reviews.into_iter().map(row)).to_string()
}

/// Rows of numbers as the JSON list that `review_list!` reads.
pub(super) fn id_list(ids: impl IntoIterator<Item = (i64, i64)>) -> String {
    json_list(ids.into_iter().map(|(id1, id2)| (Review { id1, id2, due: 0 }, 0)))
}

/// A time as the database gave it back.
pub(super) fn time(micros: i64) -> Result<SystemTime> {
    let since = u64::try_from(micros).ok().and_then(|micros| UNIX_EPOCH.checked_add(Duration::from_micros(micros)));
    since.ok_or_else(|| Error::Damaged { table: "clock", reason: format!("time {micros}") })
}

/// A time on its way into the database.
pub(super) fn stored_time(time: SystemTime) -> i64 {
    microseconds(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Ends reviews: those that have another time are looked at again then, unless something happens before.
struct Settle {
    kind: Kind,
    ended: Vec<Review>,
    postponed: Vec<(Review, SystemTime)>,
}

impl Transaction for Settle {
    type Output = ();

    /// What is lost is looked at once more.
    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        let kind = self.kind as i64;
        if !self.ended.is_empty() {
            let list = json_list(self.ended.iter().map(|review| (*review, 0)));
            sqlx::query(DROP_REVIEWS).bind(list).bind(kind).execute(&mut *connection).await?;
        }
        if !self.postponed.is_empty() {
            let list = json_list(self.postponed.iter().map(|(review, until)| (*review, stored_time(*until))));
            sqlx::query(POSTPONE).bind(list).bind(kind).execute(connection).await?;
        }
        Ok(())
    }
}

/// Drops reviews of what was deleted, in the transaction that deletes it.
pub(super) async fn drop_reviews(connection: &mut Connection, kind: Kind, ended: &[Review]) -> Result<()> {
    let list = json_list(ended.iter().map(|review| (*review, 0)));
    sqlx::query(DROP_REVIEWS).bind(list).bind(kind as i64).execute(connection).await?;
    Ok(())
}

impl Store {
    pub(crate) async fn overdue_for(&self) -> Result<Duration> {
        let told: Result<(i64, Option<i64>)> =
            read!(self.connections, connection => Ok(sqlx::query_as(OVERDUE).fetch_one(connection).await?));
        let (now, first) = told?;
        let overdue = first.map_or(0, |first| now - first);
        Ok(Duration::from_micros(u64::try_from(overdue).unwrap_or_default()))
    }

    pub(crate) async fn settle_reviews(
        &self,
        kind: Kind,
        ended: Vec<Review>,
        postponed: Vec<(Review, SystemTime)>,
    ) -> Result<()> {
        self.write(Settle { kind, ended, postponed }).await
    }
}
