//! How far the reading of all objects has come. One process does it at a time; what it has read is saved, so that the next
//! one goes on from there.

use super::blobs::{digest, size, stored_size};
use super::dialect::review_list;
use super::repositories::microseconds;
use super::reviews::{id_list, time};
use super::{Connection, Store, Transaction, read};
use crate::{Durability, InRows, Result, RowsRead, ScrubClaim, Scrubbed, StoredObject};
use std::time::Duration;

statements! {
    CLAIM = "UPDATE scrub_state SET claim = claim + 1, claimed_until = (SELECT now FROM clock) + $1 \
        WHERE id = 1 AND claimed_until <= (SELECT now FROM clock) \
        RETURNING claim, last_id, total_bytes, done_bytes, rows_stage, rows_id1, rows_id2, \
        began_at, finished_at, (SELECT now FROM clock) AS now";
    TAKE = "UPDATE scrub_state SET claim = claim + 1, claimed_until = (SELECT now FROM clock) + $1 WHERE id = 1 \
        RETURNING claim, last_id, total_bytes, done_bytes, rows_stage, rows_id1, rows_id2, \
        began_at, finished_at, (SELECT now FROM clock) AS now";
    SIZES = "SELECT count(*), CAST(COALESCE(SUM(p.size), 0) AS BIGINT), MAX(p.id) \
        FROM (SELECT id, size FROM objects WHERE id > $1 ORDER BY id LIMIT $2) p";
    BEGIN = "UPDATE scrub_state SET last_id = 0, total_bytes = $2, done_bytes = 0, rows_stage = 0, rows_id1 = 0, rows_id2 = 0, \
        began_at = (SELECT now FROM clock), finished_at = NULL WHERE id = 1 AND claim = $1";
    OBJECTS = "SELECT o.id, b.id AS blob_id, o.key, o.size, b.digest, \
        (SELECT d.found_at FROM damaged_blobs d WHERE d.blob_id = b.id) AS damaged_at \
        FROM objects o JOIN blobs b ON b.object_id = o.id WHERE o.id > $1 ORDER BY o.id LIMIT $2";
    SAVE = "UPDATE scrub_state SET last_id = $2, done_bytes = done_bytes + $3, \
        claimed_until = (SELECT now FROM clock) + $4 WHERE id = 1 AND claim = $1";
    SAVE_ROWS = "UPDATE scrub_state SET rows_stage = $2, rows_id1 = $3, rows_id2 = $4, \
        claimed_until = (SELECT now FROM clock) + $5 WHERE id = 1 AND claim = $1";
    VERIFIED = concat!("UPDATE objects SET verified_at = (SELECT now FROM clock) WHERE id IN \
        (SELECT id1 FROM ", review_list!("$1"), " l)");
    FINISH = "UPDATE scrub_state SET finished_at = (SELECT now FROM clock), claimed_until = 0 WHERE id = 1 AND claim = $1";
    RELEASE = "UPDATE scrub_state SET claimed_until = 0 WHERE id = 1 AND claim = $1";
    STATE = "SELECT claim, last_id, total_bytes, done_bytes, rows_stage, rows_id1, rows_id2, \
        began_at, finished_at, (SELECT now FROM clock) AS now \
        FROM scrub_state WHERE id = 1";
}

/// Sizes that are added up in one statement.
const PAGE: i64 = 1000;

#[derive(sqlx::FromRow)]
struct StateRow {
    claim: i64,
    last_id: i64,
    total_bytes: i64,
    done_bytes: i64,
    rows_stage: i64,
    rows_id1: i64,
    rows_id2: i64,
    began_at: Option<i64>,
    finished_at: Option<i64>,
    now: i64,
}

impl StateRow {
    fn told(self) -> Result<ScrubClaim> {
        Ok(ScrubClaim {
            claim: self.claim,
            last: self.last_id,
            total: size(self.total_bytes)?,
            done: size(self.done_bytes)?,
            rows: match self.rows_stage {
                0 => RowsRead::UpTo(InRows::Blobs, (self.rows_id1, self.rows_id2)),
                1 => RowsRead::UpTo(InRows::Manifests, (self.rows_id1, self.rows_id2)),
                _ => RowsRead::All,
            },
            began: self.began_at.map(time).transpose()?,
            finished: self.finished_at.map(time).transpose()?,
            now: time(self.now)?,
        })
    }
}

/// Takes the work up: where nobody is at it, or from whoever is.
struct Claim {
    statement: &'static str,
    hold: Duration,
}

impl Transaction for Claim {
    type Output = Option<ScrubClaim>;

    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<Option<ScrubClaim>> {
        let claim = sqlx::query_as(self.statement).bind(microseconds(self.hold));
        let row: Option<StateRow> = claim.fetch_optional(connection).await?;
        row.map(StateRow::told).transpose()
    }
}

struct Begin {
    claim: i64,
    total: u64,
}

impl Transaction for Begin {
    type Output = bool;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let begun = sqlx::query(BEGIN).bind(self.claim).bind(stored_size(self.total)).execute(connection).await?;
        Ok(begun.rows_affected() == 1)
    }
}

impl Transaction for Scrubbed {
    type Output = bool;

    /// What is lost is read once more.
    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let saved = sqlx::query(SAVE)
            .bind(self.claim)
            .bind(self.last)
            .bind(stored_size(self.bytes))
            .bind(microseconds(self.hold))
            .execute(&mut *connection)
            .await?;
        if saved.rows_affected() == 0 {
            return Ok(false);
        }
        let right = id_list(self.right.iter().map(|id| (*id, 0)));
        sqlx::query(VERIFIED).bind(right).execute(connection).await?;
        Ok(true)
    }
}

struct SaveRows {
    claim: i64,
    rows: RowsRead,
    hold: Duration,
}

impl Transaction for SaveRows {
    type Output = bool;

    /// As for objects.
    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let (stage, place) = match self.rows {
            RowsRead::UpTo(InRows::Blobs, place) => (0_i64, place),
            RowsRead::UpTo(InRows::Manifests, place) => (1, place),
            RowsRead::All => (2, (0, 0)),
        };
        let save = sqlx::query(SAVE_ROWS).bind(self.claim).bind(stage).bind(place.0).bind(place.1);
        let saved = save.bind(microseconds(self.hold)).execute(connection).await?;
        Ok(saved.rows_affected() == 1)
    }
}

/// Ends a claim: with the round, or before that.
struct End {
    statement: &'static str,
    claim: i64,
}

impl Transaction for End {
    type Output = ();

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        sqlx::query(self.statement).bind(self.claim).execute(connection).await?;
        Ok(())
    }
}

#[derive(sqlx::FromRow)]
struct ObjectRow {
    id: i64,
    blob_id: i64,
    key: String,
    size: i64,
    digest: Vec<u8>,
    damaged_at: Option<i64>,
}

impl Store {
    pub(crate) async fn claim_scrub(&self, hold: Duration) -> Result<Option<ScrubClaim>> {
        self.write(Claim { statement: CLAIM, hold }).await
    }

    pub(crate) async fn take_scrub(&self, hold: Duration) -> Result<Option<ScrubClaim>> {
        self.write(Claim { statement: TAKE, hold }).await
    }

    pub(crate) async fn begin_scrub(&self, claim: i64) -> Result<Option<u64>> {
        let total = self.total(SIZES).await?;
        Ok(self.write(Begin { claim, total }).await?.then_some(total))
    }

    /// The sizes of all rows of a table, by a statement that adds up those of a page. No statement of it takes long.
    pub(super) async fn total(&self, page: &'static str) -> Result<u64> {
        let (mut total, mut after) = (0, 0);
        loop {
            let told: Result<(i64, i64, Option<i64>)> = read!(self.connections, connection => {
                Ok(sqlx::query_as(page).bind(after).bind(PAGE).fetch_one(connection).await?)
            });
            let (count, bytes, last) = told?;
            total += size(bytes)?;
            match last {
                Some(last) if count == PAGE => after = last,
                _ => return Ok(total),
            }
        }
    }

    pub(crate) async fn objects_after(&self, after: i64, limit: u32) -> Result<Vec<StoredObject>> {
        let told: Result<Vec<ObjectRow>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(OBJECTS).bind(after).bind(i64::from(limit)).fetch_all(connection).await?)
        });
        let object = |row: ObjectRow| {
            Ok(StoredObject {
                number: row.id,
                blob: row.blob_id,
                key: row.key,
                size: size(row.size)?,
                digest: digest(&row.digest)?,
                is_damaged: row.damaged_at.is_some(),
            })
        };
        told?.into_iter().map(object).collect()
    }

    pub(crate) async fn save_scrub(&self, scrubbed: Scrubbed) -> Result<bool> {
        self.write(scrubbed).await
    }

    pub(crate) async fn save_scrub_rows(&self, claim: i64, rows: RowsRead, hold: Duration) -> Result<bool> {
        self.write(SaveRows { claim, rows, hold }).await
    }

    pub(crate) async fn finish_scrub(&self, claim: i64) -> Result<()> {
        self.write(End { statement: FINISH, claim }).await
    }

    pub(crate) async fn release_scrub(&self, claim: i64) -> Result<()> {
        self.write(End { statement: RELEASE, claim }).await
    }

    pub(crate) async fn scrub_state(&self) -> Result<ScrubClaim> {
        let told: Result<StateRow> =
            read!(self.connections, connection => Ok(sqlx::query_as(STATE).fetch_one(connection).await?));
        told?.told()
    }
}
