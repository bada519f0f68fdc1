//! What is known of a tag's past.

use longshore_oci::Digest;
use std::time::SystemTime;

/// Something that happened to a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagChange {
    /// Its number: later changes of a tag have higher ones.
    pub number: i64,
    /// What the tag has named since; none where it was deleted.
    pub digest: Option<Digest>,
    /// When.
    pub at: SystemTime,
    /// By whom, where that is known.
    pub by: Option<String>,
    /// Whether that manifest can be pulled still.
    pub is_here: bool,
    /// Whether a client has deleted it, not long ago: it can be brought back.
    pub is_restorable: bool,
}

/// How far a look through the old changes of all tags came, in the order of their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPlace {
    /// When the last change was that was looked at, as the database has it.
    pub(crate) at: i64,
    /// Its number.
    pub(crate) number: i64,
}

impl HistoryPlace {
    /// Where a look begins.
    pub const FIRST: Self = Self { at: i64::MIN, number: i64::MIN };
}

/// A manifest that a client deleted, and that can be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedManifest {
    /// As it was pushed.
    pub media_type: String,
    /// Its exact bytes.
    pub body: Vec<u8>,
}
