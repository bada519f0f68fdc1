//! What garbage collection asks of the database: small idempotent steps that any replica may run at any time.

use super::blobs::size;
use super::dialect::{skip_locked, text_list};
use super::parts::SessionObjects;
use super::repositories::microseconds;
use super::reviews::time;
use super::uploads::end_session;
use super::{Batch, Connection, Store, Transaction, read};
use crate::{ExpiredUploads, Result, Tombstone, WaitingBytes};
use std::time::Duration;

statements! {
    EXPIRED = concat!("SELECT id, object_id, tail_id, next_tail_id, backend_upload FROM uploads WHERE expires_at <= (SELECT now FROM clock) \
        ORDER BY expires_at LIMIT $1", skip_locked!());
    DUE = concat!("SELECT key, size, backend_upload FROM tombstones WHERE not_before <= (SELECT now FROM clock) \
        AND claimed_until <= (SELECT now FROM clock) ORDER BY not_before LIMIT $1", skip_locked!());
    HOLD = concat!("UPDATE tombstones SET attempts = attempts + 1, claimed_until = (SELECT now FROM clock) + $2 \
        WHERE key IN ", text_list!("$1"));
    DROP = concat!("DELETE FROM tombstones WHERE key IN ", text_list!("$1"));
    WAITING = "SELECT count(*), CAST(COALESCE(SUM(size), 0) AS BIGINT), MIN(not_before) FROM tombstones \
        WHERE not_before >= 0";
}

#[derive(sqlx::FromRow)]
struct ExpiredSession {
    id: String,
    #[sqlx(flatten)]
    objects: SessionObjects,
}

struct Expire {
    limit: u32,
}

impl Transaction for Expire {
    type Output = ExpiredUploads;

    async fn run(&self, connection: &mut Connection) -> Result<ExpiredUploads> {
        let expired: Vec<ExpiredSession> =
            sqlx::query_as(EXPIRED).bind(i64::from(self.limit)).fetch_all(&mut *connection).await?;
        for ExpiredSession { id, objects } in &expired {
            let mut batch = Batch::default();
            end_session(&mut batch, id, objects, "the upload expired");
            batch.execute(connection).await?;
        }
        Ok(ExpiredUploads { sessions: expired.len() as u64 })
    }
}

struct ClaimTombstones {
    limit: u32,
    hold: Duration,
}

impl Transaction for ClaimTombstones {
    type Output = Vec<Tombstone>;

    async fn run(&self, connection: &mut Connection) -> Result<Vec<Tombstone>> {
        let due: Vec<(String, i64, Option<String>)> =
            sqlx::query_as(DUE).bind(i64::from(self.limit)).fetch_all(&mut *connection).await?;
        if !due.is_empty() {
            let keys = serde_json::Value::from_iter(due.iter().map(|(key, ..)| key.as_str()));
            sqlx::query(HOLD).bind(keys.to_string()).bind(microseconds(self.hold)).execute(connection).await?;
        }
        due.into_iter().map(|(key, stored, multipart)| Ok(Tombstone { key, size: size(stored)?, multipart })).collect()
    }
}

struct DropTombstones {
    keys: Vec<String>,
}

impl Transaction for DropTombstones {
    type Output = ();

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        let keys = serde_json::Value::from_iter(self.keys.iter().map(String::as_str));
        sqlx::query(DROP).bind(keys.to_string()).execute(connection).await?;
        Ok(())
    }
}

impl Store {
    pub(crate) async fn expire_uploads(&self, limit: u32) -> Result<ExpiredUploads> {
        self.write(Expire { limit }).await
    }

    pub(crate) async fn claim_tombstones(&self, limit: u32, hold: Duration) -> Result<Vec<Tombstone>> {
        self.write(ClaimTombstones { limit, hold }).await
    }

    pub(crate) async fn waiting_bytes(&self) -> Result<WaitingBytes> {
        let told: Result<(i64, i64, Option<i64>)> =
            read!(self.connections, connection => Ok(sqlx::query_as(WAITING).fetch_one(connection).await?));
        let (count, stored, first) = told?;
        Ok(WaitingBytes { count: size(count)?, bytes: size(stored)?, first: first.map(time).transpose()? })
    }

    pub(crate) async fn drop_tombstones(&self, keys: Vec<String>) -> Result<()> {
        self.write(DropTombstones { keys }).await
    }
}
