//! Upload sessions; what they hold in an object store is in `parts.rs`. The fence decides between two writers of one session: it rises with each claim, and only the
//! newest can save or commit.

use super::blobs::{self, size, stored_size};
use super::dialect::for_update;
use super::parts::{self, SessionObjects};
use super::repositories::{self, microseconds};
use super::usage::Place;
use super::{Batch, Connection, FENCE_DURABILITY, Store, Transaction, read};
use crate::{
    CommitOutcome, CommitUpload, Durability, Error, NewUpload, Quotas, Result, SaveProgress, StoredContent,
    UploadAddress, UploadId, UploadRecord,
};
use std::time::Duration;

statements! {
    BEGIN = "INSERT INTO uploads (id, repository_id, principal, received, hash_state, fence, created_at, expires_at) \
        SELECT $1, r.id, $3, 0, $4, 0, c.now, c.now + $5 FROM repositories r, clock c WHERE r.name = $2";
    // An object that was attached and never saved to may not even exist: until then the bytes are the staged ones, or
    // those of the tail.
    FIND = "SELECT u.received, u.hash_state, u.staged, CASE WHEN u.backend_upload IS NOT NULL \
            OR u.received > 0 AND COALESCE(octet_length(u.staged), 0) = 0 AND u.tail_id IS NULL THEN o.key END \
            AS object_key, u.backend_upload, t.key AS tail_key, t.tail_crc, u.fence FROM uploads u \
        JOIN repositories r ON r.id = u.repository_id LEFT JOIN objects o ON o.id = u.object_id \
        LEFT JOIN objects t ON t.id = u.tail_id \
        WHERE u.id = $1 AND r.name = $2 AND u.principal IS NOT DISTINCT FROM $3 \
        AND u.expires_at > (SELECT now FROM clock)";
    CLAIM = "UPDATE uploads SET fence = fence + 1, expires_at = (SELECT now FROM clock) + $4 WHERE id = $1 \
        AND repository_id = (SELECT id FROM repositories WHERE name = $2) \
        AND principal IS NOT DISTINCT FROM $3 AND expires_at > (SELECT now FROM clock)";
    EXTEND = "UPDATE uploads SET expires_at = (SELECT now FROM clock) + $3 WHERE id = $1 AND fence = $2";
    LOCK = concat!("SELECT repository_id, object_id, tail_id, next_tail_id, backend_upload FROM uploads \
        WHERE id = $1 AND fence = $2", for_update!());
    LOCK_UNSAVED = concat!("SELECT object_id FROM uploads WHERE id = $1 AND fence = $2 \
        AND (received = 0 OR octet_length(staged) > 0 OR tail_id IS NOT NULL AND backend_upload IS NULL)", for_update!());
    INSERT_OBJECT = "INSERT INTO objects (key, backend, size, state, created_at) \
        VALUES ($1, $2, 0, 'pending', (SELECT now FROM clock)) RETURNING id";
    ATTACH = "UPDATE uploads SET object_id = $2 WHERE id = $1";
    SAVE = "UPDATE uploads SET received = $3, hash_state = $4, staged = $5, \
        expires_at = (SELECT now FROM clock) + $6 WHERE id = $1 AND fence = $2";
    DELETE = "DELETE FROM uploads WHERE id = $1";
    OBJECT_LIVE = "UPDATE objects SET state = 'live', size = $2 WHERE id = $1";
    CONDEMN = "INSERT INTO tombstones (key, backend, size, reason, created_at, not_before, backend_upload) \
        SELECT o.key, o.backend, o.size, $2, l.now, l.delete_after, $3 FROM objects o, lease l WHERE o.id = $1";
    DELETE_OBJECT = "DELETE FROM objects WHERE id = $1";
    FIND_OBJECTS_OF = concat!("SELECT object_id, tail_id, next_tail_id, backend_upload FROM uploads WHERE id = $1 \
        AND repository_id = (SELECT id FROM repositories WHERE name = $2) \
        AND principal IS NOT DISTINCT FROM $3", for_update!());
}

#[derive(sqlx::FromRow)]
struct UploadRow {
    received: i64,
    hash_state: Vec<u8>,
    staged: Option<Vec<u8>>,
    object_key: Option<String>,
    backend_upload: Option<String>,
    tail_key: Option<String>,
    tail_crc: Option<i64>,
    fence: i64,
}

async fn select_upload(connection: &mut Connection, address: &UploadAddress) -> Result<Option<UploadRecord>> {
    let row: Option<UploadRow> = sqlx::query_as(FIND)
        .bind(address.id.to_string())
        .bind(address.repository.as_str())
        .bind(&address.principal)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let multipart = match row.backend_upload {
        Some(upload) => Some(parts::select(connection, address.id, upload).await?),
        None => None,
    };
    Ok(Some(UploadRecord {
        id: address.id,
        received: size(row.received)?,
        hash_state: row.hash_state,
        staged: row.staged.unwrap_or_default(),
        object_key: row.object_key,
        multipart,
        tail_key: row.tail_key,
        tail_checksum: row.tail_crc.map(i64::cast_unsigned),
        fence: row.fence,
    }))
}

/// Deletes an object's row and remembers its key for deletion. Not at once: whoever held the session may be about to
/// make the object, or to write to it.
pub(super) fn condemn_object(batch: &mut Batch, object_id: i64, upload: Option<&str>, reason: &'static str) {
    batch.add(CONDEMN).bind(object_id).bind(reason).bind(upload);
    batch.add(DELETE_OBJECT).bind(object_id);
}

/// Deletes a session, and condemns the objects that it was writing.
pub(super) fn end_session(batch: &mut Batch, id: &str, objects: &SessionObjects, reason: &'static str) {
    batch.add(DELETE).bind(id);
    if let Some(object_id) = objects.object_id {
        condemn_object(batch, object_id, objects.backend_upload.as_deref(), reason);
    }
    for tail in [objects.tail_id, objects.next_tail_id].into_iter().flatten() {
        condemn_object(batch, tail, None, reason);
    }
}

/// The object's row, before its first byte is written.
pub(super) async fn insert_object(connection: &mut Connection, key: &str, backend: &str) -> Result<i64> {
    let (id,): (i64,) = sqlx::query_as(INSERT_OBJECT).bind(key).bind(backend).fetch_one(connection).await?;
    Ok(id)
}

#[derive(sqlx::FromRow)]
struct LockedSession {
    repository_id: i64,
    #[sqlx(flatten)]
    objects: SessionObjects,
}

/// The session's repository and objects, if this fence still holds it.
async fn lock(connection: &mut Connection, id: UploadId, fence: i64) -> Result<Option<LockedSession>> {
    Ok(sqlx::query_as(LOCK).bind(id.to_string()).bind(fence).fetch_optional(connection).await?)
}

/// The session's objects, if this fence still holds it.
pub(super) async fn lock_objects(
    connection: &mut Connection,
    id: UploadId,
    fence: i64,
) -> Result<Option<SessionObjects>> {
    Ok(lock(connection, id, fence).await?.map(|session| session.objects))
}

struct Begin {
    id: UploadId,
    upload: NewUpload,
}

impl Transaction for Begin {
    type Output = UploadId;

    /// No byte has come yet: where the session is lost its client is told so, and opens another.
    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<UploadId> {
        if !self.insert(connection).await? {
            repositories::find_or_insert(connection, &self.upload.repository).await?;
            self.insert(connection).await?;
        }
        Ok(self.id)
    }
}

impl Begin {
    /// False where the repository is new.
    async fn insert(&self, connection: &mut Connection) -> Result<bool> {
        let inserted = sqlx::query(BEGIN)
            .bind(self.id.to_string())
            .bind(self.upload.repository.as_str())
            .bind(&self.upload.principal)
            .bind(&self.upload.hash_state)
            .bind(microseconds(self.upload.lifetime))
            .execute(connection)
            .await?;
        Ok(inserted.rows_affected() == 1)
    }
}

/// Takes the session for one writer. In two statements: what the session has become while the first one waited for
/// another writer's transaction, only a statement that begins after the wait sees.
pub(super) async fn claim(
    connection: &mut Connection,
    address: &UploadAddress,
    lifetime: Duration,
) -> Result<Option<UploadRecord>> {
    sqlx::query(CLAIM)
        .bind(address.id.to_string())
        .bind(address.repository.as_str())
        .bind(&address.principal)
        .bind(microseconds(lifetime))
        .execute(&mut *connection)
        .await?;
    select_upload(connection, address).await
}

struct Claim {
    address: UploadAddress,
    lifetime: Duration,
}

impl Transaction for Claim {
    type Output = Option<UploadRecord>;

    const DURABILITY: Durability = FENCE_DURABILITY;

    async fn run(&self, connection: &mut Connection) -> Result<Option<UploadRecord>> {
        claim(connection, &self.address, self.lifetime).await
    }
}

struct Extend {
    id: UploadId,
    fence: i64,
    lifetime: Duration,
}

impl Transaction for Extend {
    type Output = bool;

    /// What is lost is an extension, and the next one comes before the time runs out.
    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let extended = sqlx::query(EXTEND)
            .bind(self.id.to_string())
            .bind(self.fence)
            .bind(microseconds(self.lifetime))
            .execute(connection)
            .await?;
        Ok(extended.rows_affected() == 1)
    }
}

struct Attach {
    id: UploadId,
    fence: i64,
    key: String,
    backend: String,
}

impl Transaction for Attach {
    type Output = bool;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let id = self.id.to_string();
        let unsaved: Option<(Option<i64>,)> =
            sqlx::query_as(LOCK_UNSAVED).bind(&id).bind(self.fence).fetch_optional(&mut *connection).await?;
        let Some((abandoned,)) = unsaved else { return Ok(false) };
        let object_id = insert_object(connection, &self.key, &self.backend).await?;
        let mut batch = Batch::default();
        batch.add(ATTACH).bind(id.as_str()).bind(object_id);
        if let Some(abandoned) = abandoned {
            condemn_object(&mut batch, abandoned, None, "its writer ended before it saved anything");
        }
        batch.execute(connection).await?;
        Ok(true)
    }
}

impl Transaction for SaveProgress {
    type Output = bool;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        if parts::change(self) {
            return parts::save(connection, self).await;
        }
        save_row(connection, self).await
    }
}

/// Saves what is in the session's row. False where the session is gone or taken by another writer.
pub(super) async fn save_row(connection: &mut Connection, progress: &SaveProgress) -> Result<bool> {
    let saved = sqlx::query(SAVE)
        .bind(progress.id.to_string())
        .bind(progress.fence)
        .bind(stored_size(progress.received))
        .bind(&progress.hash_state)
        .bind(&progress.staged)
        .bind(microseconds(progress.lifetime))
        .execute(connection)
        .await?;
    Ok(saved.rows_affected() == 1)
}

impl Transaction for CommitUpload {
    type Output = CommitOutcome;

    async fn run(&self, connection: &mut Connection) -> Result<CommitOutcome> {
        let Some(session) = lock(connection, self.id, self.fence).await? else {
            return Ok(CommitOutcome::SessionLost);
        };
        let LockedSession { repository_id, mut objects } = session;
        let (blob_object, inline) = match (&self.content, objects.object_id) {
            (StoredContent::Inline(bytes), _) => (None, Some(bytes.as_slice())),
            (StoredContent::AttachedObject, Some(object_id)) => (Some(object_id), None),
            (StoredContent::AttachedObject, None) => {
                return Err(Error::Damaged { table: "uploads", reason: format!("{} has no object", self.id) });
            }
        };
        let (blob_id, is_new) = blobs::find_or_insert(connection, &self.digest, self.size, blob_object, inline).await?;
        let mut batch = Batch::default();
        blobs::add_grant(&mut batch, repository_id, blob_id);
        let id = self.id.to_string();
        match blob_object {
            Some(object_id) if is_new => {
                batch.add(OBJECT_LIVE).bind(object_id).bind(stored_size(self.size));
                objects.object_id = None;
                end_session(&mut batch, &id, &objects, "the upload has ended");
            }
            _ => end_session(&mut batch, &id, &objects, "the blob was here already"),
        }
        batch.execute(connection).await?;
        Ok(CommitOutcome::Committed)
    }
}

struct Cancel(UploadAddress);

impl Transaction for Cancel {
    type Output = bool;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let Self(address) = self;
        let id = address.id.to_string();
        let objects: Option<SessionObjects> = sqlx::query_as(FIND_OBJECTS_OF)
            .bind(&id)
            .bind(address.repository.as_str())
            .bind(&address.principal)
            .fetch_optional(&mut *connection)
            .await?;
        let Some(objects) = objects else { return Ok(false) };
        let mut batch = Batch::default();
        end_session(&mut batch, &id, &objects, "the upload was cancelled");
        batch.execute(connection).await?;
        Ok(true)
    }
}

impl Store {
    pub(crate) async fn begin_upload(&self, upload: NewUpload) -> Result<UploadId> {
        self.write(Begin { id: UploadId::random(), upload }).await
    }

    pub(crate) async fn find_upload(&self, address: UploadAddress) -> Result<Option<UploadRecord>> {
        read!(self.connections, connection => select_upload(connection, &address).await)
    }

    pub(crate) async fn claim_upload(
        &self,
        address: UploadAddress,
        lifetime: Duration,
    ) -> Result<Option<UploadRecord>> {
        self.write(Claim { address, lifetime }).await
    }

    pub(crate) async fn extend_upload(&self, id: UploadId, fence: i64, lifetime: Duration) -> Result<bool> {
        self.write(Extend { id, fence, lifetime }).await
    }

    pub(crate) async fn attach_object(&self, id: UploadId, fence: i64, key: &str, backend: &str) -> Result<bool> {
        self.write(Attach { id, fence, key: key.to_owned(), backend: backend.to_owned() }).await
    }

    pub(crate) async fn save_progress(&self, progress: SaveProgress) -> Result<bool> {
        self.write(progress).await
    }

    pub(crate) async fn commit_upload(&self, commit: CommitUpload, quotas: &Quotas) -> Result<CommitOutcome> {
        self.write_within(commit, |commit| Place::Upload(commit.id), quotas).await
    }

    pub(crate) async fn cancel_upload(&self, address: UploadAddress) -> Result<bool> {
        self.write(Cancel(address)).await
    }
}
