//! The end of a small upload: one transaction, from the session's row to the blob's.

use super::blobs::{self, size};
use super::dialect::for_update;
use super::parts::SessionObjects;
use super::uploads::{claim, end_session};
use super::usage::Place;
use super::{Batch, Connection, Store, Transaction};
use crate::{FinishOutcome, FinishUpload, Quotas, Result, UploadAddress};
use longshore_oci::Digest;
use std::borrow::Cow;

statements! {
    LOCK = concat!("SELECT repository_id, received, staged, object_id, tail_id, next_tail_id, backend_upload FROM uploads WHERE id = $1 \
        AND repository_id = (SELECT id FROM repositories WHERE name = $2) \
        AND principal IS NOT DISTINCT FROM $3 AND expires_at > (SELECT now FROM clock)", for_update!());
}

/// A session as it stands, held until the transaction ends: whoever else has claimed it comes too late.
#[derive(sqlx::FromRow)]
struct Locked {
    repository_id: i64,
    received: i64,
    staged: Option<Vec<u8>>,
    #[sqlx(flatten)]
    objects: SessionObjects,
}

impl Locked {
    async fn find(connection: &mut Connection, address: &UploadAddress) -> Result<Option<Self>> {
        let row = sqlx::query_as(LOCK)
            .bind(address.id.to_string())
            .bind(address.repository.as_str())
            .bind(&address.principal)
            .fetch_optional(connection)
            .await?;
        Ok(row)
    }

    /// All bytes of the blob, unless they are in an object, or more than `most`.
    fn joined<'a>(&self, last: &'a [u8], most: usize) -> Option<Cow<'a, [u8]>> {
        let staged = self.staged.as_deref().unwrap_or_default();
        let is_in_object = self.received > 0 && staged.is_empty();
        if is_in_object || staged.len() + last.len() > most {
            None
        } else if staged.is_empty() {
            Some(last.into())
        } else {
            Some([staged, last].concat().into())
        }
    }
}

impl Transaction for FinishUpload {
    type Output = FinishOutcome;

    async fn run(&self, connection: &mut Connection) -> Result<FinishOutcome> {
        let Some(session) = Locked::find(connection, &self.address).await? else {
            return Ok(FinishOutcome::Unknown);
        };
        let received = size(session.received)?;
        if self.start.is_some_and(|start| start != received) {
            return Ok(FinishOutcome::OutOfOrder { received });
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
        end_session(&mut batch, &self.address.id.to_string(), &session.objects, "the blob needed no object");
        batch.execute(connection).await?;
        Ok(FinishOutcome::Committed)
    }
}

impl Store {
    pub(crate) async fn finish_upload(&self, finish: FinishUpload, quotas: &Quotas) -> Result<FinishOutcome> {
        self.write_within(finish, |finish| Place::Repository(finish.address.repository.clone()), quotas).await
    }
}
