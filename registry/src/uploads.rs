//! Pushing blobs: sessions, chunks, the whole blob in one request, mounts.

use crate::{Error, Registry, Result, session::Session};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::BoxFuture};
use longshore_metadata::{
    FinishOutcome, FinishUpload, MountOutcome, NewUpload, PutInlineBlob, UploadAddress, UploadId, UploadRecord,
};
use longshore_oci::{Algorithm, Digest, RepositoryName};
use longshore_storage::{BlobHasher, GATHER};
use std::{pin::Pin, time::Duration};

/// The bytes of a request as they arrive.
pub type Body = Pin<Box<dyn Stream<Item = std::result::Result<Bytes, BodyError>> + Send>>;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client hung up, or broke the rules of HTTP.
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No byte came for too long.
    #[error("no byte came for {seconds} s")]
    Idle {
        /// How long.
        seconds: u64,
    },
}

/// A part of a blob.
pub struct Chunk {
    /// Where it says that it begins.
    pub start: Option<u64>,
    /// How long it says that it is.
    pub length: Option<u64>,
    /// Its bytes.
    pub body: Body,
}

/// Where a mount without `from` looks: more repositories than this hold only what everybody has.
const MOUNT_CANDIDATES: u32 = 100;

/// How long the last bytes of an upload may take before their session is claimed. A claim gives the session its time
/// anew, and tells a client that is wrong about it so: neither may depend on how slowly bytes come.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);

impl Registry {
    /// Opens an upload session whose bytes are to be hashed by this algorithm.
    pub async fn begin_upload(
        &self,
        repository: &RepositoryName,
        by: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<UploadId> {
        let upload = NewUpload {
            repository: repository.clone(),
            principal: by.map(str::to_owned),
            hash_state: BlobHasher::new(algorithm).save(),
            lifetime: self.rules.upload_lifetime,
        };
        Ok(self.metadata.begin_upload(upload).await?)
    }

    /// How many bytes of the session are durable.
    pub async fn upload_progress(&self, address: UploadAddress) -> Result<u64> {
        let id = address.id;
        let record = self.metadata.find_upload(address).await?;
        record.map(|record| record.received).ok_or(Error::UploadUnknown { id })
    }

    /// Appends a chunk; answers how many bytes of the session are durable now. If the body breaks off, what came
    /// before is kept.
    pub async fn append(&self, address: UploadAddress, chunk: Chunk) -> Result<u64> {
        let registry = self.clone();
        detached(Box::pin(async move {
            let turn = registry.sessions.enter(address.id).ok_or(Error::UploadBusy { id: address.id })?;
            let mut session = registry.claim(address, chunk.start).await?;
            let outcome = receive(&mut session, chunk).await;
            let saved = match outcome {
                Ok(()) => session.save().await,
                // A later request goes on from here.
                Err(Error::Body(error)) => session.save().await.and(Err(error.into())),
                Err(error) => Err(session.undo(error).await),
            };
            drop(turn);
            saved
        }))
        .await
    }

    /// Appends what is left and ends the session with a blob of this digest. If that fails, the session is as it was.
    pub async fn finish_upload(&self, address: UploadAddress, digest: Digest, chunk: Chunk) -> Result<()> {
        let registry = self.clone();
        detached(Box::pin(async move {
            let turn = registry.sessions.enter(address.id).ok_or(Error::UploadBusy { id: address.id })?;
            let finished = registry.finish(address.clone(), digest, chunk).await;
            drop(turn);
            match finished {
                Err(Error::UploadUnknown { id }) => registry.ended_before(address, id, digest).await,
                finished => finished,
            }
        }))
        .await
    }

    /// The end of a session that is not there. It may have been sent before, by a proxy or a client that heard nothing since
    /// the replica died behind its commit: where the repository holds the blob, that is what the caller wanted, and the blob
    /// stays for the promised time as after any end. The bytes need not come again: those under the digest were verified.
    /// Nobody learns more by it than who may push here learns by pushing a manifest that names the blob.
    async fn ended_before(&self, address: UploadAddress, id: UploadId, digest: Digest) -> Result<()> {
        match self.promise_blob(&address.repository, &digest).await {
            Err(Error::BlobUnknown { .. }) => Err(Error::UploadUnknown { id }),
            held => held.map(drop),
        }
    }

    /// Takes a whole blob in one request. A small one needs no session: it is one transaction.
    pub async fn push_blob(
        &self,
        repository: &RepositoryName,
        by: Option<&str>,
        digest: Digest,
        mut chunk: Chunk,
    ) -> Result<()> {
        let (registry, repository, by) = (self.clone(), repository.clone(), by.map(str::to_owned));
        detached(Box::pin(async move {
            let mut head = Vec::new();
            if chunk.read_head(registry.rules.inline_max, &mut head).await? {
                return registry.put_small_blob(repository, digest, head).await;
            }
            let id = registry.begin_upload(&repository, by.as_deref(), digest.algorithm()).await?;
            let turn = registry.sessions.enter(id).ok_or(Error::UploadBusy { id })?;
            let address = UploadAddress { repository, id, principal: by };
            let pushed = registry.finish_unnamed(address.clone(), digest, chunk.with_head(head)).await;
            drop(turn);
            if pushed.is_err()
                && let Err(error) = registry.metadata.cancel_upload(address).await
            {
                // Nobody knows this session's name: nobody else will end it before it expires.
                tracing::warn!(%id, %error, "an upload that failed stays until it expires");
            }
            pushed
        }))
        .await
    }

    /// Ends the session of a push in one request, whose client knows of no session. A database that breaks down may lose one
    /// that is empty, and nobody else can have taken it.
    async fn finish_unnamed(&self, address: UploadAddress, digest: Digest, chunk: Chunk) -> Result<()> {
        match self.finish_large(address.clone(), digest, chunk).await {
            Err(Error::UploadUnknown { id } | Error::UploadBusy { id }) => {
                self.ended_before(address, id, digest).await.map_err(|error| match error {
                    Error::UploadUnknown { .. } => Error::PushLost,
                    error => error,
                })
            }
            pushed => pushed,
        }
    }

    async fn put_small_blob(&self, repository: RepositoryName, declared: Digest, content: Vec<u8>) -> Result<()> {
        self.rules.check_blob_size(content.len() as u64)?;
        let computed = Digest::of(declared.algorithm(), &content);
        if computed != declared {
            return Err(Error::DigestMismatch { declared, computed });
        }
        Ok(self.metadata.put_inline_blob(PutInlineBlob { repository, digest: declared, content }).await?)
    }

    /// Ends a session by whichever way fits its last bytes.
    async fn finish(&self, address: UploadAddress, digest: Digest, mut chunk: Chunk) -> Result<()> {
        let most = self.rules.inline_max;
        let mut head = Vec::new();
        let may_be_small = chunk.length.is_none_or(|announced| announced <= most as u64);
        let is_whole = may_be_small
            && match tokio::time::timeout(HEAD_PATIENCE, chunk.read_head(most, &mut head)).await {
                Ok(read) => read?,
                Err(_) => false,
            };
        if is_whole && chunk.length.is_none_or(|announced| announced == head.len() as u64) {
            self.finish_small(address, digest, chunk, head).await
        } else {
            self.finish_large(address, digest, chunk.with_head(head)).await
        }
    }

    /// Ends a session whose last bytes are all here. If its other bytes are few too, that is one transaction.
    async fn finish_small(&self, address: UploadAddress, digest: Digest, chunk: Chunk, bytes: Vec<u8>) -> Result<()> {
        let (id, start) = (address.id, chunk.start);
        let most = self.rules.blob_max.map_or(self.rules.inline_max, |limit| {
            self.rules.inline_max.min(usize::try_from(limit).unwrap_or(usize::MAX))
        });
        let lifetime = self.rules.upload_lifetime;
        let finish = FinishUpload { address, digest, start, bytes: bytes.clone(), most, lifetime };
        match self.metadata.finish_upload(finish).await? {
            FinishOutcome::Committed => Ok(()),
            FinishOutcome::Unknown => Err(Error::UploadUnknown { id }),
            FinishOutcome::OutOfOrder { received } => {
                Err(Error::ChunkOutOfOrder { id, start: start.unwrap_or_default(), received })
            }
            FinishOutcome::DigestMismatch { computed } => Err(Error::DigestMismatch { declared: digest, computed }),
            FinishOutcome::Claimed(record) => {
                let mut session = Session::resume(self, record)?;
                session.expect(digest.algorithm());
                receive_and_commit(session, chunk.with_head(bytes), digest).await
            }
        }
    }

    /// Claims a session, appends what is left, and ends it.
    async fn finish_large(&self, address: UploadAddress, digest: Digest, chunk: Chunk) -> Result<()> {
        let mut session = self.claim(address, chunk.start).await?;
        session.expect(digest.algorithm());
        receive_and_commit(session, chunk, digest).await
    }

    /// Takes the session for this request, if the chunk goes on where it ends.
    async fn claim(&self, address: UploadAddress, start: Option<u64>) -> Result<Session> {
        let id = address.id;
        let record: Option<UploadRecord> = self.metadata.claim_upload(address, self.rules.upload_lifetime).await?;
        let record = record.ok_or(Error::UploadUnknown { id })?;
        let received = record.received;
        if let Some(start) = start
            && start != received
        {
            return Err(Error::ChunkOutOfOrder { id, start, received });
        }
        Session::resume(self, record)
    }

    /// Ends the session without a blob.
    pub async fn cancel_upload(&self, address: UploadAddress) -> Result<()> {
        let id = address.id;
        let _turn = self.sessions.enter(id).ok_or(Error::UploadBusy { id })?;
        if self.metadata.cancel_upload(address).await? { Ok(()) } else { Err(Error::UploadUnknown { id }) }
    }

    /// Grants a blob that another repository holds. Without `from`, any repository will do that `may_pull` lets the
    /// caller pull from. False where there is none: the client uploads then.
    pub async fn mount_blob(
        &self,
        target: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        may_pull: impl Fn(&RepositoryName) -> bool,
    ) -> Result<bool> {
        let candidates = match from {
            Some(from) => vec![from.clone()],
            None => self.metadata.repositories_holding(digest, MOUNT_CANDIDATES).await?,
        };
        for from in candidates.iter().filter(|candidate| may_pull(candidate)) {
            if self.metadata.mount_blob(target, from, digest).await? == MountOutcome::Mounted {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Writes the chunk's bytes to the session.
async fn receive(session: &mut Session, mut chunk: Chunk) -> Result<()> {
    let begin = session.length();
    while let Some(bytes) = next_piece(session, &mut chunk.body).await? {
        session.write(bytes).await?;
    }
    let sent = session.length() - begin;
    match chunk.length {
        Some(announced) if announced != sent => Err(Error::ChunkLength { announced, sent }),
        _ => Ok(()),
    }
}

/// The next bytes of the body. What came before does not wait for them in memory for long; nor do others, where that is the
/// memory which is for one at a time.
async fn next_piece(session: &mut Session, body: &mut Body) -> Result<Option<Bytes>> {
    let piece = match tokio::time::timeout(GATHER, body.next()).await {
        Ok(piece) => piece,
        Err(_) => {
            session.flush().await?;
            tokio::select! {
                piece = body.next() => piece,
                refused = session.refusal() => return Err(refused),
            }
        }
    };
    Ok(piece.transpose()?)
}

/// Writes the last chunk and ends the session with a blob of this digest.
async fn receive_and_commit(mut session: Session, chunk: Chunk, digest: Digest) -> Result<()> {
    match receive(&mut session, chunk).await {
        Ok(()) => session.commit(digest).await,
        Err(error) => Err(session.undo(error).await),
    }
}

/// Runs work that must come to its end even when the client, and with it the request, goes away: what is on its way
/// to the disk is waited for before another request may take the session. It comes in a box: otherwise whoever waits
/// here would keep room for it too, empty, for as long as the upload lasts.
async fn detached<T: Send + 'static>(work: BoxFuture<'static, Result<T>>) -> Result<T> {
    tokio::spawn(work).await.map_err(|_| Error::ShuttingDown)?
}
