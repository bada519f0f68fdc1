//! Compares the store with the database, both ways, and the database with itself. Says what it finds; mends it only where
//! it is told to. Nothing that a client may need is deleted by it: a stray object goes the way of every condemned one.

#[cfg(test)]
mod tests;
mod uploads;

use crate::{
    Error,
    length::{key_of, wrong_length},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use longshore_metadata::{
    ComparedUsage, Content, DamagedRow, Forgotten, InRows, Metadata, ObjectRow, StoredObject, StrayObject, Table,
};
use longshore_oci::{Digest, RepositoryName};
use longshore_storage::{Error as StorageError, ObjectKey, Storage};
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// Rows and keys that are looked at together.
const PAGE: u32 = 500;
/// Contents that are read together: manifests have up to some megabytes.
const CONTENTS: u32 = 16;
/// Objects that the store is asked for at the same time.
const ASKED: usize = 16;
/// So many objects that are lost, or stray, are mended in any case.
const FEW: u64 = 20;
/// And so many of a hundred.
const SHARE: u64 = 10;

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct FsckOptions {
    /// Mend what is found.
    pub repair: bool,
    /// Mend it however much that is.
    pub all: bool,
    /// An object, or an upload, without a row counts when its key is older: a start of the server writes one and deletes it
    /// again.
    pub older_than: Duration,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The object of a blob is not there, or has another length. Mended: the blob is served no more until it is pushed anew.
    Lost {
        /// The object's key.
        key: String,
        /// The blob.
        digest: Digest,
        /// What is wrong.
        reason: String,
    },
    /// No row names an object. Mended: it is condemned.
    Stray {
        /// Its key.
        key: String,
        /// In bytes.
        size: u64,
    },
    /// No row names an upload in parts that the store has begun. Mended: it is ended, once none can be under way for so long.
    StrayUpload {
        /// The key of the object that it was to become.
        key: String,
        /// The store's name of it.
        upload: String,
    },
    /// Nothing names the row of an object. Mended: it is condemned.
    Unused {
        /// Its key.
        key: String,
        /// In bytes.
        size: u64,
    },
    /// Nothing keeps a thing, and garbage collection does not know of it. Mended: it does.
    Forgotten {
        /// Where it is; none for a blob.
        repository: Option<RepositoryName>,
        /// Its digest.
        digest: Digest,
        /// What it is.
        table: Table,
    },
    /// The bytes in a row are not those of its digest. Mended: they are served no more until the same is pushed anew.
    DamagedRow {
        /// Of a manifest, where it is.
        repository: Option<RepositoryName>,
        /// What they should be.
        digest: Digest,
    },
    /// A namespace is said to hold other bytes than it holds. Mended: it is counted once more.
    Miscounted {
        /// Its name.
        namespace: String,
        /// Both, in bytes.
        usage: ComparedUsage,
    },
}

/// How much was looked at and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Objects of the store.
    pub objects: u64,
    /// Rows of the database.
    pub rows: u64,
    /// What was wrong.
    pub findings: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |repository: &Option<RepositoryName>| match repository {
            Some(repository) => format!("{repository}@"),
            None => "blob ".to_owned(),
        };
        match self {
            Self::Lost { key, digest, reason } => write!(formatter, "lost       {key} of blob {digest}: {reason}"),
            Self::Stray { key, size } => write!(formatter, "stray      {key}, {size} bytes: no row names it"),
            Self::StrayUpload { key, upload } => write!(formatter, "upload     {upload} of {key}: no row names it"),
            Self::Unused { key, size } => write!(formatter, "unused     {key}, {size} bytes: nothing names its row"),
            Self::Forgotten { repository, digest, table } => {
                let what = match table {
                    Table::Manifests => "the manifest",
                    Table::Grants => "the hold on the blob",
                    Table::Blobs => "it",
                };
                write!(formatter, "forgotten  {}{digest}: nothing keeps {what}, nor collects it", place(repository))
            }
            Self::DamagedRow { repository, digest } => {
                write!(formatter, "damaged    {}{digest}: its bytes in the database are others", place(repository))
            }
            Self::Miscounted { namespace, usage: ComparedUsage { told, counted } } => {
                write!(formatter, "miscounted {namespace}: it holds {counted} bytes, and {told} count for its quota")
            }
        }
    }
}

/// Looks at everything; tells each finding, and at the end how much that was.
///
/// # Errors
/// [`Error::Metadata`]; [`Error::Storage`] where the store does not answer; [`Error::TooMuchToRepair`] where so much is
/// lost or stray that the store, or the database, is rather another one: nothing is mended then.
pub async fn fsck(
    metadata: &Metadata,
    storage: &Storage,
    options: FsckOptions,
    told: impl FnMut(&Finding),
) -> Result<Checked, Error> {
    if options.repair && !options.all {
        refuse_too_much(metadata, storage, options).await?;
    }
    let mut check = Check { metadata, storage, options, told, checked: Checked::default() };
    check.lost_objects().await?;
    check.stray_objects().await?;
    check.stray_uploads().await?;
    check.unused_objects().await?;
    for table in [Table::Manifests, Table::Grants, Table::Blobs] {
        check.forgotten(table).await?;
    }
    check.contents(InRows::Manifests).await?;
    check.contents(InRows::Blobs).await?;
    check.usage().await?;
    Ok(check.checked)
}

struct Check<'a, F> {
    metadata: &'a Metadata,
    storage: &'a Storage,
    options: FsckOptions,
    told: F,
    checked: Checked,
}

impl<F: FnMut(&Finding)> Check<'_, F> {
    fn found(&mut self, finding: &Finding) {
        self.checked.findings += 1;
        (self.told)(finding);
    }

    /// Objects of blobs that the store has not, or not as recorded. Answers how many were not known to be damaged.
    async fn lost_objects(&mut self) -> Result<u64, Error> {
        let (mut news, mut after) = (0, 0);
        loop {
            let page = self.metadata.objects_after(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(news) };
            after = last.number;
            self.checked.rows += page.len() as u64;
            let storage = self.storage;
            let asked = stream::iter(page).map(|object| lost(storage, object)).buffer_unordered(ASKED);
            let lost: Vec<_> = asked.try_collect().await?;
            for (object, reason) in lost.into_iter().flatten() {
                // Or was it collected since?
                if self.metadata.objects_after(object.number - 1, 1).await?.first() != Some(&object) {
                    continue;
                }
                news += u64::from(!object.is_damaged);
                self.found(&Finding::Lost { key: object.key.clone(), digest: object.digest, reason: reason.clone() });
                if self.options.repair && !object.is_damaged {
                    self.metadata.mark_damaged(object, reason).await?;
                }
            }
        }
    }

    /// Objects of the store that no row names. Answers how many.
    async fn stray_objects(&mut self) -> Result<u64, Error> {
        let (mut found, storage) = (0, self.storage);
        let mut pages = storage.list().try_chunks(PAGE as usize);
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Error::Storage(error.1))?;
            self.checked.objects += page.len() as u64;
            let strays = strays_among(self.metadata, storage, self.options.older_than, page).await?;
            found += strays.len() as u64;
            for stray in &strays {
                self.found(&Finding::Stray { key: stray.key.clone(), size: stray.size });
            }
            if self.options.repair && !strays.is_empty() {
                self.metadata.condemn_strays(strays, storage.backend()).await?;
            }
        }
        Ok(found)
    }

    /// Rows of objects that nothing names.
    async fn unused_objects(&mut self) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let page = self.metadata.used_objects(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.number;
            self.checked.rows += page.len() as u64;
            let unused: Vec<ObjectRow> = page.into_iter().filter(|object| !object.is_used).collect();
            for object in &unused {
                self.found(&Finding::Unused { key: object.key.clone(), size: object.size });
            }
            if self.options.repair && !unused.is_empty() {
                self.metadata.condemn_unused(unused).await?;
            }
        }
    }

    /// What nothing keeps, and garbage collection does not wait for either.
    async fn forgotten(&mut self, table: Table) -> Result<(), Error> {
        let mut after = (0, 0);
        loop {
            let page = self.metadata.seen(table, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.place;
            self.checked.rows += page.len() as u64;
            let forgotten: Vec<Forgotten> = page.into_iter().filter(|row| !row.is_seen).collect();
            for Forgotten { repository, digest, .. } in &forgotten {
                self.found(&Finding::Forgotten { repository: repository.clone(), digest: *digest, table });
            }
            if self.options.repair && !forgotten.is_empty() {
                let places = forgotten.iter().map(|row| row.place).collect();
                self.metadata.queue_forgotten(table, places).await?;
            }
        }
    }

    /// Manifests and small blobs whose bytes are not those of their digest.
    async fn contents(&mut self, of: InRows) -> Result<(), Error> {
        let mut after = (0, 0);
        loop {
            let page = self.metadata.contents(of, after, CONTENTS).await?;
            let Some(reached) = page.reached else { return Ok(()) };
            after = reached;
            self.checked.rows += page.contents.len() as u64;
            for Content { repository, digest, bytes, is_damaged: is_known, .. } in page.contents {
                let Some(row) = DamagedRow::of(repository.as_ref(), &digest, &bytes) else { continue };
                self.found(&Finding::DamagedRow { repository, digest });
                if self.options.repair && !is_known {
                    self.metadata.mark_damaged_row(row).await?;
                }
            }
        }
    }

    /// Namespaces that hold something else than counts for their quotas.
    async fn usage(&mut self) -> Result<(), Error> {
        let mut after = String::new();
        loop {
            let page = self.metadata.added_up_namespaces(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(last);
            for namespace in page {
                let Some(usage) = self.metadata.compare_usage(&namespace).await? else { continue };
                if usage.told == usage.counted {
                    continue;
                }
                if self.options.repair {
                    self.metadata.count_usage_anew(&namespace).await?;
                }
                self.found(&Finding::Miscounted { namespace, usage });
            }
        }
    }
}

/// Looks how much is lost, and how much is stray, before any of it is mended.
async fn refuse_too_much(metadata: &Metadata, storage: &Storage, options: FsckOptions) -> Result<(), Error> {
    let refuse_many = |what, found, total| {
        if is_too_much(found, total) { Err(Error::TooMuchToRepair { what, found, total }) } else { Ok(()) }
    };
    let options = FsckOptions { repair: false, ..options };
    let mut look = Check { metadata, storage, options, told: |_: &Finding| (), checked: Checked::default() };
    let lost = look.lost_objects().await?;
    refuse_many("lost", lost, look.checked.rows)?;
    let stray = look.stray_objects().await?;
    refuse_many("stray", stray, look.checked.objects)
}

/// Whether it is more than a disk or a mishap takes.
fn is_too_much(found: u64, total: u64) -> bool {
    found > FEW && found * 100 > total * SHARE
}

/// Those listed objects that no row names. Garbage collection deletes an object before the last row of it: one that is not
/// there any more was listed before that, and is none.
async fn strays_among(
    metadata: &Metadata,
    storage: &Storage,
    older_than: Duration,
    listed: Vec<(ObjectKey, u64)>,
) -> Result<Vec<StrayObject>, Error> {
    let keys: Vec<String> = listed.iter().map(|(key, _)| key.to_string()).collect();
    let known = metadata.known_keys(&keys).await?;
    let young = SystemTime::now() - older_than;
    let mut strays = Vec::new();
    for (key, size) in listed {
        if known.contains(&key.to_string()) || key.made_at().is_some_and(|made_at| made_at > young) {
            continue;
        }
        match storage.size(&key).await {
            Ok(_) => strays.push(StrayObject { key: key.to_string(), size }),
            Err(StorageError::Lost { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(strays)
}

/// What is wrong with an object, by its length.
async fn lost(storage: &Storage, object: StoredObject) -> Result<Option<(StoredObject, String)>, Error> {
    let key = match key_of(&object) {
        Ok(key) => key,
        Err(reason) => return Ok(Some((object, reason))),
    };
    let reason = match wrong_length(storage, &key, object.size).await {
        Err(StorageError::Lost { .. }) => Some("it is not there".to_owned()),
        looked => looked?,
    };
    Ok(reason.map(|reason| (object, reason)))
}
