//! What all replicas know of garbage collection: whether it waits or was stopped, and how much it has deleted of late.

use super::dialect::for_update_of;
use super::repositories::microseconds;
use super::reviews::time;
use super::{Connection, Store, Transaction, read};
use crate::{Breaker, CollectionState, Result};
use std::time::Duration;

statements! {
    STATE = "SELECT c.now, s.seen_at, s.resume_at, l.promise, s.stopped_why \
        FROM clock c CROSS JOIN lifetimes l CROSS JOIN gc_state s WHERE s.id = 1";
    SEEN = "UPDATE gc_state SET seen_at = (SELECT now FROM clock) WHERE id = 1";
    HOLD = "UPDATE gc_state SET seen_at = (SELECT now FROM clock), \
        resume_at = (SELECT c.now + l.promise FROM clock c CROSS JOIN lifetimes l) WHERE id = 1";
    RESUME = "UPDATE gc_state SET window_began = (SELECT now FROM clock), deleted = 0, is_allowed = 1, \
        stopped_at = NULL, stopped_why = NULL, seen_at = (SELECT now FROM clock), resume_at = 0 WHERE id = 1";
    LOCK = concat!("SELECT c.now, s.window_began, s.blobs, s.deleted, s.is_allowed, s.stopped_why \
        FROM gc_state s CROSS JOIN clock c WHERE s.id = 1", for_update_of!("s"));
    NEW_WINDOW = "UPDATE gc_state SET window_began = (SELECT now FROM clock), blobs = NULL, deleted = 0, is_allowed = 0 \
        WHERE id = 1";
    COUNT = "UPDATE gc_state SET blobs = deleted + (SELECT count(*) FROM blobs) WHERE id = 1 RETURNING blobs";
    DELETED = "UPDATE gc_state SET deleted = deleted + $1 WHERE id = 1";
    STOP = "UPDATE gc_state SET stopped_at = (SELECT now FROM clock), stopped_why = $1 WHERE id = 1";
}

/// A clock that goes back, or on by more than nobody has looked at it for, by so much was moved.
const MOVED: Duration = Duration::from_secs(15 * 60);
/// It is looked at this often at least.
const LOOKED_AT: Duration = Duration::from_secs(60);
/// In so much time the share counts that may be deleted.
const WINDOW: Duration = Duration::from_secs(24 * 3600);

#[derive(sqlx::FromRow)]
struct LockedState {
    now: i64,
    window_began: i64,
    blobs: Option<i64>,
    deleted: i64,
    is_allowed: i64,
    stopped_why: Option<String>,
}

/// Whether so many more blobs may be deleted; where they would be too many, collection is stopped from now on. Deletes of
/// blobs wait for each other here: there is one budget for all replicas.
pub(super) async fn allow(connection: &mut Connection, breaker: Breaker, count: u64) -> Result<bool> {
    let mut state: LockedState = sqlx::query_as(LOCK).fetch_one(&mut *connection).await?;
    if state.stopped_why.is_some() {
        return Ok(false);
    }
    if state.now - state.window_began >= microseconds(WINDOW) || state.now < state.window_began {
        sqlx::query(NEW_WINDOW).execute(&mut *connection).await?;
        state = LockedState { blobs: None, deleted: 0, is_allowed: 0, ..state };
    }
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let deleted = state.deleted.saturating_add(count);
    let is_many = u64::try_from(deleted).unwrap_or_default() > breaker.floor && breaker.percent < 100;
    if is_many && state.is_allowed == 0 {
        let blobs = match state.blobs {
            Some(blobs) => blobs,
            None => sqlx::query_scalar(COUNT).fetch_one(&mut *connection).await?,
        };
        if deleted.saturating_mul(100) > blobs.saturating_mul(breaker.percent.into()) {
            let why = format!(
                "it would have deleted {deleted} of {blobs} blobs within a day, more than {} %",
                breaker.percent
            );
            sqlx::query(STOP).bind(why).execute(connection).await?;
            return Ok(false);
        }
    }
    sqlx::query(DELETED).bind(count).execute(connection).await?;
    Ok(true)
}

type StateRow = (i64, i64, i64, i64, Option<String>);

fn state(now: i64, resume_at: i64, stopped: Option<String>) -> Result<CollectionState> {
    let waits_until = (resume_at > now).then(|| time(resume_at)).transpose()?;
    Ok(CollectionState { now: time(now)?, waits_until, stopped })
}

struct Write(&'static str);

impl Transaction for Write {
    type Output = ();

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        sqlx::query(self.0).execute(connection).await?;
        Ok(())
    }
}

impl Store {
    async fn read_state(&self) -> Result<StateRow> {
        read!(self.connections, connection => Ok(sqlx::query_as(STATE).fetch_one(connection).await?))
    }

    pub(crate) async fn collection_state(&self) -> Result<CollectionState> {
        let (now, _, resume_at, _, stopped) = self.read_state().await?;
        state(now, resume_at, stopped)
    }

    pub(crate) async fn begin_collection(&self) -> Result<CollectionState> {
        let (now, seen_at, resume_at, promise, stopped) = self.read_state().await?;
        let unseen = now - seen_at;
        if unseen < -microseconds(MOVED) || unseen > promise.max(microseconds(MOVED)) {
            self.write(Write(HOLD)).await?;
            return state(now, now + promise, stopped);
        }
        if unseen.abs() >= microseconds(LOOKED_AT) {
            self.write(Write(SEEN)).await?;
        }
        state(now, resume_at, stopped)
    }

    pub(crate) async fn hold_collection(&self) -> Result<()> {
        self.write(Write(HOLD)).await
    }

    pub(crate) async fn resume_collection(&self) -> Result<()> {
        self.write(Write(RESUME)).await
    }
}
