//! Writing an object: what arrives is gathered into batches; while one batch is hashed on one thread and written on
//! another, the next one arrives. At most two batches are in memory.
//!
//! What is written goes to the disk while more arrives, and not only at the end: the sync that a client waits for has
//! the last few MiB to do, however large the layer is.

use crate::{BlobHasher, Error, ObjectKey, Result, blocking::Lanes, folders::sync_folder};
use bytes::{Bytes, BytesMut};
use std::{
    fs::File,
    io::{self, IoSlice, Write},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::{JoinHandle, spawn_blocking},
};

/// How many bytes are hashed and written in one go: large enough that handing them to other threads costs little.
const BATCH: usize = 1024 * 1024;
/// A batch that is younger waits for more. So a client that sends a few bytes now and then holds few of them here.
pub const GATHER: Duration = Duration::from_millis(50);
/// Pieces below this size are copied together: each may keep alive a much larger buffer of the connection.
const SMALL_PIECE: usize = 16 * 1024;
/// Batches below this size are hashed and written by one thread: a second one would cost more than it saves.
const WORTH_TWO_THREADS: usize = 256 * 1024;
/// So many bytes are written before they are sent to the disk.
const SYNC_EVERY: u64 = 8 * 1024 * 1024;

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
    batch: Batch,
    state: State,
    /// The sync that goes on beside the writing, and how many bytes were written since it began.
    syncing: Option<JoinHandle<io::Result<()>>>,
    unsynced: u64,
    /// The folder that is still to be fsynced because the file's name in it may be new.
    named_in: Option<PathBuf>,
    lanes: Lanes,
}

/// File and hash are either here, or with the threads that work on a batch.
#[derive(Debug)]
enum State {
    Idle(Arc<File>, Box<BlobHasher>),
    Busy(JoinHandle<io::Result<Arc<File>>>, Hashing),
    Failed,
}

/// Who hashes the batch that is under way.
#[derive(Debug)]
enum Hashing {
    /// A thread of its own.
    Beside(JoinHandle<Box<BlobHasher>>),
    /// The thread that writes, before it writes.
    Before(tokio::sync::oneshot::Receiver<Box<BlobHasher>>),
}

/// What has arrived and is not on its way to the file yet.
#[derive(Debug)]
struct Batch {
    pieces: Vec<Bytes>,
    /// Small pieces, copied together; they come after `pieces`.
    tail: BytesMut,
    length: usize,
    begun: Instant,
}

impl Batch {
    fn new() -> Self {
        Self { pieces: Vec::new(), tail: BytesMut::new(), length: 0, begun: Instant::now() }
    }

    fn push(&mut self, bytes: Bytes) {
        if self.length == 0 {
            self.begun = Instant::now();
        }
        self.length += bytes.len();
        if bytes.len() < SMALL_PIECE {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.end_tail();
            self.pieces.push(bytes);
        }
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(std::mem::take(&mut self.tail).freeze());
        }
    }

    fn is_ripe(&self) -> bool {
        self.length >= BATCH || self.length > 0 && self.begun.elapsed() >= GATHER
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.end_tail();
        self.length = 0;
        std::mem::take(&mut self.pieces)
    }
}

impl ObjectWriter {
    pub(crate) fn new(
        key: ObjectKey,
        file: File,
        hasher: BlobHasher,
        length: u64,
        named_in: Option<PathBuf>,
        lanes: Lanes,
    ) -> Self {
        let state = State::Idle(Arc::new(file), Box::new(hasher));
        Self { key, length, batch: Batch::new(), state, syncing: None, unsynced: 0, named_in, lanes }
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
        self.batch.push(bytes);
        if self.batch.is_ripe() { self.start_batch().await } else { Ok(()) }
    }

    /// Sends what has arrived on its way to the file: for when nothing has come for [`GATHER`].
    pub async fn flush(&mut self) -> Result<()> {
        if self.batch.length > 0 { self.start_batch().await } else { Ok(()) }
    }

    /// Makes all that was given durable: on the disk, under its name.
    pub async fn sync(&mut self) -> Result<Durable> {
        self.flush().await?;
        let (file, hasher) = self.idle().await?;
        self.end_sync().await?;
        let named_in = self.named_in.take();
        let turn = self.lanes.turn().await?;
        let synced = spawn_blocking(move || {
            let _turn = turn;
            file.sync_data()?;
            named_in.as_deref().map_or(Ok(()), sync_folder)?;
            Ok(file)
        });
        let file = synced.await.map_err(|_| Error::ShuttingDown)?.map_err(|source| Error::io(&self.key, source))?;
        self.unsynced = 0;
        self.state = State::Idle(file, hasher.clone());
        Ok(Durable { length: self.length, hasher: *hasher })
    }

    async fn start_batch(&mut self) -> Result<()> {
        let (file, hasher) = self.idle().await?;
        self.start_sync(&file).await?;
        let length = self.batch.length;
        self.unsynced += length as u64;
        let turn = self.lanes.turn().await?;
        let batch: Arc<[Bytes]> = self.batch.take().into();
        let work = if length < WORTH_TWO_THREADS { one_thread } else { two_threads };
        self.state = work(file, hasher, batch, turn);
        Ok(())
    }

    /// Sends what is written to the disk, beside everything else, if it is much and the sync before is through.
    async fn start_sync(&mut self, file: &Arc<File>) -> Result<()> {
        if self.unsynced < SYNC_EVERY || self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            return Ok(());
        }
        self.end_sync().await?;
        let (file, turn) = (file.clone(), self.lanes.turn().await?);
        self.syncing = Some(spawn_blocking(move || {
            let _turn = turn;
            file.sync_data()
        }));
        self.unsynced = 0;
        Ok(())
    }

    /// Waits for the sync that is under way. Its failure is the only word of a failing disk that we get: the kernel
    /// tells it once.
    async fn end_sync(&mut self) -> Result<()> {
        let Some(syncing) = self.syncing.take() else { return Ok(()) };
        let synced = syncing
            .await
            .map_err(|_| Error::ShuttingDown)
            .and_then(|synced| synced.map_err(|source| Error::io(&self.key, source)));
        if synced.is_err() {
            self.state = State::Failed;
        }
        synced
    }

    /// Waits for the batch that is under way, and takes file and hash.
    async fn idle(&mut self) -> Result<(Arc<File>, Box<BlobHasher>)> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(file, hasher) => Ok((file, hasher)),
            State::Busy(writing, hashing) => {
                // Both are waited for, so that no thread works on the object once this has returned.
                let (written, hasher) = tokio::join!(writing, hashing.end());
                let file = written.map_err(|_| Error::ShuttingDown)?.map_err(|source| Error::io(&self.key, source))?;
                Ok((file, hasher.ok_or(Error::ShuttingDown)?))
            }
            State::Failed => Err(Error::io(&self.key, io::Error::other("an earlier write of this object failed"))),
        }
    }
}

impl Hashing {
    async fn end(self) -> Option<Box<BlobHasher>> {
        match self {
            Self::Beside(thread) => thread.await.ok(),
            Self::Before(hasher) => hasher.await.ok(),
        }
    }
}

fn two_threads(file: Arc<File>, mut hasher: Box<BlobHasher>, batch: Arc<[Bytes]>, turn: OwnedSemaphorePermit) -> State {
    let to_hash = batch.clone();
    let hashing = spawn_blocking(move || {
        to_hash.iter().for_each(|bytes| hasher.update(bytes));
        hasher
    });
    let writing = spawn_blocking(move || {
        let _turn = turn;
        write_all(file, &batch)
    });
    State::Busy(writing, Hashing::Beside(hashing))
}

fn one_thread(file: Arc<File>, mut hasher: Box<BlobHasher>, batch: Arc<[Bytes]>, turn: OwnedSemaphorePermit) -> State {
    let (hashed, hashing) = tokio::sync::oneshot::channel();
    let writing = spawn_blocking(move || {
        let _turn = turn;
        batch.iter().for_each(|bytes| hasher.update(bytes));
        // A writer that was dropped does not want it any more.
        let _ = hashed.send(hasher);
        write_all(file, &batch)
    });
    State::Busy(writing, Hashing::Before(hashing))
}

fn write_all(file: Arc<File>, batch: &[Bytes]) -> io::Result<Arc<File>> {
    let mut slices: Vec<IoSlice<'_>> = batch.iter().map(|bytes| IoSlice::new(bytes)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0); // drops empty slices at the front
    while !rest.is_empty() {
        match (&*file).write_vectored(rest) {
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
        let large = Bytes::from(vec![b'x'; 400 * 1024]);
        for place in 0..3000 {
            // As a connection's buffer gives them: one byte that keeps the whole buffer alive.
            writer.write(large.slice(place..=place)).await.unwrap();
            assert!(writer.batch.pieces.is_empty());
            assert!(writer.batch.tail.capacity() <= 16 * 1024);
        }
        drop(large);
        let durable = writer.sync().await.unwrap();
        assert_eq!(durable.hasher.digest(), Digest::of(Algorithm::Sha256, &[b'x'; 3000]));
    }

    #[tokio::test]
    async fn small_and_large_pieces_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileStore::open(folder.path(), 0).unwrap();
        let hasher = BlobHasher::new(Algorithm::Sha256);
        let mut writer = files.create(ObjectKey::random(), hasher, Vec::new()).await.unwrap();
        let mut expected = Vec::new();
        for (number, length) in [1, SMALL_PIECE, 2, 3, BATCH, 5, SMALL_PIECE - 1, 2 * BATCH, 1].into_iter().enumerate()
        {
            let piece = vec![number as u8; length];
            expected.extend_from_slice(&piece);
            writer.write(piece.into()).await.unwrap();
            if number % 3 == 0 {
                writer.flush().await.unwrap();
            }
        }
        let durable = writer.sync().await.unwrap();
        assert_eq!(durable.length, expected.len() as u64);
        assert_eq!(durable.hasher.digest(), Digest::of(Algorithm::Sha256, &expected));
    }
}
