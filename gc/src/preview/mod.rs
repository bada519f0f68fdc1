//! What would go, when, and why the rest stays: the collector's own facts and verdicts, followed to their end without
//! deleting anything.
//!
//! Whatever may go is in the queue, or is kept only by what is, or by a tag that a rule deletes: so this is work in proportion
//! to garbage, and to the tags that rules are for. Each thing is told as soon as it is found and then forgotten; what stays in
//! memory are the numbers of what goes, now or later, and the names of the repositories that it goes from.

mod blobs;
mod losses;
#[cfg(test)]
mod tests;

use crate::{Error, Reason, RetentionRule, Rules};
use blobs::Holds;
use longshore_metadata::{Metadata, OpenSession, TagFacts, WaitingBytes};
use longshore_oci::{Digest, RepositoryName, Tag};
use losses::Losses;
use std::{collections::BTreeMap, time::SystemTime};

/// Rows that are read together.
const PAGE: u32 = 500;

/// What a collection would do, added up.
#[derive(Debug, Default)]
pub struct Preview {
    /// By repository, what it would hold no more in the end.
    pub repositories: BTreeMap<RepositoryName, Share>,
    /// All that nothing keeps: what would be deleted of the store and the database, once what stays for now, what is promised
    /// and what is read has had its time.
    pub freed: Share,
    /// Manifests that stay for now although nothing keeps them, without what goes with them. They are a part of what is freed.
    pub staying: Share,
    /// What repositories hold by a lease alone, for now. It is a part of what they would hold no more.
    pub leased: Share,
    /// Sessions that have time still, which are no part of the others.
    pub open: Share,
    /// What is condemned already.
    pub waiting: WaitingBytes,
    /// Manifests that wait to be looked at, and that something keeps.
    pub kept: KeptCounts,
}

/// Things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Manifests.
    pub manifests: u64,
    /// Blobs.
    pub blobs: u64,
    /// Upload sessions.
    pub sessions: u64,
    /// The bytes of all.
    pub bytes: u64,
}

/// How many manifests are kept, by the first thing that keeps each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptCounts {
    /// By a tag.
    pub by_tag: u64,
    /// By an index.
    pub by_index: u64,
    /// By their subject.
    pub by_subject: u64,
    /// By what is left of what keeps them: a part of that goes.
    pub by_rest: u64,
}

/// What a collection would do to one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreseen {
    /// A tag goes by a rule.
    Tag(GoingTag),
    /// A manifest goes.
    Manifest(GoingManifest),
    /// A manifest stays for now, and goes later.
    StayingManifest(StayingManifest),
    /// A manifest waits to be looked at, and is kept.
    Kept(Kept),
    /// A repository lets go of a blob, or the store does.
    Blob(GoingBlob),
    /// A session ends, or will.
    Session {
        /// The session.
        session: OpenSession,
        /// Whether its time is over.
        is_expired: bool,
    },
}

/// A tag that would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoingTag {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its name.
    pub tag: Tag,
    /// What it names.
    pub digest: Digest,
    /// The rule by which it goes.
    pub rule: String,
    /// Whether the rule only reports. What follows is counted as if it did not.
    pub is_only_reported: bool,
}

/// A manifest that would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoingManifest {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Of its body, in bytes.
    pub size: u64,
    /// Since when nothing keeps it; none where it goes with the last that keeps it.
    pub since: Option<SystemTime>,
}

/// A manifest that nothing keeps and that stays for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StayingManifest {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Of its body, in bytes.
    pub size: u64,
    /// Until when.
    pub until: SystemTime,
    /// What keeps it so long.
    pub reason: Reason,
}

/// A manifest that something keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Of its body, in bytes.
    pub size: u64,
    /// What keeps it; none where a part of what keeps it goes, and the rest is enough.
    pub reason: Option<Reason>,
}

/// A blob that would go from a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoingBlob {
    /// Whose it is; none where no repository holds it.
    pub repository: Option<RepositoryName>,
    /// Its digest.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// When it goes.
    pub when: BlobEnd,
    /// Whether no repository holds it from then on, so that its bytes go.
    pub is_freed: bool,
}

/// When a blob goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobEnd {
    /// Now: no repository holds it.
    Unheld,
    /// Now: no manifest needs it, and its lease ended then.
    LeaseEnded(SystemTime),
    /// When its lease ends: no manifest needs it.
    LeaseEnds(SystemTime),
    /// With the last manifest that needs it, and the lease that begins then.
    WithManifests,
}

/// Looks at everything that waits, due or not, and tells of each thing; answers what that comes to.
///
/// # Errors
/// [`Error::Metadata`] where the database fails.
pub async fn preview(metadata: &Metadata, rules: &Rules, told: impl FnMut(Foreseen)) -> Result<Preview, Error> {
    let preview = Preview { waiting: metadata.waiting_bytes().await?, ..Preview::default() };
    let mut account = Account { preview, told };
    sessions(metadata, &mut account).await?;
    let going = Losses::follow(metadata, rules, &mut account).await?;
    Holds::follow(metadata, &going, &mut account).await?;
    Ok(account.preview)
}

/// Sessions that nobody has ended, and what expired ones take with them.
async fn sessions<F: FnMut(Foreseen)>(metadata: &Metadata, account: &mut Account<F>) -> Result<(), Error> {
    let mut last = None;
    loop {
        let page = metadata.open_sessions(last.as_ref(), PAGE).await?;
        last = page.sessions.last().cloned();
        if last.is_none() {
            return Ok(());
        }
        for session in page.sessions {
            let is_expired = session.expires_at <= page.now;
            account.end_session(session, is_expired);
        }
    }
}

/// Tells of each thing, and adds it up.
struct Account<F> {
    preview: Preview,
    told: F,
}

impl<F: FnMut(Foreseen)> Account<F> {
    fn tell(&mut self, foreseen: Foreseen) {
        (self.told)(foreseen);
    }

    fn share_of(&mut self, repository: &RepositoryName) -> &mut Share {
        self.preview.repositories.entry(repository.clone()).or_default()
    }

    fn end_session(&mut self, session: OpenSession, is_expired: bool) {
        let received = session.received;
        if is_expired {
            self.share_of(&session.repository).add_session(received);
            self.preview.freed.add_session(received);
        } else {
            self.preview.open.add_session(received);
        }
        self.tell(Foreseen::Session { session, is_expired });
    }

    fn lose_tag(&mut self, repository: &RepositoryName, facts: TagFacts, rule: &RetentionRule) {
        let (repository, rule, is_only_reported) = (repository.clone(), rule.name.clone(), rule.dry_run);
        self.tell(Foreseen::Tag(GoingTag { repository, tag: facts.tag, digest: facts.digest, rule, is_only_reported }));
    }

    fn lose_manifest(&mut self, manifest: GoingManifest) {
        self.add_manifest(&manifest.repository, manifest.size);
        self.tell(Foreseen::Manifest(manifest));
    }

    /// The same of one that stays for now.
    fn lose_later(&mut self, manifest: StayingManifest) {
        self.add_manifest(&manifest.repository, manifest.size);
        self.preview.staying.add_manifest(manifest.size);
        self.tell(Foreseen::StayingManifest(manifest));
    }

    fn add_manifest(&mut self, repository: &RepositoryName, size: u64) {
        self.share_of(repository).add_manifest(size);
        self.preview.freed.add_manifest(size);
    }

    fn keep_manifest(&mut self, kept: Kept) {
        self.preview.kept.add(kept.reason.as_ref());
        self.tell(Foreseen::Kept(kept));
    }

    fn lose_blob(&mut self, blob: GoingBlob) {
        let size = blob.size;
        if let Some(repository) = &blob.repository {
            self.share_of(repository).add_blob(size);
        }
        if blob.is_freed {
            self.preview.freed.add_blob(size);
        }
        if matches!(blob.when, BlobEnd::LeaseEnds(_)) {
            self.preview.leased.add_blob(size);
        }
        self.tell(Foreseen::Blob(blob));
    }
}

impl KeptCounts {
    fn add(&mut self, reason: Option<&Reason>) {
        let count = match reason {
            None => &mut self.by_rest,
            Some(Reason::Parent(_)) => &mut self.by_index,
            Some(Reason::Subject(_)) => &mut self.by_subject,
            // Nothing else keeps a manifest without an end.
            Some(_) => &mut self.by_tag,
        };
        *count += 1;
    }
}

impl Share {
    fn add_manifest(&mut self, size: u64) {
        self.manifests += 1;
        self.bytes += size;
    }

    fn add_blob(&mut self, size: u64) {
        self.blobs += 1;
        self.bytes += size;
    }

    fn add_session(&mut self, received: u64) {
        self.sessions += 1;
        self.bytes += received;
    }
}
