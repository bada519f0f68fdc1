//! The pool of connections, and what is done again where one of them was lost.
//!
//! A restart of the server, an operator's `pg_terminate_backend` or a firewall takes many connections at once, and each is
//! found out only by who uses it next. So whoever finds one out makes all suspect that were idle at that moment: they are
//! asked whether they live before they are used. And what was to be done is done on another connection, where it is
//! certain that it can be done again.

use super::Connection;
use crate::{ConnectOptions, Error, Result};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgPool, Postgres, pool::PoolConnection};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Leaves the stronger settings (`remote_apply`) as they are.
const BE_DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// Every statement finds its rows by an index, however many there are. The planner cannot know that of a database that
/// was empty when it planned: it would read whole tables until their statistics are made, and for ever where a plan is
/// kept. So it is not left to choose, and need not plan again for each request. Nor is there anything to compile (`jit`):
/// a scan that is forbidden and has no alternative looks dear enough for that, and takes half a second. Pages cost next to
/// nothing, so that rows count: else one row found by two columns is as dear as the few that most repositories have, found by
/// the repository alone, and the repository may be a large one. See ADRs 0011 and 0020.
const PLAN_BY_INDEX: &str = "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), \
    set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false), \
    set_config('enable_mergejoin', 'off', false), set_config('jit', 'off', false), \
    set_config('seq_page_cost', '0.01', false), set_config('random_page_cost', '0.01', false)";

/// A host that dies says no goodbye. The server notices after half a minute, in place of hours, and gives up what the
/// connection holds: locks on rows, and a place among those that listen. (Over a Unix socket it knows at once.)
const MISS_THE_DEAD: &str = "SELECT set_config('tcp_keepalives_idle', '10', false), \
    set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '4', false), \
    set_config('tcp_user_timeout', '30000', false)";

/// A connection that was idle for so long is asked whether it lives before it is used.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How many lost connections one read or write puts up with.
const MAX_LOST: u32 = 2;

/// Runs what can be run twice, on one of the connections, and again where that was lost. (A function would take a
/// closure whose future borrows the connection, and nobody could tell that such a future may move between threads.)
macro_rules! read {
    ($connections:expr, $connection:ident => $query:expr) => {{
        let mut patience = $connections.patience();
        loop {
            let attempt = async {
                let mut held = $connections.acquire().await?;
                let $connection = &mut *held;
                $query
            };
            match attempt.await {
                Err(error) if patience.bears(&error) => {}
                outcome => break outcome,
            }
        }
    }};
}

pub(super) use read;

/// The pool. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    pub(super) pool: PgPool,
    losses: Arc<Losses>,
}

impl Connections {
    /// Opens the first of them.
    pub(super) async fn open(options: &ConnectOptions, address: PgConnectOptions) -> Result<Self> {
        let losses = Arc::new(Losses::none());
        let known = losses.clone();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .after_connect(|connection, _| Box::pin(set_up(connection)))
            .test_before_acquire(false)
            .before_acquire(move |connection, metadata| {
                let is_trusted = metadata.idle_for < known.trusted_for();
                Box::pin(is_alive(connection, is_trusted))
            })
            .connect_with(address)
            .await
            .map_err(Error::unavailable)?;
        Ok(Self { pool, losses })
    }

    /// One of them, when there is one.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>> {
        Ok(self.pool.acquire().await?)
    }

    /// For one read or write.
    pub(super) fn patience(&self) -> Patience<'_> {
        Patience { losses: &self.losses, lost: 0 }
    }
}

/// How many connections one read or write has lost.
pub(super) struct Patience<'a> {
    losses: &'a Losses,
    lost: u32,
}

impl Patience<'_> {
    /// Whether the error is the loss of a connection, and another one is worth a try.
    pub(super) fn bears(&mut self, error: &Error) -> bool {
        if !is_loss(error) {
            return false;
        }
        self.losses.note();
        self.lost += 1;
        tracing::debug!(%error, lost = self.lost, "a connection to the database was lost");
        self.lost <= MAX_LOST
    }
}

/// A connection is lost where nothing comes of it, and where the server says that it ends it (SQLSTATE class 57P) or that
/// it is none (class 08).
fn is_loss(error: &Error) -> bool {
    match error {
        Error::Unavailable(cause) => match &**cause {
            sqlx::Error::Io(_) => true,
            sqlx::Error::Database(database) => {
                database.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
            }
            _ => false,
        },
        _ => false,
    }
}

/// When a connection was last found to be lost.
#[derive(Debug)]
struct Losses {
    start: Instant,
    /// In nanoseconds since `start`; 0 where there was none.
    last: AtomicU64,
}

impl Losses {
    fn none() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0) }
    }

    fn note(&self) {
        self.last.fetch_max(self.now(), Relaxed);
    }

    /// For how long a connection may have been idle to be used without a question: not since before the last loss.
    fn trusted_for(&self) -> Duration {
        match self.last.load(Relaxed) {
            0 => TRUSTED_FOR,
            last => TRUSTED_FOR.min(Duration::from_nanos(self.now().saturating_sub(last))),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// An answer is given only for what is on the disk, whatever the server's own default is; and how rows are found is not
/// left to what the server happens to know of them.
pub(super) async fn set_up(connection: &mut Connection) -> sqlx::Result<()> {
    sqlx::query(BE_DURABLE).execute(&mut *connection).await?;
    sqlx::query(PLAN_BY_INDEX).execute(&mut *connection).await?;
    be_missed(connection).await
}

/// Lets the server notice soon when this host has died.
pub(super) async fn be_missed(connection: &mut Connection) -> sqlx::Result<()> {
    sqlx::query(MISS_THE_DEAD).execute(connection).await?;
    Ok(())
}

/// Whether a connection of the pool can be used. One that was used a moment ago is not asked: that would be one more
/// round trip for each request.
async fn is_alive(connection: &mut Connection, is_trusted: bool) -> sqlx::Result<bool> {
    if !is_trusted {
        connection.ping().await?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_idle_when_a_connection_was_lost_is_not_trusted() {
        let losses = Losses::none();
        assert_eq!(losses.trusted_for(), TRUSTED_FOR);
        let idle_since = Instant::now();
        losses.note();
        assert!(losses.trusted_for() <= idle_since.elapsed());
        losses.last.store(1, Relaxed);
        let long_ago = Losses { start: losses.start.checked_sub(TRUSTED_FOR).unwrap(), ..losses };
        assert_eq!(long_ago.trusted_for(), TRUSTED_FOR, "whatever is trusted now was used after it");
    }

    #[test]
    fn losses_are_told_from_other_errors() {
        let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_loss(&Error::from(sqlx::Error::Io(broken()))));
        for other in [sqlx::Error::PoolTimedOut, sqlx::Error::PoolClosed, sqlx::Error::RowNotFound] {
            assert!(!is_loss(&Error::from(other)));
        }
    }
}
