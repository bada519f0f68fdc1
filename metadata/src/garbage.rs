//! What garbage collection is told of the database, and what it asks of it.

use crate::{ExpiredUploads, Metadata, Result, Tombstone};
use longshore_oci::{Digest, RepositoryName, Tag};
use std::time::{Duration, SystemTime};

/// A change that waits in the queue for garbage collection to look at. It stands for what the queue said when it was read:
/// what happens to the same thing later queues it anew, and nothing that is done for this review undoes that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Review {
    /// The repository, or the blob.
    pub(crate) id1: i64,
    pub(crate) id2: i64,
    pub(crate) due: i64,
}

impl Review {
    /// Where a reading of the queue begins.
    pub const FIRST: Self = Self { id1: i64::MIN, id2: i64::MIN, due: i64::MIN };

    /// Of a hold on a blob: what all holds on that blob have in common, and others have not.
    pub fn blob(&self) -> i64 {
        self.id2
    }

    /// The same thing, whenever its review is due.
    pub fn thing(&self) -> Self {
        Self { due: 0, ..*self }
    }

    /// When it is due.
    pub fn due(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(self.due).unwrap_or_default())
    }
}

/// What a row of the queue speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub(crate) enum Kind {
    Manifest = 1,
    Grant = 2,
    Blob = 3,
}

/// Which of the queued reviews are to be read.
#[derive(Debug, Clone, Copy)]
pub struct ReviewPage {
    /// Those after this one, in the order in which they are due.
    pub after: Review,
    /// Those that are due now; or those that are not due yet as well.
    pub only_due: bool,
    /// At most so many.
    pub limit: u32,
}

/// What was found of queued things, and when.
#[derive(Debug, Clone)]
pub struct Reviewed<T> {
    /// What the database's clock said.
    pub now: SystemTime,
    /// Each review with what there is; none if it is gone.
    pub found: Vec<(Review, Option<T>)>,
}

/// A manifest, and what keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFacts {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Of its body, in bytes.
    pub size: u64,
    /// The media type of its config, where it has one.
    pub config_media_type: Option<String>,
    /// When it was pushed last.
    pub pushed_at: SystemTime,
    /// When it was pulled last, as far as anybody has recorded.
    pub last_pulled_at: Option<SystemTime>,
    /// Since when neither a tag nor an index nor its subject keeps it, if none does.
    pub untagged_since: Option<SystemTime>,
    /// A tag that names it.
    pub tag: Option<Tag>,
    /// An index that names it.
    pub parent: Option<Digest>,
    /// Its subject, if that is there.
    pub subject: Option<Digest>,
}

/// A repository's hold on a blob, and what keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantFacts {
    /// The repository.
    pub repository: RepositoryName,
    /// The blob.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Until when it was promised.
    pub expires_at: SystemTime,
    /// A manifest of the repository that needs it.
    pub needed_by: Option<Digest>,
}

/// A blob, and what keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobFacts {
    /// Its digest.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// A repository that holds it.
    pub held_by: Option<RepositoryName>,
}

/// A manifest that others keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptManifest {
    /// Names it to other calls.
    pub review: Review,
    /// Where it is.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Of its body, in bytes.
    pub size: u64,
    /// How many tags and manifests keep it.
    pub keepers: u64,
}

/// A blob that some manifests of a repository need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededBlob {
    /// Names the repository's hold on it to other calls.
    pub review: Review,
    /// The repository.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// How many of those manifests need it.
    pub lost: u64,
    /// How many manifests of the repository need it.
    pub users: u64,
    /// How many repositories hold it.
    pub holders: u64,
}

/// A manifest to delete, if it is still as it was found.
#[derive(Debug, Clone)]
pub struct CondemnedManifest {
    /// Why it was looked at.
    pub review: Review,
    /// Where it is.
    pub repository: RepositoryName,
    /// Which it is there.
    pub digest: Digest,
    /// What the facts said.
    pub untagged_since: SystemTime,
}

/// A hold on a blob to delete, if nothing keeps it still.
#[derive(Debug, Clone)]
pub struct CondemnedGrant {
    /// Why it was looked at.
    pub review: Review,
    /// The repository.
    pub repository: RepositoryName,
    /// The blob.
    pub digest: Digest,
}

/// What a step deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Deleted {
    fn add_assign(&mut self, more: Self) {
        self.count += more.count;
        self.bytes += more.bytes;
    }
}

/// What is condemned and waits until the reads that are under way have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaitingBytes {
    /// How many objects.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the first of them may go.
    pub first: Option<SystemTime>,
}

/// How many manifests, tags or blobs a collection may delete before it is taken for a mistake: of each kind so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// So many of a hundred, in a day; 100 lets everything go.
    pub percent: u8,
    /// So many are never too many.
    pub floor: u64,
}

/// How the deletion of manifests or blobs went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GarbageOutcome {
    /// Those that nothing kept are gone.
    Deleted(Deleted),
    /// None was deleted: they would have been too many, and are until somebody says that they are not.
    Stopped,
}

/// What holds garbage collection up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionState {
    /// What the database's clock says.
    pub now: SystemTime,
    /// It waits until then, since the clock was moved: what was promised by it is promised anew.
    pub waits_until: Option<SystemTime>,
    /// It was stopped, and why.
    pub stopped: Option<String>,
}

impl Metadata {
    /// Manifests whose review is due, each with what keeps it.
    pub async fn review_manifests(&self, page: ReviewPage) -> Result<Reviewed<ManifestFacts>> {
        on_engine!(self.review_manifests(page))
    }

    /// Holds on blobs whose review is due, each with what keeps it.
    pub async fn review_grants(&self, page: ReviewPage) -> Result<Reviewed<GrantFacts>> {
        on_engine!(self.review_grants(page))
    }

    /// Blobs whose review is due, each with what keeps it.
    pub async fn review_blobs(&self, page: ReviewPage) -> Result<Reviewed<BlobFacts>> {
        on_engine!(self.review_blobs(page))
    }

    /// A manifest with what keeps it, whether a review of it is due or not.
    pub async fn manifest_facts(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<ManifestFacts>> {
        on_engine!(self.manifest_facts(repository, digest))
    }

    /// The children of these indexes and the referrers of these subjects: once for each that keeps them.
    pub async fn manifests_kept_by(&self, keepers: &[Review]) -> Result<Vec<KeptManifest>> {
        on_engine!(self.manifests_kept_by(keepers))
    }

    /// These manifests, each with how much keeps it.
    pub async fn manifests_with_keepers(&self, manifests: &[Review]) -> Result<Vec<KeptManifest>> {
        on_engine!(self.manifests_with_keepers(manifests))
    }

    /// The blobs that these manifests need: each once for each repository.
    pub async fn blobs_needed_by(&self, manifests: &[Review]) -> Result<Vec<NeededBlob>> {
        on_engine!(self.blobs_needed_by(manifests))
    }

    /// For each of these holds, how many repositories hold its blob.
    pub async fn count_holders(&self, grants: &[Review]) -> Result<Vec<(Review, u64)>> {
        on_engine!(self.count_holders(grants))
    }

    /// Objects that are condemned and whose bytes are there still.
    pub async fn waiting_bytes(&self) -> Result<WaitingBytes> {
        on_engine!(self.waiting_bytes())
    }

    /// Ends reviews of manifests that stay: whatever takes away what keeps them queues them anew. Those with a time are
    /// looked at again then.
    pub async fn keep_manifests(&self, kept: Vec<Review>, until: Vec<(Review, SystemTime)>) -> Result<()> {
        on_engine!(self.settle_reviews(Kind::Manifest, kept, until))
    }

    /// The same for holds on blobs.
    pub async fn keep_grants(&self, kept: Vec<Review>, until: Vec<(Review, SystemTime)>) -> Result<()> {
        on_engine!(self.settle_reviews(Kind::Grant, kept, until))
    }

    /// Ends the reviews of those of the blobs that a repository holds still.
    pub async fn keep_blobs(&self, kept: Vec<Review>) -> Result<()> {
        on_engine!(self.keep_blobs(kept))
    }

    /// Deletes those of the manifests that are still as they were found and are kept by nothing. Those that somebody works
    /// on right now are passed over, and stay in the queue. Unless that were too many.
    pub async fn delete_unkept_manifests(
        &self,
        condemned: Vec<CondemnedManifest>,
        breaker: Breaker,
    ) -> Result<GarbageOutcome> {
        on_engine!(self.delete_unkept_manifests(condemned, breaker))
    }

    /// Deletes those of the holds whose lease has ended and that no manifest needs.
    pub async fn delete_unkept_grants(&self, condemned: Vec<CondemnedGrant>) -> Result<Deleted> {
        on_engine!(self.delete_unkept_grants(condemned))
    }

    /// Deletes those of the blobs that no repository holds, and condemns their objects; unless that were too many.
    pub async fn delete_unheld_blobs(&self, reviews: Vec<Review>, breaker: Breaker) -> Result<GarbageOutcome> {
        on_engine!(self.delete_unheld_blobs(reviews, breaker))
    }

    /// What holds garbage collection up, looked at before a pass: a clock that was moved since anybody looked makes it wait
    /// for as long as things are promised.
    pub async fn begin_collection(&self) -> Result<CollectionState> {
        on_engine!(self.begin_collection())
    }

    /// What holds garbage collection up.
    pub async fn collection_state(&self) -> Result<CollectionState> {
        on_engine!(self.collection_state())
    }

    /// Makes garbage collection wait, on all replicas, for as long as things are promised.
    pub async fn hold_collection(&self) -> Result<()> {
        on_engine!(self.hold_collection())
    }

    /// Lets garbage collection go on, whatever held it up, and delete as much as it finds for a day.
    pub async fn resume_collection(&self) -> Result<()> {
        on_engine!(self.resume_collection())
    }

    /// For how long the review that waits longest has been due.
    pub async fn overdue_for(&self) -> Result<Duration> {
        on_engine!(self.overdue_for())
    }

    /// Ends at most `limit` sessions that have expired, and condemns their objects.
    pub async fn expire_uploads(&self, limit: u32) -> Result<ExpiredUploads> {
        on_engine!(self.expire_uploads(limit))
    }

    /// Takes at most `limit` condemned keys whose time has come; another caller gets them only after `hold`.
    pub async fn claim_tombstones(&self, limit: u32, hold: Duration) -> Result<Vec<Tombstone>> {
        on_engine!(self.claim_tombstones(limit, hold))
    }

    /// Forgets condemned keys whose bytes are gone.
    pub async fn drop_tombstones(&self, keys: Vec<String>) -> Result<()> {
        on_engine!(self.drop_tombstones(keys))
    }
}
