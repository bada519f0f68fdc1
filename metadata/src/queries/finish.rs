//! The end of a small upload: one transaction, from the session's row to the blob's.

use super::blobs::{self, size};
use super::dialect::for_update;
use super::uploads::{claim, end_session};
use super::{Batch, Connection, Store, Transaction};
use crate::{FinishOutcome, FinishUpload, Result, UploadAddress};
use longshore_oci::Digest;
use std::borrow::Cow;

statements! {
    LOCK = concat!("SELECT repository_id, received, staged, object_id FROM uploads WHERE id = $1 \
        AND repository_id = (SELECT id FROM repositories WHERE name = $2) \
        AND principal IS NOT DISTINCT FROM $3 AND expires_at > (SELECT now FROM clock)", for_update!());
}

type SessionRow = (i64, i64, Option<Vec<u8>>, Option<i64>);

/// A session as it stands, held until the transaction ends: whoever else has claimed it comes too late.
struct Locked {
    repository_id: i64,
    received: u64,
    staged: Vec<u8>,
    object_id: Option<i64>,
}

impl Locked {
    async fn find(connection: &mut Connection, address: &UploadAddress) -> Result<Option<Self>> {
        let row: Option<SessionRow> = sqlx::query_as(LOCK)
            .bind(address.id.to_string())
            .bind(address.repository.as_str())
            .bind(&address.principal)
            .fetch_optional(connection)
            .await?;
        let Some((repository_id, received, staged, object_id)) = row else { return Ok(None) };
        Ok(Some(Self { repository_id, received: size(received)?, staged: staged.unwrap_or_default(), object_id }))
    }

    /// All bytes of the blob, unless they are in an object, or more than `most`.
    fn joined<'a>(&self, last: &'a [u8], most: usize) -> Option<Cow<'a, [u8]>> {
        let is_in_object = self.received > 0 && self.staged.is_empty();
        if is_in_object || self.staged.len() + last.len() > most {
            None
        } else if self.staged.is_empty() {
            Some(last.into())
        } else {
            Some([&self.staged, last].concat().into())
        }
    }
}

impl Transaction for FinishUpload {
    type Output = FinishOutcome;

    async fn run(&self, connection: &mut Connection) -> Result<FinishOutcome> {
        let Some(session) = Locked::find(connection, &self.address).await? else {
            return Ok(FinishOutcome::Unknown);
        };
        if self.start.is_some_and(|start| start != session.received) {
            return Ok(FinishOutcome::OutOfOrder { received: session.received });
        }
        let Some(content) = session.joined(&self.bytes, self.most) else {
            let claimed = claim(connection, &self.address, self.lifetime).await?;
            return Ok(claimed.map_or(FinishOutcome::Unknown, FinishOutcome::Claimed));
        };
        let computed = Digest::of(self.digest.algorithm(), &content);
        if computed != self.digest {
            return Ok(FinishOutcome::DigestMismatch { computed });
        }
        let size = content.len() as u64;
        let (blob_id, _) = blobs::find_or_insert(connection, &self.digest, size, None, Some(&content)).await?;
        let mut batch = Batch::default();
        blobs::add_grant(&mut batch, session.repository_id, blob_id);
        end_session(&mut batch, &self.address.id.to_string(), session.object_id, "the blob needed no object");
        batch.execute(connection).await?;
        Ok(FinishOutcome::Committed)
    }
}

impl Store {
    pub(crate) async fn finish_upload(&self, finish: FinishUpload) -> Result<FinishOutcome> {
        self.write(finish).await
    }
}
