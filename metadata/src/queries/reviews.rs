//! The queue of garbage collection: what waits in it, and how a review ends.
//!
//! A review is read without a lock, and whatever comes of it counts only if the queue still says the same: an event that
//! came in between has queued the thing anew, for later.

use super::dialect::queue_list;
use super::repositories::microseconds;
use super::{Connection, Store, Transaction, read};
pub(super) use crate::garbage::Kind;
use crate::{Durability, Error, Result, Review, ReviewPage, Reviewed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The reviews of a kind that a page asks for, as a table `q`; its parameters are those that [`Store::review`] binds.
macro_rules! queued {
    ($kind:literal) => {
        concat!(
            "(SELECT id1, id2, review_after FROM gc_queue WHERE kind = ",
            $kind,
            " AND review_after <= COALESCE($1, (SELECT now FROM clock)) AND (review_after, id1, id2) > ($2, $3, $4) \
             ORDER BY review_after, id1, id2 LIMIT $5) q"
        )
    };
}

pub(super) use queued;

statements! {
    DROP_REVIEWS = concat!("DELETE FROM gc_queue WHERE (kind, id1, id2, review_after) IN \
        (SELECT kind, id1, id2, due FROM ", queue_list!("$1"), " l)");
    OVERDUE = "SELECT c.now, MIN((SELECT q.review_after FROM gc_queue q WHERE q.kind = k.kind ORDER BY q.review_after LIMIT 1)) \
        FROM clock c CROSS JOIN (SELECT 1 AS kind UNION ALL SELECT 2 UNION ALL SELECT 3) k GROUP BY c.now";
    POSTPONE = concat!("UPDATE gc_queue SET review_after = l.later, attempts = attempts + 1 FROM ", queue_list!("$1"),
        " l WHERE gc_queue.kind = l.kind AND gc_queue.id1 = l.id1 AND gc_queue.id2 = l.id2 AND gc_queue.review_after = l.due");
}

type Row = <<Connection as sqlx::Connection>::Database as sqlx::Database>::Row;

/// What a query found of a queued thing, in its columns.
pub(super) trait FoundRow: for<'row> sqlx::FromRow<'row, Row> + Send + Unpin {
    type Facts;

    /// In the registry's words; none where the thing is gone.
    fn facts(self) -> Result<Option<Self::Facts>>;
}

/// A review with what was found.
#[derive(sqlx::FromRow)]
struct ReviewRow<F> {
    id1: i64,
    id2: i64,
    review_after: i64,
    now: i64,
    #[sqlx(flatten)]
    found: F,
}

/// Reviews as the JSON list that `review_list!` reads, each with one more number.
pub(super) fn json_list(reviews: impl IntoIterator<Item = (Review, i64)>) -> String {
    let row = |(review, other): (Review, i64)| serde_json::json!([review.id1, review.id2, review.due, other]);
    serde_json::Value::from_iter(reviews.into_iter().map(row)).to_string()
}

/// Reviews of a kind as the JSON list that `queue_list!` reads, each with when it is to be due next. (The kind is in each row:
/// as a parameter of its own it would have the database look through all that is queued of it.)
pub(super) fn queue_list(kind: Kind, reviews: impl IntoIterator<Item = (Review, i64)>) -> String {
    let row =
        |(review, later): (Review, i64)| serde_json::json!([kind as i64, review.id1, review.id2, review.due, later]);
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
        if !self.ended.is_empty() {
            drop_reviews(connection, self.kind, &self.ended).await?;
        }
        if !self.postponed.is_empty() {
            let postponed = self.postponed.iter().map(|(review, until)| (*review, stored_time(*until)));
            let list = queue_list(self.kind, postponed);
            sqlx::query(POSTPONE).bind(list).execute(connection).await?;
        }
        Ok(())
    }
}

/// Ends reviews for good, in the transaction of what they came to.
pub(super) async fn drop_reviews(connection: &mut Connection, kind: Kind, ended: &[Review]) -> Result<()> {
    let list = queue_list(kind, ended.iter().map(|review| (*review, 0)));
    sqlx::query(DROP_REVIEWS).bind(list).execute(connection).await?;
    Ok(())
}

impl Store {
    /// A page of reviews, by one of the statements that read from `queued!`.
    pub(super) async fn review<F: FoundRow>(&self, due: &'static str, page: ReviewPage) -> Result<Reviewed<F::Facts>> {
        let told: Result<Vec<ReviewRow<F>>> = read!(self.connections, connection => {
            let asked = sqlx::query_as(due)
                .bind((!page.only_due).then_some(i64::MAX))
                .bind(page.after.due)
                .bind(page.after.id1)
                .bind(page.after.id2)
                .bind(i64::from(page.limit));
            Ok(asked.fetch_all(connection).await?)
        });
        let rows = told?;
        let now = time(rows.first().map_or(0, |row| row.now))?;
        let found = rows.into_iter().map(|row| {
            let review = Review { id1: row.id1, id2: row.id2, due: row.review_after };
            Ok((review, row.found.facts()?))
        });
        Ok(Reviewed { now, found: found.collect::<Result<_>>()? })
    }

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
