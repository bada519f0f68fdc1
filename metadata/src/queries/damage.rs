//! Blobs and manifests whose bytes were found damaged. Nobody can read them, so whoever needs one pushes it anew, and what is
//! pushed takes the place of what was damaged. (That of a manifest's row is forgotten by a trigger of `manifests`.)

use super::blobs::{digest, size};
use super::dialect::for_no_key_update;
use super::reviews::time;
use super::uploads::condemn_object;
use super::{Batch, Connection, Store, Transaction, read, repositories};
use crate::cache::Change;
use crate::{Content, DamagedBlob, DamagedManifest, DamagedRow, Result, StoredObject};
use longshore_oci::RepositoryName;

statements! {
    MARK = "INSERT INTO damaged_blobs (blob_id, reason, found_at) \
        SELECT b.id, $3, c.now FROM blobs b JOIN objects o ON o.id = b.object_id CROSS JOIN clock c \
        WHERE b.id = $1 AND o.key = $2 ON CONFLICT (blob_id) DO NOTHING";
    // Locked, so that whoever mends the row at this moment either is seen here, or sees this.
    MARK_INLINE = concat!("INSERT INTO damaged_blobs (blob_id, reason, found_at) SELECT b.id, $3, (SELECT now FROM clock) \
        FROM blobs b WHERE b.digest = $1 AND b.inline = $2", for_no_key_update!("b"), " ON CONFLICT (blob_id) DO NOTHING");
    MARK_MANIFEST = concat!("INSERT INTO damaged_manifests (manifest_id, reason, found_at) \
        SELECT m.id, $4, (SELECT now FROM clock) FROM manifests m \
        WHERE m.repository_id = (SELECT id FROM repositories WHERE name = $1) AND m.digest = $2 AND m.body = $3",
        for_no_key_update!("m"), " ON CONFLICT (manifest_id) DO NOTHING");
    HOLDER = "SELECT r.name FROM repository_blobs g JOIN repositories r ON r.id = g.repository_id WHERE g.blob_id = $1 \
        ORDER BY g.repository_id LIMIT 1";
    CLEAR = "DELETE FROM damaged_blobs WHERE blob_id = $1";
    CLEAR_MANIFEST = "DELETE FROM damaged_manifests WHERE manifest_id = $1";
    OBJECT_OF = "SELECT object_id FROM blobs WHERE id = $1";
    REPLACE = "UPDATE blobs SET object_id = $2, inline = $3 WHERE id = $1";
    LIST = "SELECT d.blob_id, b.digest, b.size, o.key, d.reason, d.found_at FROM damaged_blobs d \
        JOIN blobs b ON b.id = d.blob_id LEFT JOIN objects o ON o.id = b.object_id \
        WHERE d.blob_id > $1 ORDER BY d.blob_id LIMIT $2";
    COUNT = "SELECT count(*) FROM damaged_blobs WHERE blob_id > 0";
    LIST_MANIFESTS = "SELECT d.manifest_id, r.name, m.digest, m.size, d.reason, d.found_at FROM damaged_manifests d \
        JOIN manifests m ON m.id = d.manifest_id JOIN repositories r ON r.id = m.repository_id \
        WHERE d.manifest_id > $1 ORDER BY d.manifest_id LIMIT $2";
    COUNT_MANIFESTS = "SELECT count(*) FROM damaged_manifests WHERE manifest_id > 0";
    MEND_INLINE = "UPDATE blobs SET inline = $2 WHERE id = $1 AND inline <> $2";
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

/// Gives a small blob its bytes, where those in its row are others though nobody has found that out yet. (Whoever reads
/// them from there sees it, so that no memory holds them.)
pub(super) async fn mend_inline(connection: &mut Connection, blob_id: i64, inline: Option<&[u8]>) -> Result<()> {
    sqlx::query(MEND_INLINE).bind(blob_id).bind(inline).execute(&mut *connection).await?;
    // Somebody may have found it out meanwhile.
    sqlx::query(CLEAR).bind(blob_id).execute(connection).await?;
    Ok(())
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

impl Transaction for DamagedRow {
    type Output = bool;

    /// Any repository may hold a blob.
    fn changes(&self) -> Vec<Change> {
        match &self.repository {
            None => vec![Change::Everything],
            Some(repository) => vec![Change::Manifest(repository.clone(), self.digest)],
        }
    }

    /// Whose bytes are others by now was pushed anew.
    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let mark = match &self.repository {
            None => sqlx::query(MARK_INLINE),
            Some(repository) => sqlx::query(MARK_MANIFEST).bind(repository.as_str()),
        };
        let mark = mark.bind(self.digest.to_bytes()).bind(&self.bytes).bind(&self.reason);
        Ok(mark.execute(connection).await?.rows_affected() == 1)
    }
}

struct Clear {
    statement: &'static str,
    id: i64,
}

impl Transaction for Clear {
    type Output = bool;

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        Ok(sqlx::query(self.statement).bind(self.id).execute(connection).await?.rows_affected() == 1)
    }
}

#[derive(sqlx::FromRow)]
struct BlobRow {
    blob_id: i64,
    digest: Vec<u8>,
    size: i64,
    key: Option<String>,
    reason: String,
    found_at: i64,
}

#[derive(sqlx::FromRow)]
struct ManifestRow {
    manifest_id: i64,
    name: String,
    digest: Vec<u8>,
    size: i64,
    reason: String,
    found_at: i64,
}

impl Store {
    pub(crate) async fn mark_damaged(&self, object: StoredObject, reason: String) -> Result<bool> {
        self.write(Mark { object, reason }).await
    }

    pub(crate) async fn holder_of(&self, object: &StoredObject) -> Result<Option<RepositoryName>> {
        let told: Result<Option<String>> = read!(self.connections, connection => {
            Ok(sqlx::query_scalar(HOLDER).bind(object.blob).fetch_optional(connection).await?)
        });
        told?.as_deref().map(repositories::name).transpose()
    }

    pub(crate) async fn clear_damage(&self, object: &StoredObject) -> Result<bool> {
        self.write(Clear { statement: CLEAR, id: object.blob }).await
    }

    pub(crate) async fn mark_damaged_row(&self, row: DamagedRow) -> Result<bool> {
        self.write(row).await
    }

    pub(crate) async fn clear_damaged_row(&self, content: &Content) -> Result<bool> {
        let clear = match &content.repository {
            None => Clear { statement: CLEAR, id: content.place.0 },
            Some(_) => Clear { statement: CLEAR_MANIFEST, id: content.place.1 },
        };
        self.write(clear).await
    }

    pub(crate) async fn damaged_manifests(&self, after: i64, limit: u32) -> Result<Vec<DamagedManifest>> {
        let told: Result<Vec<ManifestRow>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(LIST_MANIFESTS).bind(after).bind(i64::from(limit)).fetch_all(connection).await?)
        });
        let manifest = |row: ManifestRow| {
            Ok(DamagedManifest {
                number: row.manifest_id,
                repository: repositories::name(&row.name)?,
                digest: digest(&row.digest)?,
                size: size(row.size)?,
                reason: row.reason,
                found_at: time(row.found_at)?,
            })
        };
        told?.into_iter().map(manifest).collect()
    }

    pub(crate) async fn count_damaged_manifests(&self) -> Result<u64> {
        let told: Result<i64> =
            read!(self.connections, connection => Ok(sqlx::query_scalar(COUNT_MANIFESTS).fetch_one(connection).await?));
        size(told?)
    }

    pub(crate) async fn damaged_blobs(&self, after: i64, limit: u32) -> Result<Vec<DamagedBlob>> {
        let told: Result<Vec<BlobRow>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(LIST).bind(after).bind(i64::from(limit)).fetch_all(connection).await?)
        });
        let blob = |row: BlobRow| {
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
