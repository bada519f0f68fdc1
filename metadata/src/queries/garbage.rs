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
    RESUME = "UPDATE gc_state SET window_began = (SELECT now FROM clock), deleted = 0, tags_deleted = 0, \
        manifests_deleted = 0, is_allowed = 1, stopped_at = NULL, stopped_why = NULL, \
        seen_at = (SELECT now FROM clock), resume_at = 0 WHERE id = 1";
    LOCK = concat!("SELECT c.now, s.window_began, s.blobs, s.deleted, s.tags, s.tags_deleted, s.manifests, \
        s.manifests_deleted, s.is_allowed, s.stopped_why FROM gc_state s CROSS JOIN clock c WHERE s.id = 1", for_update_of!("s"));
    NEW_WINDOW = "UPDATE gc_state SET window_began = (SELECT now FROM clock), blobs = NULL, deleted = 0, \
        tags = NULL, tags_deleted = 0, manifests = NULL, manifests_deleted = 0, is_allowed = 0 WHERE id = 1";
    COUNT_BLOBS = "UPDATE gc_state SET blobs = deleted + (SELECT count(*) FROM blobs) WHERE id = 1 RETURNING blobs";
    COUNT_TAGS = "UPDATE gc_state SET tags = tags_deleted + (SELECT count(*) FROM tags) WHERE id = 1 RETURNING tags";
    COUNT_MANIFESTS = "UPDATE gc_state SET manifests = manifests_deleted + (SELECT count(*) FROM manifests) WHERE id = 1 \
        RETURNING manifests";
    BLOBS_DELETED = "UPDATE gc_state SET deleted = deleted + $1 WHERE id = 1";
    TAGS_DELETED = "UPDATE gc_state SET tags_deleted = tags_deleted + $1 WHERE id = 1";
    MANIFESTS_DELETED = "UPDATE gc_state SET manifests_deleted = manifests_deleted + $1 WHERE id = 1";
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
    tags: Option<i64>,
    tags_deleted: i64,
    manifests: Option<i64>,
    manifests_deleted: i64,
    is_allowed: i64,
    stopped_why: Option<String>,
}

/// What only so many of may be deleted in a day.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counted {
    /// That no repository holds.
    Blobs,
    /// By a rule.
    Tags,
    /// That nothing keeps.
    Manifests,
}

impl Counted {
    /// How many there were, as far as anybody has counted, and how many of them were deleted since.
    fn of(self, state: &LockedState) -> (Option<i64>, i64) {
        match self {
            Self::Blobs => (state.blobs, state.deleted),
            Self::Tags => (state.tags, state.tags_deleted),
            Self::Manifests => (state.manifests, state.manifests_deleted),
        }
    }

    fn statements(self) -> (&'static str, &'static str) {
        match self {
            Self::Blobs => (COUNT_BLOBS, BLOBS_DELETED),
            Self::Tags => (COUNT_TAGS, TAGS_DELETED),
            Self::Manifests => (COUNT_MANIFESTS, MANIFESTS_DELETED),
        }
    }

    fn why(self, deleted: i64, all: i64, percent: u8) -> String {
        let (who, what) = match self {
            Self::Blobs => ("it", "blobs"),
            Self::Tags => ("the rules of retention", "tags"),
            Self::Manifests => ("it", "manifests"),
        };
        format!("{who} would have deleted {deleted} of {all} {what} within a day, more than {percent} %")
    }
}

/// Whether so many more may be deleted; where they would be too many, collection is stopped from now on. Deletes wait for
/// each other here: there is one budget for all replicas.
pub(super) async fn allow(connection: &mut Connection, counted: Counted, breaker: Breaker, count: u64) -> Result<bool> {
    let mut state: LockedState = sqlx::query_as(LOCK).fetch_one(&mut *connection).await?;
    if state.stopped_why.is_some() {
        return Ok(false);
    }
    if state.now - state.window_began >= microseconds(WINDOW) || state.now < state.window_began {
        sqlx::query(NEW_WINDOW).execute(&mut *connection).await?;
        state = LockedState {
            blobs: None,
            deleted: 0,
            tags: None,
            tags_deleted: 0,
            manifests: None,
            manifests_deleted: 0,
            is_allowed: 0,
            ..state
        };
    }
    let (counted_before, deleted_before) = counted.of(&state);
    let (count_all, add) = counted.statements();
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let deleted = deleted_before.saturating_add(count);
    let is_many = u64::try_from(deleted).unwrap_or_default() > breaker.floor && breaker.percent < 100;
    if is_many && state.is_allowed == 0 {
        let all = match counted_before {
            Some(all) => all,
            None => sqlx::query_scalar(count_all).fetch_one(&mut *connection).await?,
        };
        if deleted.saturating_mul(100) > all.saturating_mul(breaker.percent.into()) {
            let why = counted.why(deleted, all, breaker.percent);
            sqlx::query(STOP).bind(why).execute(connection).await?;
            return Ok(false);
        }
    }
    sqlx::query(add).bind(count).execute(connection).await?;
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
