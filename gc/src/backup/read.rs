//! Reading a backup, line by line, into an empty database.

use super::{
    BackupError,
    format::{BackupHead, Ending, Line, RowCounts},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use longshore_metadata::{Metadata, Restore, SNAPSHOT_FORMAT, SnapshotTable};
use longshore_oci::Algorithm;
use longshore_storage::BlobHasher;
use std::pin::{Pin, pin};

/// No row is longer: a manifest has 4 MiB, and twice as much in a backup.
const LONGEST_LINE: usize = 256 * 1024 * 1024;
/// So many rows go to the database together, or so many bytes of them.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// How the backup begins.
    pub head: BackupHead,
    /// Its rows.
    pub rows: RowCounts,
}

/// Fills the database, whose schema and lifetimes are set, with what comes from a backup: all of it or nothing.
///
/// # Errors
/// [`BackupError::NotEmpty`], [`BackupError::Foreign`] and [`BackupError::NotABackup`] before anything is written;
/// [`BackupError::Torn`] where not all comes that was written, and that of the database.
pub async fn restore(
    metadata: &Metadata,
    source: impl Stream<Item = Result<Bytes, BackupError>>,
) -> Result<Restored, BackupError> {
    let source = pin!(source);
    let hasher = BlobHasher::new(Algorithm::Sha256);
    let mut lines = Lines { source, rest: BytesMut::new(), seen: 0, last: Bytes::new(), hasher };
    let head = read_head(&mut lines, metadata.newest_migration()).await?;
    let restore = metadata.begin_restore().await?.ok_or(BackupError::NotEmpty)?;
    let mut filling = Filling { restore, table: None, batch: Vec::new(), bytes: 0, rows: RowCounts::new() };
    let ending = loop {
        let line = lines.next().await?.ok_or_else(|| BackupError::torn("it has no end"))?;
        match Line::of(&line) {
            Some(Line::Row) => filling.add(line).await?,
            Some(Line::Table(table)) => filling.begin(table).await?,
            Some(Line::End(ending)) => break ending,
            None => return Err(BackupError::torn(format!("it has a line that is none of ours: {}", beginning(&line)))),
        }
    };
    if lines.hash_before_last() != ending.hash {
        return Err(BackupError::torn("its hash is another"));
    }
    if lines.next().await?.is_some() {
        return Err(BackupError::torn("something follows its end"));
    }
    let rows = filling.commit(&ending).await?;
    Ok(Restored { head, rows })
}

async fn read_head<S>(lines: &mut Lines<'_, S>, newest_migration: i64) -> Result<BackupHead, BackupError>
where
    S: Stream<Item = Result<Bytes, BackupError>>,
{
    let first = lines.next().await?.ok_or(BackupError::NotABackup)?;
    let head = BackupHead::of_line(&first).ok_or(BackupError::NotABackup)?;
    if head.format != SNAPSHOT_FORMAT || head.schema > newest_migration {
        return Err(BackupError::Foreign { release: head.release, format: head.format, schema: head.schema });
    }
    Ok(head)
}

fn beginning(line: &str) -> String {
    line.chars().take(60).collect()
}

/// What comes, cut into lines.
struct Lines<'a, S> {
    source: Pin<&'a mut S>,
    rest: BytesMut,
    /// So much of the rest has no end of a line.
    seen: usize,
    /// The line that was read last, with its end, and the hash of those before it.
    last: Bytes,
    hasher: BlobHasher,
}

impl<S> Lines<'_, S>
where
    S: Stream<Item = Result<Bytes, BackupError>>,
{
    /// The next line, without its end; none after the last.
    async fn next(&mut self) -> Result<Option<String>, BackupError> {
        loop {
            if let Some(end) = self.rest[self.seen..].iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(self.seen + end + 1).freeze();
                self.seen = 0;
                self.take(line.clone());
                let text = String::from_utf8(line[..line.len() - 1].to_vec());
                return text.map(Some).map_err(|_| BackupError::torn("it has a line that is no text"));
            }
            self.seen = self.rest.len();
            if self.seen > LONGEST_LINE {
                return Err(BackupError::NotABackup);
            }
            match self.source.next().await {
                Some(piece) => self.rest.extend_from_slice(&piece?),
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(BackupError::torn("it ends in the middle of a line")),
            }
        }
    }

    fn take(&mut self, line: Bytes) {
        self.hasher.update(&self.last);
        self.last = line;
    }

    fn hash_before_last(&self) -> String {
        self.hasher.digest().to_string()
    }
}

/// A database that is being filled.
struct Filling {
    restore: Restore,
    table: Option<SnapshotTable>,
    batch: Vec<String>,
    bytes: usize,
    rows: RowCounts,
}

impl Filling {
    async fn begin(&mut self, table: SnapshotTable) -> Result<(), BackupError> {
        self.hand_on().await?;
        self.table = Some(table);
        self.rows.entry(table).or_default();
        Ok(())
    }

    async fn add(&mut self, row: String) -> Result<(), BackupError> {
        self.bytes += row.len();
        self.batch.push(row);
        if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES { self.hand_on().await } else { Ok(()) }
    }

    async fn hand_on(&mut self) -> Result<(), BackupError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let table = self.table.ok_or_else(|| BackupError::torn("it has rows of no table"))?;
        self.restore.insert(table, &self.batch).await?;
        *self.rows.entry(table).or_default() += self.batch.len() as u64;
        self.batch.clear();
        self.bytes = 0;
        Ok(())
    }

    async fn commit(mut self, ending: &Ending) -> Result<RowCounts, BackupError> {
        self.hand_on().await?;
        if self.rows != ending.rows {
            return Err(BackupError::torn("it has other rows than its end says"));
        }
        self.restore.commit().await?;
        Ok(self.rows)
    }
}
