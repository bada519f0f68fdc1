//! What was read before, answered from memory: manifests by digest, what a tag names, small blobs and where large ones
//! are, and promises that need no renewal. Bounded in bytes. Only what is there is kept; that something is absent is
//! asked of the database each time.
//!
//! # Why an answer from here is never older than a write that was answered
//!
//! Nothing is ever removed because it changed. There are counters instead ([`epochs`]): every tag, manifest and blob
//! has one, and every repository has one for changes of many things at once. (Things share counters by their hash. That
//! costs a query now and then, and nothing else.)
//!
//! - A reader notes the counters of what it asks for *before* its query begins; what it keeps carries that note.
//! - A writer raises the counters of what it may have changed *after* its commit and *before* it answers.
//! - An answer is given from memory only while its note equals the counters.
//!
//! Say an answer is given from memory at time *t*, with a note of time *s*. Counters only rise, so none of its own was
//! raised between *s* and *t*. A write that was answered before *t* raised its counters before *t*, so before *s*; so it
//! was committed before *s*, and the query, which began after *s*, saw it. A reader that was overtaken by a writer,
//! in whatever order things happened, keeps something dead and nothing stale. Before a write is answered, either state
//! is right. What belongs to a digest needs no proof: the bytes of a manifest or blob cannot change, only whether they
//! are there, and a manifest's media type.
//!
//! The raise travels with the write and not with its caller ([`changes::Announcement`]): a caller that goes away in the
//! middle, an error whose outcome nobody knows, a panic of the writer, all end in it.
//!
//! # Who else writes
//!
//! SQLite has one process, so that is all of it. On Postgres the triggers of migrations 0002 and 0019 notify every replica
//! in the transaction that makes the change, and `postgres/notifications.rs` raises the counter of the tag, manifest or
//! blob (or of the repository) for each of them. The cache answers only while the [`gate`] is open: from when
//! notifications are known to arrive, until they have not been proven to for three seconds. So an answer from memory is
//! never older than the notification takes, and never older than three seconds, by this process's monotonic clock.
//!
//! Last, an entry lives a minute at most: the backstop against what changes behind all of that, such as the operator's
//! own SQL on SQLite.

mod changes;
mod crowds;
mod entries;
mod epochs;
mod gate;
mod questions;
#[cfg(test)]
mod tests;

pub(crate) use changes::{Announcement, Change};
pub(crate) use questions::{Promised, Question};

use crate::{BlobRecord, CacheUsage, ManifestRecord, Result};
use crowds::{Asking, Crowds};
use entries::{Answer, Entries, Entry};
use epochs::{Epochs, Stamp};
use gate::Gate;
use longshore_oci::{Digest, RepositoryName, Tag};
use questions::Asked;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The database's clock may run a little faster than ours while a promise is kept in memory.
const PROMISE_MARGIN: Duration = Duration::from_secs(10);

/// A handle on the cache. Cheap to clone; without room it is off, and costs nothing.
#[derive(Clone)]
pub(crate) struct Cache(Option<Arc<Shared>>);

struct Shared {
    entries: Entries,
    epochs: Epochs,
    gate: Gate,
    asking: Asking,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Cache {
    /// A cache of so many bytes, closed. Who asks for what another is asking for waits no longer than `longest_wait`.
    pub(crate) fn new(max_bytes: u64, longest_wait: Duration) -> Self {
        let shared = || Shared {
            entries: Entries::new(max_bytes),
            epochs: Epochs::new(),
            gate: Gate::closed(),
            asking: Asking::new(longest_wait),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        };
        Self((max_bytes > 0).then(|| Arc::new(shared())))
    }

    /// Whether there is a cache at all.
    #[must_use]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it may answer at this moment.
    pub(crate) fn is_open(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.gate.opening().is_some())
    }

    /// Opens it for good: nobody else writes to the database.
    pub(crate) fn open(&self) {
        self.open_for(Duration::MAX);
    }

    /// Opens it anew for so long: what was kept before is dead.
    pub(crate) fn open_for(&self, duration: Duration) {
        if let Some(shared) = &self.0 {
            shared.gate.open(duration);
        }
    }

    /// Keeps it open, if it is, for so long from now.
    pub(crate) fn stay_open_for(&self, duration: Duration) {
        if let Some(shared) = &self.0 {
            shared.gate.stay_open(duration);
        }
    }

    /// Closes it: nothing is answered from here, and nothing kept.
    pub(crate) fn close(&self) {
        if let Some(shared) = &self.0 {
            shared.gate.close();
        }
    }

    /// Makes what may have changed invalid, now.
    pub(crate) fn changed(&self, change: &Change) {
        if let Some(shared) = &self.0 {
            shared.changed(change);
        }
    }

    /// Makes what a write may change invalid, once the write has come to its end.
    pub(crate) fn announce(&self, changes: Vec<Change>) -> Announcement {
        Announcement::new(self.clone(), changes)
    }

    /// How it is used.
    pub(crate) fn usage(&self) -> CacheUsage {
        self.0.as_ref().map(|shared| shared.usage()).unwrap_or_default()
    }

    /// The manifest of this digest.
    pub(crate) fn manifest(&self, repository: &RepositoryName, digest: &Digest) -> Option<ManifestRecord> {
        self.counted(|shared| Some(shared.manifest(repository, digest)?.0))
    }

    /// The manifest that the tag names.
    pub(crate) fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Option<ManifestRecord> {
        self.counted(|shared| match shared.answer(Question::Tag(repository, tag))? {
            Answer::Tag(digest, then) => {
                let (record, now) = shared.manifest(repository, &digest)?;
                (now == then).then_some(record)
            }
            _ => None,
        })
    }

    /// The blob.
    pub(crate) fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Option<BlobRecord> {
        self.counted(|shared| match shared.answer(Question::Blob(repository, digest))? {
            Answer::Blob(record) => Some(record),
            _ => None,
        })
    }

    /// The size of the blob, while its lease outlasts the promise without renewal.
    pub(crate) fn promise(&self, repository: &RepositoryName, digest: &Digest) -> Option<u64> {
        self.counted(|shared| match shared.answer(Question::Promise(repository, digest))? {
            Answer::Promise { size, until } if shared.gate.now() < until => Some(size),
            _ => None,
        })
    }

    fn counted<T>(&self, find: impl FnOnce(&Shared) -> Option<T>) -> Option<T> {
        let shared = self.0.as_deref()?;
        let found = find(shared);
        let counter = if found.is_some() { &shared.hits } else { &shared.misses };
        counter.fetch_add(1, Relaxed);
        found
    }

    /// Asks the database for what is not here, together with whoever asks the same. `look` looks here again, once one has
    /// waited; `query` is polled when it is this one's turn, and has to [`begin`](Self::begin) then.
    pub(crate) async fn ask<T: Clone>(
        &self,
        kind: fn(&Asking) -> &Crowds<T>,
        question: Question<'_>,
        look: impl Fn() -> Option<T>,
        query: impl Future<Output = Result<Option<T>>>,
    ) -> Result<Option<T>> {
        match self.0.as_deref() {
            Some(shared) => kind(&shared.asking).ask(&shared.epochs.ask(question), look, query).await,
            None => query.await,
        }
    }

    /// Begins to read what was not found here: to be called before the query begins. `None` while the cache is closed.
    pub(crate) fn begin<'a>(&'a self, question: Question<'a>) -> Option<Reading<'a>> {
        let shared = self.0.as_deref()?;
        let opening = shared.gate.opening()?;
        let asked = shared.epochs.ask(question);
        let manifests = shared.epochs.manifests(question.repository());
        Some(Reading {
            shared,
            stamp: shared.epochs.stamp(opening, &asked),
            began: shared.gate.now(),
            manifests,
            asked,
        })
    }
}

/// A query that is under way, with the counters from before it.
pub(crate) struct Reading<'a> {
    shared: &'a Shared,
    asked: Asked<'a>,
    stamp: Stamp,
    /// How many manifests were put into the repository or deleted there, or about that.
    manifests: u64,
    began: u64,
}

impl Reading<'_> {
    /// Keeps the manifest that was asked for by its digest.
    pub(crate) fn keep_manifest(self, record: &ManifestRecord) {
        self.keep(Answer::Manifest(record.clone()));
    }

    /// Keeps the manifest that was asked for by its tag: the tag names a digest, and the digest is that manifest. So
    /// manifests are here once for all their tags, and one that is asked for by digest next is here already.
    ///
    /// With a manifest go the tags that name it, and whoever deletes it does not know them in time to raise their counters.
    /// So what a tag names is right only as long as the counter of that manifest stands where it stood: for good no more,
    /// though the same bytes come again.
    ///
    /// Which manifest it is was not known before the query, so its counter is read only now, and may be newer than what
    /// we read. It is not if no manifest was put into the repository or deleted there meanwhile. (Whoever does that raises
    /// the repository's count of those first, the manifest's own counter second; we look at them in the other order.)
    /// Otherwise nothing is kept, and whoever asks next tries again.
    pub(crate) fn keep_tag(self, record: &ManifestRecord) {
        let (shared, repository) = (self.shared, self.asked.question.repository());
        let asked = shared.epochs.ask(Question::Manifest(repository, &record.digest));
        let stamp = shared.epochs.stamp(self.stamp.opening(), &asked).with_repository_of(&self.stamp);
        if shared.epochs.manifests(repository) == self.manifests {
            shared.keep(&asked, Entry { stamp, answer: Answer::Manifest(record.clone()) });
            self.keep(Answer::Tag(record.digest, stamp));
        }
    }

    /// Keeps a blob.
    pub(crate) fn keep_blob(self, record: &BlobRecord) {
        self.keep(Answer::Blob(record.clone()));
    }

    /// Keeps a promise, for as long as the lease outlasts it. Time goes by from before the query.
    pub(crate) fn keep_promise(self, promised: &Promised) {
        let spare = u64::try_from(promised.spare.saturating_sub(PROMISE_MARGIN).as_nanos()).unwrap_or(u64::MAX);
        if spare > 0 {
            let until = self.began.saturating_add(spare);
            self.keep(Answer::Promise { size: promised.size, until });
        }
    }

    fn keep(self, answer: Answer) {
        self.shared.keep(&self.asked, Entry { stamp: self.stamp, answer });
    }
}

impl Shared {
    /// The one way to an answer: through the open gate, and with counters that stand where they stood.
    fn entry(&self, question: Question<'_>) -> Option<Entry> {
        let opening = self.gate.opening()?;
        let asked = self.epochs.ask(question);
        let entry = self.entries.get(&asked)?;
        (entry.stamp == self.epochs.stamp(opening, &asked)).then_some(entry)
    }

    fn answer(&self, question: Question<'_>) -> Option<Answer> {
        Some(self.entry(question)?.answer)
    }

    /// A manifest, and where its counters stand.
    fn manifest(&self, repository: &RepositoryName, digest: &Digest) -> Option<(ManifestRecord, Stamp)> {
        match self.entry(Question::Manifest(repository, digest))? {
            Entry { answer: Answer::Manifest(record), stamp } => Some((record, stamp)),
            _ => None,
        }
    }

    /// What is dead already is not worth its room.
    fn keep(&self, asked: &Asked<'_>, entry: Entry) {
        let opening = self.gate.opening();
        if opening.is_some_and(|opening| entry.stamp == self.epochs.stamp(opening, asked)) {
            self.entries.insert(asked, entry);
        }
    }

    fn changed(&self, change: &Change) {
        match change {
            Change::Everything => self.gate.forget(),
            Change::Repository(repository) => self.epochs.raise_repository(repository),
            Change::Tag(repository, tag) => self.epochs.raise(Question::Tag(repository, tag)),
            Change::Blob(repository, digest) => self.epochs.raise(Question::Blob(repository, digest)),
            Change::Manifest(repository, digest) => {
                // In this order: see `keep_tag`.
                self.epochs.raise_manifests(repository);
                self.epochs.raise(Question::Manifest(repository, digest));
            }
        }
    }

    fn usage(&self) -> CacheUsage {
        CacheUsage {
            is_open: self.gate.opening().is_some(),
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            entries: self.entries.count(),
            bytes: self.entries.bytes(),
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Cache").field(&self.usage()).finish()
    }
}
