//! What an upload session holds in an object store: an object in parts, and a tail, which is what is too little for a
//! part.

use super::blobs::{size, stored_size};
use super::uploads::{condemn_object, insert_object, lock_objects, save_row};
use super::{Batch, Connection, FENCE_DURABILITY, Store, Transaction};
use crate::{Durability, Error, Multipart, Result, SaveProgress, TailChange, UploadId, UploadPart};

statements! {
    SELECT_PARTS = "SELECT number, tag, size FROM upload_parts WHERE upload_id = $1 ORDER BY number";
    INSERT_PART = "INSERT INTO upload_parts (upload_id, number, tag, size) VALUES ($1, $2, $3, $4)";
    NAME_UPLOAD = "UPDATE uploads SET backend_upload = $2, next_part = COALESCE($3, next_part) WHERE id = $1";
    RESERVE = "UPDATE uploads SET next_part = next_part + $3 WHERE id = $1 AND fence = $2 RETURNING next_part";
    SET_NEXT_TAIL = "UPDATE uploads SET next_tail_id = $2 WHERE id = $1";
    SET_TAIL_CRC = "UPDATE objects SET tail_crc = $2 WHERE id = $1";
    REPLACE_TAIL = "UPDATE uploads SET tail_id = next_tail_id, next_tail_id = NULL WHERE id = $1";
    DROP_TAIL = "UPDATE uploads SET tail_id = NULL WHERE id = $1";
    GO_ON_AFTER = "UPDATE uploads SET tail_id = object_id, object_id = $2 WHERE id = $1 AND received > 0 \
        AND COALESCE(octet_length(staged), 0) = 0 AND tail_id IS NULL AND backend_upload IS NULL";
}

/// The objects that a session is writing.
#[derive(sqlx::FromRow)]
pub(super) struct SessionObjects {
    pub(super) object_id: Option<i64>,
    pub(super) tail_id: Option<i64>,
    pub(super) next_tail_id: Option<i64>,
    pub(super) backend_upload: Option<String>,
}

pub(super) async fn select(connection: &mut Connection, id: UploadId, upload: String) -> Result<Multipart> {
    let rows: Vec<(i64, String, i64)> = sqlx::query_as(SELECT_PARTS).bind(id.to_string()).fetch_all(connection).await?;
    let parts = rows.into_iter().map(|(stored_number, tag, stored)| {
        Ok(UploadPart { number: number(stored_number)?, tag, size: size(stored)? })
    });
    Ok(Multipart { upload, parts: parts.collect::<Result<_>>()? })
}

fn number(stored: i64) -> Result<u32> {
    u32::try_from(stored).map_err(|_| Error::Damaged { table: "upload_parts", reason: format!("part {stored}") })
}

/// Whether more changes than the session's row.
pub(super) fn change(progress: &SaveProgress) -> bool {
    progress.multipart.is_some() || progress.tail != TailChange::Kept
}

/// Saves progress with its parts and its tail.
pub(super) async fn save(connection: &mut Connection, progress: &SaveProgress) -> Result<bool> {
    let Some(objects) = lock_objects(connection, progress.id, progress.fence).await? else { return Ok(false) };
    save_row(connection, progress).await?;
    let id = progress.id.to_string();
    let mut batch = Batch::default();
    if let Some(multipart) = &progress.multipart {
        // Whoever still holds the session is the last one that was given numbers: those that it did not need are free again.
        let next = progress.next_part.map(i64::from);
        batch.add(NAME_UPLOAD).bind(id.as_str()).bind(multipart.upload.as_str()).bind(next);
        for part in &multipart.parts {
            let row = batch.add(INSERT_PART).bind(id.as_str()).bind(i64::from(part.number));
            row.bind(part.tag.as_str()).bind(stored_size(part.size));
        }
    }
    match progress.tail {
        TailChange::Kept => {}
        TailChange::Replaced { checksum } => {
            batch.add(SET_TAIL_CRC).bind(objects.next_tail_id).bind(checksum.cast_signed());
            batch.add(REPLACE_TAIL).bind(id);
        }
        TailChange::Gone => {
            batch.add(DROP_TAIL).bind(id);
        }
    }
    if progress.tail != TailChange::Kept
        && let Some(tail) = objects.tail_id
    {
        condemn_object(&mut batch, tail, None, "more bytes came after it");
    }
    batch.execute(connection).await?;
    Ok(true)
}

struct AttachTail {
    id: UploadId,
    fence: i64,
    key: String,
    backend: String,
}

impl Transaction for AttachTail {
    type Output = bool;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let Some(objects) = lock_objects(connection, self.id, self.fence).await? else { return Ok(false) };
        let object_id = insert_object(connection, &self.key, &self.backend).await?;
        let mut batch = Batch::default();
        batch.add(SET_NEXT_TAIL).bind(self.id.to_string()).bind(object_id);
        if let Some(abandoned) = objects.next_tail_id {
            condemn_object(&mut batch, abandoned, None, "its writer ended before it saved anything");
        }
        batch.execute(connection).await?;
        Ok(true)
    }
}

struct AttachAfter {
    id: UploadId,
    fence: i64,
    key: String,
    backend: String,
}

impl Transaction for AttachAfter {
    type Output = bool;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        if lock_objects(connection, self.id, self.fence).await?.is_none() {
            return Ok(false);
        }
        let object_id = insert_object(connection, &self.key, &self.backend).await?;
        let gone_on =
            sqlx::query(GO_ON_AFTER).bind(self.id.to_string()).bind(object_id).execute(&mut *connection).await?;
        if gone_on.rows_affected() == 1 {
            return Ok(true);
        }
        let mut batch = Batch::default();
        condemn_object(&mut batch, object_id, None, "there was nothing to go on after");
        batch.execute(connection).await?;
        Ok(false)
    }
}

struct Reserve {
    id: UploadId,
    fence: i64,
    count: u32,
}

impl Transaction for Reserve {
    type Output = Option<u32>;

    const DURABILITY: Durability = FENCE_DURABILITY;

    async fn run(&self, connection: &mut Connection) -> Result<Option<u32>> {
        let next: Option<(i64,)> = sqlx::query_as(RESERVE)
            .bind(self.id.to_string())
            .bind(self.fence)
            .bind(i64::from(self.count))
            .fetch_optional(connection)
            .await?;
        next.map(|(next,)| number(next - i64::from(self.count))).transpose()
    }
}

impl Store {
    pub(crate) async fn reserve_parts(&self, id: UploadId, fence: i64, count: u32) -> Result<Option<u32>> {
        self.write(Reserve { id, fence, count }).await
    }

    pub(crate) async fn attach_tail(&self, id: UploadId, fence: i64, key: &str, backend: &str) -> Result<bool> {
        self.write(AttachTail { id, fence, key: key.to_owned(), backend: backend.to_owned() }).await
    }

    pub(crate) async fn attach_object_after(&self, id: UploadId, fence: i64, key: &str, backend: &str) -> Result<bool> {
        self.write(AttachAfter { id, fence, key: key.to_owned(), backend: backend.to_owned() }).await
    }
}
