//! Whether an object's bytes are what its digest says.

use super::{Batch, Rate, SAVED_EVERY, Scrubber};
use crate::{
    Error,
    length::{key_of, wrong_length},
};
use futures_util::TryStreamExt;
use longshore_metadata::StoredObject;
use longshore_storage::{BlobHasher, Error as StorageError, ObjectKey};
use tokio::time::Instant;

/// What an object was found to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Right,
    /// And what is wrong.
    Wrong(String),
    /// The store has no such object.
    Gone,
}

/// What is said of those that are gone.
pub(super) const GONE: &str = "it is not there, or too short";

impl Scrubber {
    /// Reads an object; once more where its bytes are wrong, since they may have become so on their way.
    pub(super) async fn verify(
        &self,
        object: &StoredObject,
        claim: i64,
        batch: &mut Batch,
        rate: &mut Rate,
    ) -> Result<Found, Error> {
        let key = match key_of(object) {
            Ok(key) => key,
            Err(reason) => return Ok(Found::Wrong(reason)),
        };
        match self.read(object, &key, claim, batch, rate).await? {
            Found::Right => Ok(Found::Right),
            Found::Wrong(_) | Found::Gone => self.read(object, &key, claim, batch, rate).await,
        }
    }

    /// What is wrong with an object already by its length.
    pub(super) async fn look(
        &self,
        object: &StoredObject,
        key: &ObjectKey,
        batch: &mut Batch,
    ) -> Result<Option<Found>, Error> {
        match wrong_length(&self.storage, key, object.size).await {
            Ok(reason) => {
                batch.is_store_there = true;
                Ok(reason.map(Found::Wrong))
            }
            Err(StorageError::Lost { .. }) => Ok(Some(Found::Gone)),
            Err(error) => judged(error).map(Some),
        }
    }

    async fn read(
        &self,
        object: &StoredObject,
        key: &ObjectKey,
        claim: i64,
        batch: &mut Batch,
        rate: &mut Rate,
    ) -> Result<Found, Error> {
        if let Some(found) = self.look(object, key, batch).await? {
            return Ok(found);
        }
        let mut hasher = BlobHasher::new(object.digest.algorithm());
        let mut bytes = match self.storage.read(key, 0..object.size).await {
            Ok(bytes) => bytes,
            Err(error) => return judged(error),
        };
        loop {
            let piece = match bytes.try_next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => return judged(error),
            };
            rate.turn(piece.len() as u64).await;
            batch.read(piece.len() as u64);
            // The object may take longer to read than others wait for us.
            if batch.saved + SAVED_EVERY < Instant::now() {
                self.save(claim, batch).await?;
            }
            hasher = tokio::task::spawn_blocking(move || {
                hasher.update(&piece);
                hasher
            })
            .await
            .map_err(|_| StorageError::ShuttingDown)?;
        }
        let digest = hasher.digest();
        Ok(if digest == object.digest {
            Found::Right
        } else {
            Found::Wrong(format!("its bytes are those of {digest}"))
        })
    }
}

/// The disk cannot read what is there (EIO).
const UNREADABLE: i32 = 5;

/// What an error says of an object: that a store does not answer says nothing.
fn judged(error: StorageError) -> Result<Found, Error> {
    match error {
        StorageError::Lost { .. } => Ok(Found::Wrong(GONE.to_owned())),
        StorageError::Io { source, .. } if source.raw_os_error() == Some(UNREADABLE) => {
            Ok(Found::Wrong(format!("the disk cannot read it: {source}")))
        }
        error => Err(error.into()),
    }
}
