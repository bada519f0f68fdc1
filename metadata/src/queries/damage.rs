//! Blobs whose bytes were found damaged. Nobody can read them, so whoever needs one pushes it anew, and what is pushed takes
//! the place of what was damaged.

use super::blobs::{digest, size};
use super::reviews::time;
use super::uploads::condemn_object;
use super::{Batch, Connection, Store, Transaction, read};
use crate::cache::Change;
use crate::{DamagedBlob, Result, StoredObject};

statements! {
    MARK = "INSERT INTO damaged_blobs (blob_id, reason, found_at) \
        SELECT b.id, $3, c.now FROM blobs b JOIN objects o ON o.id = b.object_id CROSS JOIN clock c \
        WHERE b.id = $1 AND o.key = $2 ON CONFLICT (blob_id) DO NOTHING";
    CLEAR = "DELETE FROM damaged_blobs WHERE blob_id = $1";
    OBJECT_OF = "SELECT object_id FROM blobs WHERE id = $1";
    REPLACE = "UPDATE blobs SET object_id = $2, inline = $3 WHERE id = $1";
    LIST = "SELECT d.blob_id, b.digest, b.size, o.key, d.reason, d.found_at FROM damaged_blobs d \
        JOIN blobs b ON b.id = d.blob_id LEFT JOIN objects o ON o.id = b.object_id \
        WHERE d.blob_id > $1 ORDER BY d.blob_id LIMIT $2";
    COUNT = "SELECT count(*) FROM damaged_blobs WHERE blob_id > 0";
}

/// Gives a damaged blob this content; what it had is condemned. False where somebody else has done so before.
pub(super) async fn replace(
    connection: &mut Connection,
    blob_id: i64,
    object_id: Option<i64>,
    inline: Option<&[u8]>,
) -> Result<bool> {
    let cleared = sqlx::query(CLEAR).bind(blob_id).execute(&mut *connection).await?;
    if cleared.rows_affected() == 0 {
        return Ok(false);
    }
    let (damaged,): (Option<i64>,) = sqlx::query_as(OBJECT_OF).bind(blob_id).fetch_one(&mut *connection).await?;
    sqlx::query(REPLACE).bind(blob_id).bind(object_id).bind(inline).execute(&mut *connection).await?;
    if let Some(damaged) = damaged {
        let mut batch = Batch::default();
        condemn_object(&mut batch, damaged, None, "it was damaged, and its blob was pushed anew");
        batch.execute(connection).await?;
    }
    Ok(true)
}

struct Mark {
    object: StoredObject,
    reason: String,
}

impl Transaction for Mark {
    type Output = bool;

    /// Any repository may hold it.
    fn changes(&self) -> Vec<Change> {
        vec![Change::Everything]
    }

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let marked = sqlx::query(MARK)
            .bind(self.object.blob)
            .bind(&self.object.key)
            .bind(&self.reason)
            .execute(connection)
            .await?;
        Ok(marked.rows_affected() == 1)
    }
}

struct Clear(i64);

impl Transaction for Clear {
    type Output = bool;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        Ok(sqlx::query(CLEAR).bind(self.0).execute(connection).await?.rows_affected() == 1)
    }
}

#[derive(sqlx::FromRow)]
struct DamagedRow {
    blob_id: i64,
    digest: Vec<u8>,
    size: i64,
    key: Option<String>,
    reason: String,
    found_at: i64,
}

impl Store {
    pub(crate) async fn mark_damaged(&self, object: StoredObject, reason: String) -> Result<bool> {
        self.write(Mark { object, reason }).await
    }

    pub(crate) async fn clear_damage(&self, object: &StoredObject) -> Result<bool> {
        self.write(Clear(object.blob)).await
    }

    pub(crate) async fn damaged_blobs(&self, after: i64, limit: u32) -> Result<Vec<DamagedBlob>> {
        let told: Result<Vec<DamagedRow>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(LIST).bind(after).bind(i64::from(limit)).fetch_all(connection).await?)
        });
        let blob = |row: DamagedRow| {
            Ok(DamagedBlob {
                number: row.blob_id,
                digest: digest(&row.digest)?,
                size: size(row.size)?,
                key: row.key,
                reason: row.reason,
                found_at: time(row.found_at)?,
            })
        };
        told?.into_iter().map(blob).collect()
    }

    pub(crate) async fn count_damaged(&self) -> Result<u64> {
        let told: Result<i64> =
            read!(self.connections, connection => Ok(sqlx::query_scalar(COUNT).fetch_one(connection).await?));
        size(told?)
    }
}
