//! Writing an object: what arrives is gathered into batches; while one batch is hashed on one thread and written on
//! another, the next one arrives. At most two batches are in memory.

use crate::files::sync_folder;
use crate::{BlobHasher, Error, ObjectKey, Result};
use bytes::Bytes;
use std::{
    fs::File,
    io::{self, IoSlice, Write},
    path::PathBuf,
    sync::Arc,
};
use tokio::task::{JoinHandle, spawn_blocking};

/// How many bytes are hashed and written in one go: large enough that handing them to other threads costs little.
const BATCH: usize = 1024 * 1024;
/// A batch has at most so many pieces: a client may send its bytes one by one, and each piece costs memory of its own.
const MAX_PIECES: usize = 1024;

/// What `sync` made durable.
#[derive(Debug, Clone)]
pub struct Durable {
    /// How long the object is.
    pub length: u64,
    /// The hash after these bytes.
    pub hasher: BlobHasher,
}

/// Appends to one object, whose file it holds locked: a thread that is left behind with a batch when a writer is
/// dropped has ended before the next writer begins.
///
/// After an error the object holds an unknown number of bytes more than was last synced; resuming cuts them off.
#[derive(Debug)]
pub struct ObjectWriter {
    key: ObjectKey,
    length: u64,
    batch: Vec<Bytes>,
    batch_length: usize,
    state: State,
    /// The folder that is still to be fsynced because the file's name in it may be new.
    named_in: Option<PathBuf>,
}

/// File and hash are either here, or with the two threads that work on a batch.
#[derive(Debug)]
enum State {
    Idle(File, Box<BlobHasher>),
    Busy(JoinHandle<io::Result<File>>, JoinHandle<Box<BlobHasher>>),
    Failed,
}

impl ObjectWriter {
    pub(crate) fn new(key: ObjectKey, file: File, hasher: BlobHasher, length: u64, named_in: Option<PathBuf>) -> Self {
        Self { key, length, batch: Vec::new(), batch_length: 0, state: State::Idle(file, Box::new(hasher)), named_in }
    }

    /// The object's key.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// How long the object is with all that was given so far, durable or not.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends some bytes. Waits only while the two batches before are not through.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.length += bytes.len() as u64;
        self.batch_length += bytes.len();
        self.batch.push(bytes);
        let is_full = self.batch_length >= BATCH || self.batch.len() >= MAX_PIECES;
        if is_full { self.start_batch().await } else { Ok(()) }
    }

    /// Makes all that was given durable: on the disk, under its name.
    pub async fn sync(&mut self) -> Result<Durable> {
        if !self.batch.is_empty() {
            self.start_batch().await?;
        }
        let (file, hasher) = self.idle().await?;
        let named_in = self.named_in.take();
        let synced = spawn_blocking(move || {
            file.sync_data()?;
            named_in.as_deref().map_or(Ok(()), sync_folder)?;
            Ok(file)
        });
        let file = synced.await.map_err(|_| Error::ShuttingDown)?.map_err(|source| Error::io(&self.key, source))?;
        self.state = State::Idle(file, hasher.clone());
        Ok(Durable { length: self.length, hasher: *hasher })
    }

    async fn start_batch(&mut self) -> Result<()> {
        let (file, mut hasher) = self.idle().await?;
        let batch: Arc<[Bytes]> = std::mem::take(&mut self.batch).into();
        self.batch_length = 0;
        let to_hash = batch.clone();
        let hashing = spawn_blocking(move || {
            to_hash.iter().for_each(|bytes| hasher.update(bytes));
            hasher
        });
        let writing = spawn_blocking(move || write_all(file, &batch));
        self.state = State::Busy(writing, hashing);
        Ok(())
    }

    /// Waits for the batch that is under way, and takes file and hash.
    async fn idle(&mut self) -> Result<(File, Box<BlobHasher>)> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(file, hasher) => Ok((file, hasher)),
            State::Busy(writing, hashing) => {
                // Both are waited for, so that no thread works on the object once this has returned.
                let (written, hasher) = tokio::join!(writing, hashing);
                let file = written.map_err(|_| Error::ShuttingDown)?.map_err(|source| Error::io(&self.key, source))?;
                Ok((file, hasher.map_err(|_| Error::ShuttingDown)?))
            }
            State::Failed => Err(Error::io(&self.key, io::Error::other("an earlier write of this object failed"))),
        }
    }
}

fn write_all(mut file: File, batch: &[Bytes]) -> io::Result<File> {
    let mut slices: Vec<IoSlice<'_>> = batch.iter().map(|bytes| IoSlice::new(bytes)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0); // drops empty slices at the front
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileStore;
    use longshore_oci::{Algorithm, Digest};

    #[tokio::test]
    async fn bytes_that_come_one_by_one_do_not_pile_up() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileStore::open(folder.path(), 0).unwrap();
        let hasher = BlobHasher::new(Algorithm::Sha256);
        let mut writer = files.create(ObjectKey::random(), hasher, Vec::new()).await.unwrap();
        for _ in 0..3 * MAX_PIECES {
            writer.write(Bytes::from_static(b"x")).await.unwrap();
            assert!(writer.batch.len() < MAX_PIECES);
        }
        let durable = writer.sync().await.unwrap();
        assert_eq!(durable.hasher.digest(), Digest::of(Algorithm::Sha256, &[b'x'; 3 * MAX_PIECES]));
    }
}
