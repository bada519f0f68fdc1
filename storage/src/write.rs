//! Writing an object: what arrives is copied into a batch; while one batch is hashed on one thread and written on
//! another, the next one is filled. So there are two buffers, used in turn: what the connection received into is free
//! again at once, and the file grows in large pieces.
//!
//! A file that grows quickly has room reserved for it before its bytes come: fewer, larger pieces on the disk, and less
//! work to find them. What was reserved in vain is given back with the next sync.
//!
//! What is written goes to the disk while more arrives, and not only at the end: the sync that a client waits for has
//! the last few MiB to do, however large the layer is.

use crate::{BlobHasher, Error, Layout, ObjectKey, Result, blocking::Lanes, folders::sync_folder};
use bytes::Bytes;
use rustix::fs::FallocateFlags;
use std::{
    fs::File,
    io::{self, Write},
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::{JoinHandle, spawn_blocking},
};

/// How many bytes are hashed and written in one go: large enough that handing them to other threads costs little, small
/// enough that the cache of a processor has them still when they are read.
const BATCH: usize = 1024 * 1024;
/// A batch that is younger waits for more. So a client that sends a few bytes now and then holds few of them here.
pub const GATHER: Duration = Duration::from_millis(50);
/// Batches below this size are hashed and written by one thread: a second one would cost more than it saves.
const WORTH_TWO_THREADS: usize = 256 * 1024;
/// So many bytes are written before they are sent to the disk.
const SYNC_EVERY: u64 = 8 * 1024 * 1024;

/// A file of this length has shown that it grows quickly. From there on room is reserved in steps as long as the file,
/// up to the longest: what an upload that ends early has reserved in vain is never more than what it has written.
const WORTH_RESERVING: u64 = 8 * 1024 * 1024;
const LONGEST_STEP: u64 = 64 * 1024 * 1024;

/// What `sync` made durable.
#[derive(Debug, Clone)]
pub struct Durable {
    /// How long the object is.
    pub length: u64,
    /// The hash after these bytes.
    pub hasher: BlobHasher,
    /// How they are kept.
    pub layout: Layout,
}

/// Appends to one object, whose file it holds locked: a thread that is left behind with a batch when a writer is
/// dropped has ended before the next writer begins.
///
/// After an error the object holds an unknown number of bytes more than was last synced; resuming cuts them off.
#[derive(Debug)]
pub struct FileWriter {
    key: ObjectKey,
    length: u64,
    batch: Batch,
    /// The buffer of the batch before, empty.
    spare: Vec<u8>,
    state: State,
    /// The sync that goes on beside the writing, and how many bytes were written since it began.
    syncing: Option<JoinHandle<io::Result<()>>>,
    unsynced: u64,
    /// How long the file is with all batches, and up to where it has room reserved.
    written: u64,
    reserved: u64,
    /// The folder that is still to be fsynced because the file's name in it may be new.
    named_in: Option<PathBuf>,
    lanes: Lanes,
}

/// File and hash are either here, or with the threads that work on a batch.
#[derive(Debug)]
enum State {
    Idle(Arc<File>, Box<BlobHasher>),
    Busy(JoinHandle<io::Result<Written>>, Hashing),
    Failed,
}

/// What the thread that writes gives back.
#[derive(Debug)]
struct Written {
    file: Arc<File>,
    batch: Arc<Vec<u8>>,
}

/// Who hashes the batch that is under way.
#[derive(Debug)]
enum Hashing {
    /// A thread of its own.
    Beside(JoinHandle<Box<BlobHasher>>),
    /// The thread that writes, before it writes.
    Before(tokio::sync::oneshot::Receiver<Box<BlobHasher>>),
}

/// What has arrived and is not on its way to the file yet: at most [`BATCH`] bytes.
#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    begun: Instant,
}

impl Batch {
    fn new() -> Self {
        Self { bytes: Vec::new(), begun: Instant::now() }
    }

    /// Takes what it has room for; answers how much that was.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        if self.bytes.is_empty() {
            self.begun = Instant::now();
        }
        let count = bytes.len().min(BATCH - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..count]);
        count
    }

    fn is_ripe(&self) -> bool {
        self.bytes.len() == BATCH || !self.bytes.is_empty() && self.begun.elapsed() >= GATHER
    }
}

impl FileWriter {
    pub(crate) fn new(
        key: ObjectKey,
        file: File,
        hasher: BlobHasher,
        length: u64,
        named_in: Option<PathBuf>,
        lanes: Lanes,
    ) -> Self {
        let state = State::Idle(Arc::new(file), Box::new(hasher));
        Self {
            key,
            length,
            batch: Batch::new(),
            spare: Vec::new(),
            state,
            syncing: None,
            unsynced: 0,
            written: length,
            reserved: 0,
            named_in,
            lanes,
        }
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
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let taken = self.batch.fill(rest);
            self.length += taken as u64;
            rest = &rest[taken..];
            if self.batch.is_ripe() {
                self.start_batch().await?;
            }
        }
        Ok(())
    }

    /// Sends what has arrived to the file, and gives the buffers back: for when nothing has come for [`GATHER`], and
    /// nothing may come for long.
    pub async fn flush(&mut self) -> Result<()> {
        if !self.batch.bytes.is_empty() {
            self.start_batch().await?;
        }
        let (file, hasher) = self.idle().await?;
        self.state = State::Idle(file, hasher);
        self.batch.bytes = Vec::new();
        self.spare = Vec::new();
        Ok(())
    }

    /// Makes all that was given durable: on the disk, under its name.
    pub async fn sync(&mut self) -> Result<Durable> {
        self.flush().await?;
        let (file, hasher) = self.idle().await?;
        self.end_sync().await?;
        let named_in = self.named_in.take();
        let turn = self.lanes.turn().await?;
        let in_vain = std::mem::take(&mut self.reserved) > self.length;
        let length = self.length;
        let synced = spawn_blocking(move || {
            let _turn = turn;
            if in_vain {
                file.set_len(length)?;
            }
            file.sync_data()?;
            named_in.as_deref().map_or(Ok(()), sync_folder)?;
            Ok(file)
        });
        let file = synced.await.map_err(|_| Error::ShuttingDown)?.map_err(|source| Error::io(&self.key, source))?;
        self.unsynced = 0;
        self.state = State::Idle(file, hasher.clone());
        Ok(Durable { length: self.length, hasher: *hasher, layout: Layout::Whole })
    }

    async fn start_batch(&mut self) -> Result<()> {
        let (file, hasher) = self.idle().await?;
        self.start_sync(&file).await?;
        let turn = self.lanes.turn().await?;
        let batch = Arc::new(std::mem::replace(&mut self.batch.bytes, std::mem::take(&mut self.spare)));
        let length = batch.len() as u64;
        self.unsynced += length;
        self.state = if batch.len() < WORTH_TWO_THREADS {
            one_thread(file, hasher, batch, turn)
        } else {
            let room = self.room_to_reserve(length);
            two_threads(file, hasher, batch, room, turn)
        };
        self.written += length;
        Ok(())
    }

    /// The room that is to be reserved before a large batch is written, if it has none.
    fn room_to_reserve(&mut self, batch: u64) -> Option<Range<u64>> {
        let from = self.written;
        if from < WORTH_RESERVING || from + batch <= self.reserved {
            return None;
        }
        self.reserved = from + from.min(LONGEST_STEP);
        Some(from..self.reserved)
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
                let written = written.map_err(|_| Error::ShuttingDown)?;
                let Written { file, batch } = written.map_err(|source| Error::io(&self.key, source))?;
                let hasher = hasher.ok_or(Error::ShuttingDown)?;
                self.keep_buffer(batch);
                Ok((file, hasher))
            }
            State::Failed => Err(Error::io(&self.key, io::Error::other("an earlier write of this object failed"))),
        }
    }

    /// Keeps a buffer for the batch after next, if this client is quick enough to fill it.
    fn keep_buffer(&mut self, batch: Arc<Vec<u8>>) {
        if batch.len() >= WORTH_TWO_THREADS
            && let Some(mut bytes) = Arc::into_inner(batch)
        {
            bytes.clear();
            self.spare = bytes;
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

fn two_threads(
    file: Arc<File>,
    mut hasher: Box<BlobHasher>,
    batch: Arc<Vec<u8>>,
    room: Option<Range<u64>>,
    turn: OwnedSemaphorePermit,
) -> State {
    let to_hash = batch.clone();
    let hashing = spawn_blocking(move || {
        hasher.update(&to_hash);
        hasher
    });
    let writing = spawn_blocking(move || {
        let _turn = turn;
        if let Some(room) = room {
            reserve(&file, room);
        }
        write_all(file, batch)
    });
    State::Busy(writing, Hashing::Beside(hashing))
}

fn one_thread(file: Arc<File>, mut hasher: Box<BlobHasher>, batch: Arc<Vec<u8>>, turn: OwnedSemaphorePermit) -> State {
    let (hashed, hashing) = tokio::sync::oneshot::channel();
    let writing = spawn_blocking(move || {
        let _turn = turn;
        hasher.update(&batch);
        // A writer that was dropped does not want it any more.
        let _ = hashed.send(hasher);
        write_all(file, batch)
    });
    State::Busy(writing, Hashing::Before(hashing))
}

/// Reserves room beyond the end of the file, without making it longer. Where the file system cannot, or has no such room,
/// the writes find their own, or fail in their turn.
fn reserve(file: &File, room: Range<u64>) {
    let _ = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, room.start, room.end - room.start);
}

fn write_all(file: Arc<File>, batch: Arc<Vec<u8>>) -> io::Result<Written> {
    (&*file).write_all(&batch)?;
    Ok(Written { file, batch })
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
            assert!(writer.batch.bytes.capacity() <= 16 * 1024);
        }
        drop(large);
        let durable = writer.sync().await.unwrap();
        assert_eq!(durable.hasher.digest(), Digest::of(Algorithm::Sha256, &[b'x'; 3000]));
    }

    #[tokio::test]
    async fn a_client_that_was_quick_and_falls_silent_holds_no_buffers() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileStore::open(folder.path(), 0).unwrap();
        let hasher = BlobHasher::new(Algorithm::Sha256);
        for length in [4 * BATCH, 4 * BATCH + 1] {
            let mut writer = files.create(ObjectKey::random(), hasher.clone(), Vec::new()).await.unwrap();
            writer.write(vec![1; length].into()).await.unwrap();
            writer.flush().await.unwrap();
            assert_eq!(writer.batch.bytes.capacity() + writer.spare.capacity(), 0);
            assert!(matches!(writer.state, State::Idle(..)), "and none is with a thread");
        }
    }

    #[tokio::test]
    async fn small_and_large_pieces_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileStore::open(folder.path(), 0).unwrap();
        let hasher = BlobHasher::new(Algorithm::Sha256);
        let mut writer = files.create(ObjectKey::random(), hasher, Vec::new()).await.unwrap();
        let mut expected = Vec::new();
        for (number, length) in [1, BATCH - 1, 2, 3, BATCH, 5, BATCH - 8, 2 * BATCH, 1].into_iter().enumerate() {
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
        let read = files.hash(writer.key(), Algorithm::Sha256, durable.length).await.unwrap();
        assert_eq!(read.digest(), durable.hasher.digest(), "the file has them in that order too");
    }
}
