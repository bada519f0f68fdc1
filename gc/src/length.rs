//! What the length of an object tells: the first thing that fsck and scrub look at.

use longshore_metadata::StoredObject;
use longshore_storage::{Error, ObjectKey, Storage};

/// The object's key, by which the store knows it; or what is wrong with it.
pub(crate) fn key_of(object: &StoredObject) -> Result<ObjectKey, String> {
    object.key.parse().map_err(|_| format!("{:?} is no key of ours", object.key))
}

/// What is wrong with the length of an object that should have so many bytes.
///
/// # Errors
/// [`Error::Lost`] where there is none; that of a store that does not answer.
pub(crate) async fn wrong_length(storage: &Storage, key: &ObjectKey, size: u64) -> Result<Option<String>, Error> {
    let is = storage.size(key).await?;
    Ok((is != size).then(|| format!("it has {is} bytes instead of {size}")))
}
