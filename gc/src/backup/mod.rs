//! Backups: all of the database that cannot be made anew, as a file of lines, in the store of the objects or anywhere else.
//!
//! A backup holds no object. After a restore the objects of that time are there if none of them has been deleted since: a
//! condemned object stays for `gc.object_delay`, which has to be longer than the time between two backups.
//!
//! Nothing is restored by halves: the last line has a hash of all before it, and the transaction commits after that.

mod format;
mod read;
mod stored;
#[cfg(test)]
mod tests;
mod write;

pub use format::{BackupHead, RowCounts};
pub use read::{Restored, restore};
pub use stored::{StoredBackup, keep_backups, newest_backup, read_backup, store_backup, stored_backups};
pub use write::{BackedUp, Backup, Piece};

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database failed.
    #[error("the database failed")]
    Metadata(#[from] longshore_metadata::Error),
    /// The store failed.
    #[error("the store failed")]
    Storage(#[from] longshore_storage::Error),
    /// A file failed.
    #[error("the file could not be read or written")]
    File(#[from] std::io::Error),
    /// What was to be restored is something else.
    #[error("this is no backup of Longshore: it begins otherwise")]
    NotABackup,
    /// It was written by a release that another one understands.
    #[error(
        "the backup was written by Longshore {release} (form {format}, migration {schema}), which this release does not \
         read: restore it with that release, and upgrade then"
    )]
    Foreign {
        /// That release.
        release: String,
        /// Its form of rows.
        format: u32,
        /// Its last migration.
        schema: i64,
    },
    /// A part of it is missing, or is not what was written.
    #[error("the backup is torn: {reason}. Nothing was restored")]
    Torn {
        /// What is wrong.
        reason: String,
    },
    /// There is something already.
    #[error("the database is not empty: a backup is restored into a new one only. Name a new one in database.url")]
    NotEmpty,
}

impl BackupError {
    fn torn(reason: impl Into<String>) -> Self {
        Self::Torn { reason: reason.into() }
    }
}
