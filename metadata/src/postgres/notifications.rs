//! Hearing of what other replicas change, so that what was read before may be answered from memory.
//!
//! Triggers notify in the transaction that changes something; one task of this process listens on a connection of its
//! own. The cache is open only while that is known to work:
//!
//! - At the beginning we listen first, then send ourselves a notification by another connection, as any replica would,
//!   and wait for it. It does not come where a pooler shares connections between transactions, and cannot be sent before
//!   the migration that brings the triggers. Then the cache opens anew: what was committed before we listened is seen by
//!   every query from now on, and what is committed after it is notified.
//! - Each second the same connection has to answer, within two. An answer keeps the cache open for three seconds from
//!   when it was asked for: so a connection that died without a word, or a task that is stuck, ends it by itself.
//! - Whatever goes wrong closes the cache at once, and all begins again on a new connection. So does a task that was
//!   stuck for those three seconds, although its connection may be well: others may have stopped to wait for its answers,
//!   and a new connection is one that they know nothing of (`roll.rs`).
//!
//! The same task asks the others whether they have heard, for writers that want to know (`hearing.rs`).

use super::connections::{Connections, be_missed, read};
use super::hearing::{LISTENER, Questions};
use crate::Error;
use crate::cache::{Cache, Change};
use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use sqlx::{Executor as _, error::DatabaseError};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, error::Elapsed, sleep, sleep_until, timeout};

/// Migration 0002 notifies here.
const CHANNEL: &str = "longshore_changed";
/// How often the connection is asked whether it is there.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the cache is open after a sign of life was asked for: the bound of staleness.
pub(super) const OPEN: Duration = Duration::from_secs(3);
/// How long each step may take at the beginning, when nothing is at stake: a notification of our own among them.
pub(super) const BEGINNING: Duration = Duration::from_secs(5);
/// How long to wait before it is tried again: what failed for a moment, and what will hardly change.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_LATER: Duration = Duration::from_secs(60);
/// Begins a notification that is a test of somebody's own, and no change: no name begins like that.
const TEST: char = '?';
/// Postgres's SQLSTATE for a function that is not there.
const UNDEFINED_FUNCTION: &str = "42883";

statements! {
    ANNOUNCE = "SELECT announce($1)";
    HEARTBEAT_QUERY = "SELECT 1";
}

/// The task that listens, which ends with this.
#[derive(Debug)]
pub(super) struct Listener(AbortHandle);

impl Listener {
    /// Begins to listen. `others` are where test notifications are sent, as writes are.
    pub(super) fn start(others: Connections, address: PgConnectOptions, cache: Cache, questions: Questions) -> Self {
        Self(tokio::spawn(listen_forever(others, address, cache, questions)).abort_handle())
    }

    pub(super) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Why we hear nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Deaf {
    #[error("{0}")]
    Connection(Arc<sqlx::Error>),
    #[error("{0}")]
    Database(#[from] Error),
    #[error("the connection was lost")]
    Lost,
    #[error("no answer came in time")]
    Silent(#[from] Elapsed),
    #[error("it was not asked in time whether the connection lives: the machine is overloaded, or was halted")]
    Late,
    #[error("the schema has no notifications yet")]
    NoTriggers,
    #[error("a notification that was sent did not arrive")]
    NotDelivered,
}

impl From<sqlx::Error> for Deaf {
    fn from(error: sqlx::Error) -> Self {
        Self::Connection(Arc::new(error))
    }
}

impl Deaf {
    fn retry_after(&self) -> Duration {
        if matches!(self, Self::NotDelivered) { RETRY_LATER } else { RETRY }
    }
}

async fn listen_forever(others: Connections, address: PgConnectOptions, cache: Cache, mut questions: Questions) {
    let mut has_warned = false;
    loop {
        let Err(deaf) = listen(&others, &address, &cache, &mut questions, &mut has_warned).await;
        cache.close();
        questions.release_all();
        match &deaf {
            Deaf::NoTriggers => tracing::debug!("no cache yet: {deaf}"),
            _ if has_warned => tracing::debug!("still no cache: {deaf}"),
            Deaf::NotDelivered => tracing::warn!(
                "manifests, tags and small blobs are read from the database at each request: it does not deliver \
                 notifications, as behind a pooler that shares connections between transactions; connect to it \
                 directly, or set database.cache_size to 0"
            ),
            _ => tracing::warn!("other replicas' changes are not heard of, so nothing is answered from memory: {deaf}"),
        }
        has_warned |= !matches!(deaf, Deaf::NoTriggers);
        sleep(deaf.retry_after()).await;
    }
}

/// Opens the cache and keeps it open. Ends only with the reason why it can no longer.
async fn listen(
    others: &Connections,
    address: &PgConnectOptions,
    cache: &Cache,
    questions: &mut Questions,
    has_warned: &mut bool,
) -> Result<std::convert::Infallible, Deaf> {
    let connecting = Instant::now();
    let mut listener = timeout(BEGINNING, connect(address)).await??;
    let began = Instant::now();
    if began - connecting >= BEGINNING {
        return Err(Deaf::Late);
    }
    hear_ourselves(&mut listener, others, questions).await?;
    cache.open_for(OPEN.saturating_sub(began.elapsed()));
    if std::mem::take(has_warned) {
        tracing::info!("other replicas' changes are heard of again");
    }
    let mut beat = began;
    loop {
        tokio::select! {
            received = listener.try_recv() => {
                if let Some(said) = take(cache, received?.ok_or(Deaf::Lost)?) {
                    timeout(PATIENCE, questions.take(&mut listener, &said)).await??;
                }
            }
            writer = questions.next() => timeout(PATIENCE, questions.ask(&mut listener, writer)).await??,
            () = sleep_until(beat + HEARTBEAT) => {}
        }
        if beat.elapsed() >= HEARTBEAT {
            beat = prove_alive(&mut listener, cache, questions, beat).await?;
        }
    }
}

/// A connection outside the pool, that is never given up for its age; listening when this returns.
pub(super) async fn connect(address: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let own = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let address = address.clone().application_name(LISTENER);
    let own = own.acquire_timeout(BEGINNING).after_connect(|connection, _| Box::pin(be_missed(connection)));
    let own = own.connect_with(address).await?;
    let mut listener = PgListener::connect_with(&own).await?;
    // When it is lost, we want to know.
    listener.eager_reconnect(false);
    listener.ignore_pool_close_event(true);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Sends a notification as a write does, and waits until it is here. Nobody has to wait for us meanwhile: nothing is in
/// memory yet.
async fn hear_ourselves(
    listener: &mut PgListener,
    others: &Connections,
    questions: &mut Questions,
) -> Result<(), Deaf> {
    let ours = format!("{TEST}{}", uuid::Uuid::new_v4());
    timeout(BEGINNING, announce(others, &ours)).await??;
    let heard = async {
        while let Some(notification) = listener.try_recv().await? {
            if notification.payload() == ours {
                return Ok(());
            }
            questions.take(listener, &notification).await?;
        }
        Err(Deaf::Lost)
    };
    timeout(BEGINNING, heard).await.unwrap_or(Err(Deaf::NotDelivered))
}

async fn announce(others: &Connections, payload: &str) -> Result<(), Deaf> {
    let sent: crate::Result<()> = async {
        read!(others, connection => {
            sqlx::query(ANNOUNCE).bind(payload).execute(connection).await?;
            Ok(())
        })
    }
    .await;
    match sent {
        Err(Error::Statement(error)) if is_undefined_function(&error) => Err(Deaf::NoTriggers),
        Err(Error::Statement(error) | Error::Unavailable(error)) => Err(Deaf::Connection(error)),
        other => Ok(other?),
    }
}

fn is_undefined_function(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).as_deref() == Some(UNDEFINED_FUNCTION)
}

/// Asks for a sign of life, as it was asked for at `last` before, and keeps the cache open from when it is asked for. What
/// the connection has brought until then is taken first.
pub(super) async fn prove_alive(
    listener: &mut PgListener,
    cache: &Cache,
    questions: &mut Questions,
    last: Instant,
) -> Result<Instant, Deaf> {
    let asked = Instant::now();
    if asked - last >= OPEN {
        return Err(Deaf::Late);
    }
    timeout(PATIENCE, (&mut *listener).execute(HEARTBEAT_QUERY)).await??;
    let mut put_off = Vec::new();
    while let Some(notification) = listener.next_buffered() {
        put_off.extend(take(cache, notification));
    }
    cache.stay_open_for(OPEN.saturating_sub(asked.elapsed()));
    for said in put_off {
        timeout(PATIENCE, questions.take(listener, &said)).await??;
    }
    questions.tidy(asked);
    Ok(asked)
}

/// Takes a change; answers what is none.
fn take(cache: &Cache, notification: PgNotification) -> Option<PgNotification> {
    if notification.payload().starts_with(TEST) {
        return Some(notification);
    }
    cache.changed(&Change::from_notification(notification.payload()));
    None
}
