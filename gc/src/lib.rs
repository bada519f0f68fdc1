#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backup;
mod blobs;
mod clock;
mod collected;
mod collector;
mod du;
mod fsck;
mod grants;
mod history;
mod length;
mod manifests;
mod objects;
mod pace;
mod pairing;
#[cfg(test)]
mod place;
mod preview;
#[cfg(test)]
mod races;
mod retention;
mod rules;
mod scrub;
mod steps;
mod uploads;
mod verdict;
mod walks;
mod why;

pub use backup::{
    BackedUp, Backup, BackupError, BackupHead, Piece, Restored, RowCounts, StoredBackup, keep_backups, newest_backup,
    read_backup, restore, store_backup, stored_backups,
};
pub use collected::{Collected, Event, Halt};
pub use collector::Collector;
pub use du::{LayerUsage, TagUsage, of_layers, of_tags};
pub use fsck::{Checked, Finding, FsckOptions, fsck};
pub use pairing::pair;
pub use preview::{
    BlobEnd, Foreseen, GoingBlob, GoingManifest, GoingTag, Kept, KeptCounts, Preview, Share, StayingManifest, preview,
};
pub use retention::{Keep, KeptBy, Retained, Retention, RetentionRule, TagVerdict};
pub use rules::Rules;
pub use scrub::{Damage, RoundFrom, ScrubReport, ScrubRules, Scrubber, unread_for};
pub use steps::{Findings, Step};
pub use verdict::{Reason, Verdict};
pub use why::{WhyBlob, users_of_blob, why, why_blob, why_tag};

use clock::Clock;
use longshore_metadata::Metadata;
use longshore_storage::Storage;
use pace::Pace;
use steps::Sorted;
use walks::Walks;

/// An error of a step. What the step had done before stays done; the next pass goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the database failed during garbage collection")]
    Metadata(#[from] longshore_metadata::Error),
    /// An object could not be deleted.
    #[error("storage failed during garbage collection")]
    Storage(#[from] longshore_storage::Error),
    /// The database's clock went another way than ours.
    #[error("the database's clock was moved: garbage collection waits for as long as blobs are promised")]
    ClockMoved,
    /// Another process has taken over what this one was at.
    #[error("another process is at it")]
    ClaimLost,
    /// More would go than the breaker lets.
    #[error("garbage collection was stopped before it deleted too much")]
    TooMuch,
    /// The store has none of the objects that were looked for.
    #[error(
        "{gone} objects in a row are not in the store and none is: is storage.path (or the bucket and prefix) the one \
         that the database belongs to, and mounted? Nothing was marked as damaged"
    )]
    WrongStore {
        /// How many were looked for.
        gone: u64,
    },
    /// The database belongs to another store, or the store to another database.
    #[error(
        "the objects of this database are in another store than {place}: give the server the storage settings that the \
         database belongs to; several servers on one database need one object store (storage.s3, storage.gcs or \
         storage.azure). If the store was lost and this one is to take its place, delete the row of the table store_mark and start again"
    )]
    OtherStore {
        /// Where the store is that was opened.
        place: String,
    },
    /// The store belongs to another database, and this one is new.
    #[error(
        "{place} belongs to another database, and this one is new: two must not share a store. Give this one a bucket or prefix of \
         its own; or restore a backup of that database first (longshore restore); or, if that is gone and nothing that is \
         stored there is needed any more, empty the store"
    )]
    TakenStore {
        /// Where the store is that was opened.
        place: String,
    },
    /// So much is lost or stray that the store is rather another one, or the database is.
    #[error(
        "{found} of {total} objects are {what}: this looks like the wrong store or the wrong database. Nothing was \
         repaired; --all repairs all the same"
    )]
    TooMuchToRepair {
        /// What they are: lost, or stray.
        what: &'static str,
        /// How many of them are.
        found: u64,
        /// How many there are: in the database, or in the store.
        total: u64,
    },
}

/// What every step works on.
#[derive(Debug, Clone)]
struct House {
    metadata: Metadata,
    storage: Storage,
    rules: Rules,
    clock: Clock,
    pace: Pace,
    retention_walks: Walks,
    history_walks: Walks,
}

/// Reviews that are read, and ended, together: few, so that no writer waits for long.
const BATCH: u32 = 200;
