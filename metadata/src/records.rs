//! What goes into the database and what comes out, in the registry's own words: no SQL types here.

use bytes::Bytes;
use longshore_oci::{Digest, ImmutableTags, RepositoryName, Tag};
use std::{fmt, str::FromStr, sync::Arc, time::Duration};
use uuid::Uuid;

/// The name of an upload session, as it stands in the session's Location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadId(Uuid);

impl UploadId {
    /// A new random id: not to be guessed from another one.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

impl FromStr for UploadId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// Writes that another one forestalled, and that ran again, since the start: by what held them back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LostRaces {
    /// A foreign key: they would have named what had just gone, or deleted what had just come to be needed.
    pub foreign_key: u64,
    /// The order of locks: a deadlock, or a failure to serialise. Nothing would have been wrong.
    pub lock_order: u64,
}

/// How long things are promised; the database's triggers read them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// How long an acknowledged blob stays without a manifest (G of the design).
    pub promise: Duration,
    /// How long a change waits before garbage collection looks at it.
    pub review_delay: Duration,
    /// How long the bytes of a condemned object stay (D of the design): longer than any write or read of it lasts.
    pub object_delay: Duration,
    /// How long what a client deleted can be brought back.
    pub undo: Duration,
}

/// Where the bytes of a blob are. Clones share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobContent {
    /// In the row.
    Inline(Bytes),
    /// In the object of this key.
    Object {
        /// The object's key.
        key: Arc<str>,
    },
}

/// A blob that a repository holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRecord {
    /// In bytes.
    pub size: u64,
    /// Its bytes, or where they are.
    pub content: BlobContent,
}

/// A small blob that goes into its row.
#[derive(Debug, Clone)]
pub struct PutInlineBlob {
    /// Who is granted it.
    pub repository: RepositoryName,
    /// Its digest, verified by the caller.
    pub digest: Digest,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// How a mount ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountOutcome {
    /// The target holds the blob now.
    Mounted,
    /// The source does not hold it.
    NotThere,
}

/// How a delete ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// It is gone.
    Deleted,
    /// There was none.
    Unknown,
    /// A manifest of the repository still needs it.
    InUse {
        /// That manifest.
        by: Digest,
    },
}

/// A session to open.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// Where to.
    pub repository: RepositoryName,
    /// By whom; nobody else may touch the session.
    pub principal: Option<String>,
    /// The hash after no bytes.
    pub hash_state: Vec<u8>,
    /// How long the session stays without a new byte.
    pub lifetime: Duration,
}

/// Which session is meant, and by whom: it is not to be found from another repository or by another principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadAddress {
    /// Where it was opened.
    pub repository: RepositoryName,
    /// Its name.
    pub id: UploadId,
    /// Who asks.
    pub principal: Option<String>,
}

/// An upload session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRecord {
    /// Its name.
    pub id: UploadId,
    /// Durable bytes so far.
    pub received: u64,
    /// The hash after the bytes that are in the object: none while they are staged.
    pub hash_state: Vec<u8>,
    /// The bytes themselves while they are few and no object is attached.
    pub staged: Vec<u8>,
    /// The key of the object that holds them otherwise: all of them, or those that are in its parts.
    pub object_key: Option<String>,
    /// The parts of that object, where it is not whole yet.
    pub multipart: Option<Multipart>,
    /// The key of the object with the bytes that are in no part.
    pub tail_key: Option<String>,
    /// Their checksum, where it was recorded.
    pub tail_checksum: Option<u64>,
    /// Which writer holds the session.
    pub fence: i64,
}

/// The parts of an object that is not whole yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    /// What the object store calls the upload that they belong to.
    pub upload: String,
    /// In the object's order.
    pub parts: Vec<UploadPart>,
}

/// A part of an object that is not whole yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPart {
    /// Its number at the object store: they rise, with gaps.
    pub number: u32,
    /// What the object store calls it.
    pub tag: String,
    /// In bytes.
    pub size: u64,
}

/// What becomes of the bytes that are in no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailChange {
    /// They are where they were.
    Kept,
    /// They are in the object that was attached for them last.
    Replaced {
        /// Their checksum, by which the next writer sees whether they are what was sent.
        checksum: u64,
    },
    /// There are none any more.
    Gone,
}

/// How far a session came.
#[derive(Debug, Clone)]
pub struct SaveProgress {
    /// The session.
    pub id: UploadId,
    /// The writer that holds it.
    pub fence: i64,
    /// Durable bytes.
    pub received: u64,
    /// The hash after the bytes that are in the object: none while they are staged.
    pub hash_state: Vec<u8>,
    /// The bytes themselves while no object is attached.
    pub staged: Vec<u8>,
    /// The parts that are new, where the object is written in parts.
    pub multipart: Option<Multipart>,
    /// The first number for a part that was given to no writer, or to this one, which has begun no part with it nor with
    /// any after it. None where this writer was given no numbers.
    pub next_part: Option<u32>,
    /// What became of the bytes that are in no part.
    pub tail: TailChange,
    /// How long the session stays without a new byte.
    pub lifetime: Duration,
}

/// Where the bytes of a session ended up.
#[derive(Debug, Clone)]
pub enum StoredContent {
    /// They are few: into the row with them.
    Inline(Vec<u8>),
    /// They are in the object that is attached to the session, durable.
    AttachedObject,
}

/// A session to end with a blob.
#[derive(Debug, Clone)]
pub struct CommitUpload {
    /// The session.
    pub id: UploadId,
    /// The writer that holds it.
    pub fence: i64,
    /// The digest of the bytes, verified by the caller.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Where they are.
    pub content: StoredContent,
}

/// How the end of a session went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The repository holds the blob, for the promised time at least.
    Committed,
    /// The session is gone, or another writer has taken it: nothing was written.
    SessionLost,
}

/// The last bytes of a session, and the digest that it is to end with.
#[derive(Debug, Clone)]
pub struct FinishUpload {
    /// The session, and who asks.
    pub address: UploadAddress,
    /// The digest of all its bytes, as the client says; it is compared here.
    pub digest: Digest,
    /// Where the last bytes say that they begin.
    pub start: Option<u64>,
    /// The last bytes.
    pub bytes: Vec<u8>,
    /// The most bytes that a blob's row takes.
    pub most: usize,
    /// How long the session stays if it does not end here.
    pub lifetime: Duration,
}

/// How the end of a session went whose bytes should be few. Where it did not end, it is as it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishOutcome {
    /// The repository holds the blob, for the promised time at least.
    Committed,
    /// There is no such session.
    Unknown,
    /// The session goes on at another byte.
    OutOfOrder {
        /// That byte.
        received: u64,
    },
    /// The bytes have another digest.
    DigestMismatch {
        /// That digest.
        computed: Digest,
    },
    /// The bytes are in an object, or are too many for a row. The session is claimed for the caller.
    Claimed(UploadRecord),
}

/// A blob that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBlob {
    /// Its digest.
    pub digest: Digest,
    /// False for layers that live elsewhere by their media type and need not be here.
    pub required: bool,
}

/// A manifest to store.
#[derive(Debug, Clone)]
pub struct PutManifest {
    /// Where to.
    pub repository: RepositoryName,
    /// The digest of `body`, verified by the caller.
    pub digest: Digest,
    /// What it is served as.
    pub media_type: String,
    /// As written in the manifest.
    pub artifact_type: Option<String>,
    /// The media type of an image's config.
    pub config_media_type: Option<String>,
    /// What it refers to.
    pub subject: Option<Digest>,
    /// As JSON, if there are any.
    pub annotations: Option<String>,
    /// The exact bytes.
    pub body: Vec<u8>,
    /// Config and layers.
    pub blobs: Vec<NamedBlob>,
    /// The entries of an index: manifests, or blobs (BuildKit's cache).
    pub children: Vec<Digest>,
    /// Tags that are to name it.
    pub tags: Vec<Tag>,
    /// Those of the tags that are among these may not move: where one names another manifest, nothing is stored.
    pub immutable: ImmutableTags,
    /// By whom.
    pub pushed_by: Option<String>,
    /// Whether it may name what is not here.
    pub allow_absent: bool,
}

/// How storing a manifest went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutManifestOutcome {
    /// It is there, and so are its tags.
    Stored,
    /// It names what the repository does not hold: nothing was written.
    Absent {
        /// Blobs and children that are missing, in the manifest's order.
        digests: Vec<Digest>,
    },
    /// One of its tags may not move and names another manifest: nothing was written.
    Immutable {
        /// The tag.
        tag: Tag,
        /// What it names.
        digest: Digest,
    },
}

/// A manifest. Clones share their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRecord {
    /// Its digest, of the algorithm that it was pushed with.
    pub digest: Digest,
    /// What it is served as.
    pub media_type: Arc<str>,
    /// The exact bytes.
    pub body: Bytes,
}

/// Which referrers to list.
#[derive(Debug, Clone, Copy)]
pub struct ReferrersPage<'a> {
    /// Where.
    pub repository: &'a RepositoryName,
    /// Of what.
    pub subject: &'a Digest,
    /// Only of this artifact type.
    pub artifact_type: Option<&'a str>,
    /// After this one.
    pub after: Option<&'a Digest>,
    /// At most so many.
    pub limit: u32,
    /// At most so many bytes of annotations and the like, but always one referrer if there is one.
    pub max_bytes: u64,
}

/// A manifest that refers to a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferrerRecord {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// Its artifact type: what the manifest says, else its config's media type.
    pub artifact_type: Option<String>,
    /// As JSON, if there are any.
    pub annotations: Option<String>,
}

/// What expired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpiredUploads {
    /// Sessions that were ended.
    pub sessions: u64,
}

/// A key whose bytes are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The object's key.
    pub key: String,
    /// What was known of its size.
    pub size: u64,
    /// The upload of parts that never became this object.
    pub multipart: Option<String>,
}

/// How the cache of reads is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheUsage {
    /// Whether it answers at present. On Postgres it does not while this process hears nothing of other replicas.
    pub is_open: bool,
    /// Reads that were answered from memory, since the start.
    pub hits: u64,
    /// Reads that the database was asked for.
    pub misses: u64,
    /// How much is kept, or about that: the books are brought up to date now and then.
    pub entries: u64,
    /// In bytes, with what it costs to keep them.
    pub bytes: u64,
}

/// Where the schema stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Applied ones: number and description.
    pub applied: Vec<(i64, String)>,
    /// Those that `migrate` would apply.
    pub pending: Vec<(i64, String)>,
}
