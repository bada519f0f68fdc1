//! Blobs and grants: a blob is readable in a repository only through that repository's own row, and the row is the
//! lease too. Leases are renewed in the transaction that needs them, by the database's clock.

use super::dialect::for_key_share;
use super::usage::Place;
use super::{Batch, Connection, Store, Transaction, damage, read, repositories};
use crate::cache::{Change, Promised};
use crate::{BlobContent, BlobRecord, DeleteOutcome, Error, MountOutcome, PutInlineBlob, Quotas, Result};
use longshore_oci::{Digest, RepositoryName};
use std::time::Duration;

statements! {
    FIND = "SELECT b.size, b.inline, o.key FROM blobs b JOIN repository_blobs g ON g.blob_id = b.id \
        AND g.repository_id = (SELECT id FROM repositories WHERE name = $1) \
        LEFT JOIN objects o ON o.id = b.object_id WHERE b.digest = $2 \
        AND NOT EXISTS (SELECT 1 FROM damaged_blobs d WHERE d.blob_id = b.id)";
    FIND_SIZE = "SELECT b.size, g.expires_at - l.renew_before FROM lease l CROSS JOIN blobs b \
        JOIN repository_blobs g ON g.blob_id = b.id AND g.repository_id = (SELECT id FROM repositories WHERE name = $1) \
        WHERE b.digest = $2 AND NOT EXISTS (SELECT 1 FROM damaged_blobs d WHERE d.blob_id = b.id)";
    RENEW = "UPDATE repository_blobs SET expires_at = (SELECT l.expires_at FROM lease l) \
        WHERE repository_id = (SELECT id FROM repositories WHERE name = $1) \
        AND blob_id = (SELECT id FROM blobs WHERE digest = $2) \
        AND expires_at < (SELECT l.renew_before FROM lease l)";
    INSERT = "INSERT INTO blobs (digest, size, object_id, inline, created_at) \
        VALUES ($1, $2, $3, $4, (SELECT now FROM clock)) ON CONFLICT (digest) DO NOTHING RETURNING id";
    FIND_ID = concat!("SELECT b.id, (SELECT d.found_at FROM damaged_blobs d WHERE d.blob_id = b.id) AS damaged_at, \
        CAST(CASE WHEN b.inline <> $2 THEN 1 ELSE 0 END AS BIGINT) AS is_other \
        FROM blobs b WHERE b.digest = $1", for_key_share!("b"));
    GRANT = "INSERT INTO repository_blobs (repository_id, blob_id, expires_at) \
        VALUES ($1, $2, (SELECT expires_at FROM lease)) \
        ON CONFLICT (repository_id, blob_id) DO UPDATE SET expires_at = excluded.expires_at \
        WHERE repository_blobs.expires_at < (SELECT l.renew_before FROM lease l)";
    GRANT_TO = "INSERT INTO repository_blobs (repository_id, blob_id, expires_at) \
        SELECT r.id, $2, l.expires_at FROM repositories r, lease l WHERE r.name = $1 \
        ON CONFLICT (repository_id, blob_id) DO UPDATE SET expires_at = excluded.expires_at \
        WHERE repository_blobs.expires_at < (SELECT l.renew_before FROM lease l)";
    HOLDERS = "SELECT r.name FROM blobs b JOIN repository_blobs g ON g.blob_id = b.id \
        JOIN repositories r ON r.id = g.repository_id WHERE b.digest = $1 ORDER BY r.name LIMIT $2";
    HELD = concat!("SELECT b.id FROM blobs b JOIN repository_blobs g ON g.blob_id = b.id \
        AND g.repository_id = (SELECT id FROM repositories WHERE name = $1) WHERE b.digest = $2 \
        AND NOT EXISTS (SELECT 1 FROM damaged_blobs d WHERE d.blob_id = b.id)", for_key_share!("b"));
    USER_OF = "SELECT m.digest FROM manifest_blobs n CROSS JOIN manifests m \
        WHERE n.repository_id = (SELECT id FROM repositories WHERE name = $1) \
        AND n.blob_id = (SELECT id FROM blobs WHERE digest = $2) AND m.id = n.manifest_id ORDER BY n.manifest_id LIMIT 1";
    REVOKE = "DELETE FROM repository_blobs WHERE repository_id = (SELECT id FROM repositories WHERE name = $1) \
        AND blob_id = (SELECT id FROM blobs WHERE digest = $2)";
}

/// How often a blob's row may vanish between our losing the insert and our taking the winner.
const MAX_VANISHED: u32 = 8;

/// A digest as the database gave it back.
pub(super) fn digest(bytes: &[u8]) -> Result<Digest> {
    Digest::from_bytes(bytes).map_err(|error| Error::Damaged { table: "blobs", reason: error.to_string() })
}

/// A digest as JSON takes it to the database: its bytes, in hexadecimal.
pub(super) fn hexadecimal(digest: &Digest) -> String {
    digest.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Digests as the JSON list that `digest_list!` reads.
pub(super) fn json_list<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> String {
    serde_json::Value::from_iter(digests.into_iter().map(hexadecimal)).to_string()
}

/// A count or size as the database gave it back.
pub(super) fn size(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| Error::Damaged { table: "blobs", reason: format!("size {value}") })
}

/// A size on its way into the database.
pub(super) fn stored_size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The blob of this digest: the one that is here already, or a new row. `true` if this content is the blob's now: the row
/// is new, or what it had was damaged.
pub(super) async fn find_or_insert(
    connection: &mut Connection,
    digest: &Digest,
    size: u64,
    object_id: Option<i64>,
    inline: Option<&[u8]>,
) -> Result<(i64, bool)> {
    for _ in 0..MAX_VANISHED {
        let inserted: Option<(i64,)> = sqlx::query_as(INSERT)
            .bind(digest.to_bytes())
            .bind(stored_size(size))
            .bind(object_id)
            .bind(inline)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some((id,)) = inserted {
            return Ok((id, true));
        }
        // Somebody else's row is there; it stays until we end, unless it was deleted in between.
        let found: Option<(i64, Option<i64>, i64)> =
            sqlx::query_as(FIND_ID).bind(digest.to_bytes()).bind(inline).fetch_optional(&mut *connection).await?;
        match found {
            Some((id, Some(_), _)) => return Ok((id, damage::replace(connection, id, object_id, inline).await?)),
            Some((id, None, 0)) => return Ok((id, false)),
            Some((id, None, _)) => {
                damage::mend_inline(connection, id, inline).await?;
                return Ok((id, true));
            }
            None => {}
        }
    }
    Err(Error::NotCommitted(format!("the row of {digest} came and went; try again")))
}

/// Lets the repository read the blob, for the promised time at least.
pub(super) async fn grant(connection: &mut Connection, repository_id: i64, blob_id: i64) -> Result<()> {
    sqlx::query(GRANT).bind(repository_id).bind(blob_id).execute(connection).await?;
    Ok(())
}

/// As [`grant`], with what else is to be done.
pub(super) fn add_grant(batch: &mut Batch, repository_id: i64, blob_id: i64) {
    batch.add(GRANT).bind(repository_id).bind(blob_id);
}

/// As [`grant`], to a repository that may be new.
async fn grant_to(connection: &mut Connection, repository: &RepositoryName, blob_id: i64) -> Result<()> {
    let granted = sqlx::query(GRANT_TO).bind(repository.as_str()).bind(blob_id).execute(&mut *connection).await?;
    if granted.rows_affected() == 0 {
        // Either the repository has the blob already and its lease is fresh, or there is no repository yet.
        let repository_id = repositories::find_or_insert(connection, repository).await?;
        grant(connection, repository_id, blob_id).await?;
    }
    Ok(())
}

impl Transaction for PutInlineBlob {
    type Output = ();

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        let size = self.content.len() as u64;
        let (blob_id, _) = find_or_insert(connection, &self.digest, size, None, Some(&self.content)).await?;
        grant_to(connection, &self.repository, blob_id).await
    }
}

/// A blob by its row: its size, and by how much its lease outlasts what is promised, in microseconds.
fn promised(stored: i64, spare: i64) -> Result<Promised> {
    let spare = Duration::from_micros(u64::try_from(spare).unwrap_or(0));
    Ok(Promised { size: size(stored)?, spare })
}

struct Renew {
    repository: RepositoryName,
    digest: Digest,
}

impl Transaction for Renew {
    type Output = ();

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        sqlx::query(RENEW).bind(self.repository.as_str()).bind(self.digest.to_bytes()).execute(connection).await?;
        Ok(())
    }
}

struct Mount {
    target: RepositoryName,
    from: RepositoryName,
    digest: Digest,
}

impl Transaction for Mount {
    type Output = MountOutcome;

    async fn run(&self, connection: &mut Connection) -> Result<MountOutcome> {
        let held: Option<(i64,)> = sqlx::query_as(HELD)
            .bind(self.from.as_str())
            .bind(self.digest.to_bytes())
            .fetch_optional(&mut *connection)
            .await?;
        let Some((blob_id,)) = held else {
            return Ok(MountOutcome::NotThere);
        };
        grant_to(connection, &self.target, blob_id).await?;
        Ok(MountOutcome::Mounted)
    }
}

struct Delete {
    repository: RepositoryName,
    digest: Digest,
}

impl Transaction for Delete {
    type Output = DeleteOutcome;

    fn changes(&self) -> Vec<Change> {
        vec![Change::Blob(self.repository.clone(), self.digest)]
    }

    async fn run(&self, connection: &mut Connection) -> Result<DeleteOutcome> {
        let user: Option<(Vec<u8>,)> = sqlx::query_as(USER_OF)
            .bind(self.repository.as_str())
            .bind(self.digest.to_bytes())
            .fetch_optional(&mut *connection)
            .await?;
        if let Some((by,)) = user {
            return Ok(DeleteOutcome::InUse { by: digest(&by)? });
        }
        let deleted =
            sqlx::query(REVOKE).bind(self.repository.as_str()).bind(self.digest.to_bytes()).execute(connection).await?;
        Ok(if deleted.rows_affected() == 0 { DeleteOutcome::Unknown } else { DeleteOutcome::Deleted })
    }
}

type BlobRow = (i64, Option<Vec<u8>>, Option<String>);

fn blob(digest: &Digest, row: BlobRow) -> Result<BlobRecord> {
    let (stored, inline, key) = row;
    let content = match (inline, key) {
        (Some(bytes), None) => BlobContent::Inline(bytes.into()),
        (None, Some(key)) => BlobContent::Object { key: key.into() },
        _ => return Err(Error::Damaged { table: "blobs", reason: format!("{digest} has no content") }),
    };
    Ok(BlobRecord { size: size(stored)?, content })
}

impl Store {
    pub(crate) async fn find_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<BlobRecord>> {
        read!(self.connections, connection => {
            let find = sqlx::query_as(FIND).bind(repository.as_str()).bind(digest.to_bytes());
            find.fetch_optional(connection).await?.map(|row| blob(digest, row)).transpose()
        })
    }

    pub(crate) async fn promise_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Promised>> {
        let Some((stored, spare)) = self.size_and_spare(repository, digest).await? else {
            return Ok(None);
        };
        if spare >= 0 {
            return promised(stored, spare).map(Some);
        }
        // Less than the promise remains: renew first, then look again, since the row may go in between.
        self.write(Renew { repository: repository.clone(), digest: *digest }).await?;
        let renewed = self.size_and_spare(repository, digest).await?;
        renewed.map(|(stored, spare)| promised(stored, spare)).transpose()
    }

    /// The blob's size, and by how much its lease outlasts what is promised.
    async fn size_and_spare(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<(i64, i64)>> {
        read!(self.connections, connection => {
            let find = sqlx::query_as(FIND_SIZE).bind(repository.as_str()).bind(digest.to_bytes());
            Ok(find.fetch_optional(connection).await?)
        })
    }

    pub(crate) async fn put_inline_blob(&self, blob: PutInlineBlob, quotas: &Quotas) -> Result<()> {
        self.write_within(blob, |blob| Place::Repository(blob.repository.clone()), quotas).await
    }

    pub(crate) async fn repositories_holding(&self, digest: &Digest, limit: u32) -> Result<Vec<RepositoryName>> {
        read!(self.connections, connection => {
            let holders = sqlx::query_as(HOLDERS).bind(digest.to_bytes()).bind(i64::from(limit));
            let rows: Vec<(String,)> = holders.fetch_all(connection).await?;
            rows.iter().map(|(text,)| repositories::name(text)).collect()
        })
    }

    pub(crate) async fn mount_blob(
        &self,
        target: &RepositoryName,
        from: &RepositoryName,
        digest: &Digest,
        quotas: &Quotas,
    ) -> Result<MountOutcome> {
        let mount = Mount { target: target.clone(), from: from.clone(), digest: *digest };
        self.write_within(mount, |mount| Place::Repository(mount.target.clone()), quotas).await
    }

    pub(crate) async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<DeleteOutcome> {
        self.write(Delete { repository: repository.clone(), digest: *digest }).await
    }
}
