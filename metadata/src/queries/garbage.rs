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

/// How many may be deleted yet, by all replicas together. Whoever has it holds the row of the state until its transaction
/// ends, and took no row before that: a batch that waits for another's has looked at nothing that is old when its turn comes,
/// and no client waits with it for a row.
pub(super) struct Budget {
    counted: Counted,
    breaker: Breaker,
    /// So many were deleted before, in this window.
    deleted: i64,
    /// How many there are; none where as many may go as are asked for.
    all: Option<i64>,
}

impl Budget {
    /// Waits for its turn to delete so many at most; none where collection was stopped. Counts them all here where that is
    /// needed, while nobody's rows are held.
    pub(super) async fn hold(
        connection: &mut Connection,
        counted: Counted,
        breaker: Breaker,
        most: usize,
    ) -> Result<Option<Self>> {
        let mut state: LockedState = sqlx::query_as(LOCK).fetch_one(&mut *connection).await?;
        if state.stopped_why.is_some() {
            return Ok(None);
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
        let (counted_before, deleted) = counted.of(&state);
        let is_limited = state.is_allowed == 0 && breaker.percent < 100 && is_many(with(deleted, most), breaker);
        let all = match counted_before {
            _ if !is_limited => None,
            Some(all) => Some(all),
            None => Some(sqlx::query_scalar(counted.statements().0).fetch_one(connection).await?),
        };
        Ok(Some(Self { counted, breaker, deleted, all }))
    }

    /// Whether so many more may be deleted; where they would be too many, collection is stopped from now on.
    pub(super) async fn spend(self, connection: &mut Connection, count: usize) -> Result<bool> {
        let Self { counted, breaker, deleted, all } = self;
        let deleted = with(deleted, count);
        let is_too_much = |all: &i64| deleted.saturating_mul(100) > all.saturating_mul(breaker.percent.into());
        if let Some(all) = all.filter(|all| is_many(deleted, breaker) && is_too_much(all)) {
            let why = counted.why(deleted, all, breaker.percent);
            sqlx::query(STOP).bind(why).execute(connection).await?;
            return Ok(false);
        }
        let (_, add) = counted.statements();
        sqlx::query(add).bind(with(0, count)).execute(connection).await?;
        Ok(true)
    }
}

fn with(deleted: i64, more: usize) -> i64 {
    deleted.saturating_add(i64::try_from(more).unwrap_or(i64::MAX))
}

/// Fewer are never too many.
fn is_many(deleted: i64, breaker: Breaker) -> bool {
    u64::try_from(deleted).unwrap_or_default() > breaker.floor
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
