//! Uploads in parts that the store holds and nobody will end: of a database from a backup, or of a writer that died before it
//! could say which it had begun. Their parts are no objects, and are paid for all the same.

use super::{Check, Finding, PAGE};
use crate::Error;
use futures_util::{StreamExt, TryStreamExt};
use longshore_metadata::Metadata;
use longshore_storage::{BegunUpload, ObjectKey, Storage};
use std::time::{Duration, SystemTime};

/// No upload is under way for longer: what has begun before has no writer, whatever the database is.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

impl<F: FnMut(&Finding)> Check<'_, F> {
    /// Uploads that no row names.
    pub(super) async fn stray_uploads(&mut self) -> Result<(), Error> {
        let storage = self.storage;
        let mut pages = storage.list_uploads().try_chunks(PAGE as usize);
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Error::Storage(error.1))?;
            for upload in strays_among(self.metadata, storage, self.options.older_than, page).await? {
                if self.options.repair && is_older(&upload.key, LONGEST) {
                    storage.abort(&upload).await?;
                }
                self.found(&Finding::StrayUpload { key: upload.key.to_string(), upload: upload.name });
            }
        }
        Ok(())
    }
}

/// Those that no row names. One that has come to its end since it was listed is none.
async fn strays_among(
    metadata: &Metadata,
    storage: &Storage,
    older_than: Duration,
    listed: Vec<BegunUpload>,
) -> Result<Vec<BegunUpload>, Error> {
    let keys: Vec<String> = listed.iter().map(|upload| upload.key.to_string()).collect();
    let known = metadata.keys_to_be_ended(&keys).await?;
    let mut strays = Vec::new();
    for upload in listed {
        let is_known = known.contains(&upload.key.to_string());
        if !is_known && is_older(&upload.key, older_than) && storage.is_begun(&upload).await? {
            strays.push(upload);
        }
    }
    Ok(strays)
}

/// An upload begins after its key was made.
fn is_older(key: &ObjectKey, than: Duration) -> bool {
    let before = SystemTime::now().checked_sub(than);
    key.made_at().zip(before).is_some_and(|(made_at, before)| made_at <= before)
}
