//! Writing a backup, a few MiB at a time.

use super::{
    BackupError,
    format::{BackupHead, Ending, RowCounts, table_line},
};
use bytes::Bytes;
use longshore_metadata::{Metadata, SNAPSHOT_FORMAT, Snapshot, SnapshotTable};
use longshore_oci::Algorithm;
use longshore_storage::BlobHasher;

/// So much is handed on at a time, or a little more.
const PIECE: usize = 8 * 1024 * 1024;

/// A part of a backup: all of them, one after the other, are the backup.
#[derive(Debug)]
pub enum Piece {
    /// One of those before the last.
    Body(Bytes),
    /// The last, without which it is none.
    End(Bytes),
}

/// A backup that is about to be written: the moment that it is of is there already.
#[derive(Debug)]
pub struct Backup {
    snapshot: Snapshot,
    head: BackupHead,
}

/// What a backup came to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// How it begins.
    pub head: BackupHead,
    /// Its rows.
    pub rows: RowCounts,
    /// In bytes.
    pub size: u64,
}

impl Backup {
    /// Holds the database as it is now. Nobody waits for it.
    pub async fn begin(metadata: &Metadata, release: &str) -> Result<Self, BackupError> {
        let snapshot = metadata.snapshot().await?;
        let head = BackupHead {
            format: SNAPSHOT_FORMAT,
            schema: metadata.newest_migration(),
            engine: metadata.engine().to_owned(),
            release: release.to_owned(),
            at: snapshot.at(),
        };
        Ok(Self { snapshot, head })
    }

    /// How it begins.
    pub fn head(&self) -> &BackupHead {
        &self.head
    }

    /// Hands on the backup, piece by piece.
    ///
    /// # Errors
    /// That of the database, or what the pieces are given to answers.
    pub async fn write<S>(mut self, sink: S) -> Result<BackedUp, BackupError>
    where
        S: AsyncFnMut(Piece) -> Result<(), BackupError>,
    {
        let hasher = BlobHasher::new(Algorithm::Sha256);
        let mut lines = Lines { sink, hasher, buffer: Vec::new(), size: 0 };
        let mut rows = RowCounts::new();
        lines.add(&self.head.line()).await?;
        for table in SnapshotTable::ALL {
            lines.add(&table_line(table)).await?;
            rows.insert(table, write_table(&mut self.snapshot, table, &mut lines).await?);
        }
        self.snapshot.end().await?;
        let size = lines.end(rows.clone()).await?;
        Ok(BackedUp { head: self.head, rows, size })
    }
}

/// Writes the rows of a table; answers how many they are.
async fn write_table<S>(snapshot: &mut Snapshot, table: SnapshotTable, lines: &mut Lines<S>) -> Result<u64, BackupError>
where
    S: AsyncFnMut(Piece) -> Result<(), BackupError>,
{
    let (mut count, mut last) = (0, None);
    loop {
        let mut rows = snapshot.rows_after(table, last.as_deref()).await?;
        for row in &rows {
            lines.add(row).await?;
        }
        count += rows.len() as u64;
        last = match rows.pop() {
            Some(row) => Some(row),
            None => return Ok(count),
        };
    }
}

/// Lines on their way to where pieces go.
struct Lines<S> {
    sink: S,
    /// Has seen what was handed on.
    hasher: BlobHasher,
    buffer: Vec<u8>,
    size: u64,
}

impl<S> Lines<S>
where
    S: AsyncFnMut(Piece) -> Result<(), BackupError>,
{
    async fn add(&mut self, line: &str) -> Result<(), BackupError> {
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
        if self.buffer.len() >= PIECE { self.hand_on().await } else { Ok(()) }
    }

    async fn hand_on(&mut self) -> Result<(), BackupError> {
        let piece = std::mem::take(&mut self.buffer);
        self.hasher.update(&piece);
        self.size += piece.len() as u64;
        (self.sink)(Piece::Body(piece.into())).await
    }

    /// Answers how long the backup is.
    async fn end(mut self, rows: RowCounts) -> Result<u64, BackupError> {
        if !self.buffer.is_empty() {
            self.hand_on().await?;
        }
        let end = Ending { rows, hash: self.hasher.digest().to_string() }.line() + "\n";
        let size = self.size + end.len() as u64;
        (self.sink)(Piece::End(end.into())).await?;
        Ok(size)
    }
}
