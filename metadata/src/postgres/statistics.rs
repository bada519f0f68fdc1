//! What the planner knows of our tables: how large they are, and what tells their rows apart.
//!
//! Its own job (autovacuum) looks once a minute, and may be turned off. A registry that is being filled, or whose queue of
//! garbage collection was empty until a moment ago, is another one after a minute: until then each statement would be planned for
//! tables that are nearly empty, where every index is as good as any other. So each process looks more often, and has a table analyzed
//! once it has doubled. That also ends the plans that connections keep. See docs/adr/0020.

use super::connections::Connections;
use crate::Result;
use std::time::Duration;
use tokio::{
    task::AbortHandle,
    time::{Instant, MissedTickBehavior},
};

/// How often is looked. A table of a registry that is pushed to as fast as it can grows by some megabytes meanwhile.
const EVERY: Duration = Duration::from_secs(2);

statements! {
    // In pages: `relpages` is what the last ANALYZE or VACUUM has seen, the file's length what there is now. Few pages are
    // read soon, however they are read. In rows: one that was emptied, or analyzed before a large transaction ended, has the
    // same pages. Who does not own a table cannot have it analyzed, and somebody may be at it: either would be a warning each time.
    GROWN = "SELECT c.relname FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid \
        WHERE n.nspname = current_schema() AND c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE') \
        AND (pg_relation_size(c.oid) / current_setting('block_size')::bigint >= 2 * c.relpages::bigint + 8 \
            OR pg_stat_get_live_tuples(c.oid) >= 2 * GREATEST(c.reltuples, 0) + 1000) \
        AND (SELECT count(*) FROM pg_locks l WHERE l.relation = c.oid AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', \
            'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) = 0 ORDER BY c.relname";
}

/// The task that looks, which ends with this.
#[derive(Debug)]
pub(super) struct Statistics(AbortHandle);

impl Statistics {
    pub(super) fn start(connections: Connections) -> Self {
        let task = async move {
            let mut ticks = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = analyze_grown(&connections).await {
                    tracing::debug!(%error, "what the planner knows of the tables could not be brought up to date");
                }
            }
        };
        Self(tokio::spawn(task).abort_handle())
    }

    pub(super) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Has those tables analyzed that have doubled since they were; answers which.
pub(super) async fn analyze_grown(connections: &Connections) -> Result<Vec<String>> {
    let mut connection = connections.acquire().await?;
    let grown: Vec<(String,)> = sqlx::query_as(GROWN).fetch_all(&mut *connection).await?;
    let mut analyzed = Vec::new();
    for (table,) in grown {
        // One transaction, as several statements in one text are. The name is one of ours, from the catalog.
        let analyze =
            format!("SET LOCAL statement_timeout = 0; ANALYZE (SKIP_LOCKED) \"{}\"", table.replace('"', "\"\""));
        match sqlx::raw_sql(sqlx::AssertSqlSafe(analyze)).execute(&mut *connection).await {
            Ok(_) => {
                tracing::debug!(table, "a table has grown: the planner knows it now");
                analyzed.push(table);
            }
            Err(error) => tracing::debug!(table, %error, "a table that has grown could not be analyzed"),
        }
    }
    Ok(analyzed)
}
