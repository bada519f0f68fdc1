//! What a preview asks beside what waits in the queue: sessions that have not ended, and the manifests that need a blob.

use super::blobs::{digest, size};
use super::reviews::{stored_time, time};
use super::{Store, read, repositories};
use crate::{BlobUser, Error, OpenSession, Result, SessionPage};
use longshore_oci::{Digest, RepositoryName};

statements! {
    SESSIONS = "SELECT c.now, u.id, r.name, u.received, u.expires_at FROM clock c CROSS JOIN \
        (SELECT id, repository_id, received, expires_at FROM uploads WHERE (expires_at, id) > ($1, $2) \
            ORDER BY expires_at, id LIMIT $3) u \
        JOIN repositories r ON r.id = u.repository_id ORDER BY u.expires_at, u.id";
    USERS = "SELECT n.manifest_id, m.digest FROM manifest_blobs n CROSS JOIN manifests m \
        WHERE n.repository_id = (SELECT id FROM repositories WHERE name = $1) \
        AND n.blob_id = (SELECT id FROM blobs WHERE digest = $2) AND n.manifest_id > $3 AND m.id = n.manifest_id \
        ORDER BY n.manifest_id LIMIT $4";
}

#[derive(sqlx::FromRow)]
struct SessionRow {
    now: i64,
    id: String,
    name: String,
    received: i64,
    expires_at: i64,
}

impl SessionRow {
    fn session(self) -> Result<OpenSession> {
        let damaged = |error: uuid::Error| Error::Damaged { table: "uploads", reason: format!("{}: {error}", self.id) };
        Ok(OpenSession {
            id: self.id.parse().map_err(damaged)?,
            repository: repositories::name(&self.name)?,
            received: size(self.received)?,
            expires_at: time(self.expires_at)?,
        })
    }
}

impl Store {
    pub(crate) async fn open_sessions(&self, after: Option<&OpenSession>, limit: u32) -> Result<SessionPage> {
        let (expires_at, id) =
            after.map_or((i64::MIN, String::new()), |last| (stored_time(last.expires_at), last.id.to_string()));
        let told: Result<Vec<SessionRow>> = read!(self.connections, connection => {
            let page = sqlx::query_as(SESSIONS).bind(expires_at).bind(&id).bind(i64::from(limit));
            Ok(page.fetch_all(connection).await?)
        });
        let rows = told?;
        let now = time(rows.first().map_or(0, |row| row.now))?;
        Ok(SessionPage { now, sessions: rows.into_iter().map(SessionRow::session).collect::<Result<_>>()? })
    }

    pub(crate) async fn users_of_blob(
        &self,
        repository: &RepositoryName,
        blob: &Digest,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BlobUser>> {
        let told: Result<Vec<(i64, Vec<u8>)>> = read!(self.connections, connection => {
            let page = sqlx::query_as(USERS).bind(repository.as_str()).bind(blob.to_bytes());
            Ok(page.bind(after).bind(i64::from(limit)).fetch_all(connection).await?)
        });
        let user = |(number, own): (i64, Vec<u8>)| Ok(BlobUser { number, digest: digest(&own)? });
        told?.into_iter().map(user).collect()
    }
}
