//! Which store a database belongs to: both bear the same mark. With another one all objects would be taken for damaged,
//! and what is condemned would be forgotten while its bytes stay where they are.

use crate::{Error, length::key_of};
use longshore_metadata::Metadata;
use longshore_storage::{Error as StorageError, Storage};
use uuid::Uuid;

/// So many of a database's objects are looked for in a store that has no mark.
const LOOKED_FOR: u32 = 20;

/// Sees that the database and the store belong together. Where neither is marked they do from now on, and so does a database
/// without a mark with whatever store it is opened with: it was restored, say. But a new one takes no object store over from
/// another database: that may be in use, by a server that would lose what the other one's `fsck --repair` takes for stray.
/// (A folder cannot be in use: its process holds it alone.)
///
/// # Errors
/// [`Error::OtherStore`] and [`Error::TakenStore`] where they do not; [`Error::Metadata`] and [`Error::Storage`] where that cannot be told.
pub async fn pair(metadata: &Metadata, storage: &Storage) -> Result<(), Error> {
    let is_ours = match storage.mark().await? {
        Some(_) if !storage.appends() && is_new(metadata).await? => {
            return Err(Error::TakenStore { place: storage.place() });
        }
        Some(mark) => metadata.mark_store(&mark).await? == mark,
        None => mark_both(metadata, storage).await?,
    };
    if is_ours { Ok(()) } else { Err(Error::OtherStore { place: storage.place() }) }
}

/// Whether the database never had a store. One that has begun with an object store was marked before that was.
async fn is_new(metadata: &Metadata) -> Result<bool, Error> {
    Ok(metadata.store_mark().await?.is_none() && metadata.is_empty().await?)
}

/// Marks a store that has no mark, unless the database belongs to another one.
async fn mark_both(metadata: &Metadata, storage: &Storage) -> Result<bool, Error> {
    let new = Uuid::new_v4().to_string();
    // A folder is this process's alone and can be marked first: two servers that begin with one database and a folder each are told
    // apart then. An object store may be another server's that begins with us: the database says whose mark it is.
    if storage.appends() {
        storage.set_mark(&new).await?;
    }
    let ours = metadata.mark_store(&new).await?;
    let is_ours = ours == new || has_our_objects(metadata, storage).await?;
    if is_ours {
        storage.set_mark(&ours).await?;
    }
    Ok(is_ours)
}

/// Whether a store without a mark is that of a database with one: it was moved there without it, or an older release has written
/// over it, or it is an object store and both are empty.
async fn has_our_objects(metadata: &Metadata, storage: &Storage) -> Result<bool, Error> {
    let objects = metadata.objects_after(0, LOOKED_FOR).await?;
    for key in objects.iter().filter_map(|object| key_of(object).ok()) {
        match storage.size(&key).await {
            Ok(_) => return Ok(true),
            Err(StorageError::Lost { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(objects.is_empty() && !storage.appends())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{Place, place};
    use longshore_storage::{RemoteStore, memory_backend};
    use std::time::Duration;

    /// A pair that has an object.
    async fn paired() -> Place {
        let place = place(Duration::ZERO).await;
        pair(&place.metadata, &place.storage).await.unwrap();
        place.push_object("app", "layer").await;
        place
    }

    fn assert_refused(outcome: Result<(), Error>, place: &Place) {
        let Err(error @ Error::OtherStore { .. }) = outcome else { panic!("{outcome:?}") };
        let expected = format!("in another store than {}: give", place.folder.path().display());
        assert!(error.to_string().contains(&expected), "{error}");
    }

    #[tokio::test]
    async fn a_new_pair_stays_together() {
        let place = paired().await;
        let mark = place.storage.mark().await.unwrap();
        assert!(mark.is_some());
        for _ in 0..2 {
            pair(&place.metadata, &place.storage).await.unwrap();
            assert_eq!(place.storage.mark().await.unwrap(), mark);
        }
    }

    /// As after an upgrade from a release that marked nothing.
    #[tokio::test]
    async fn what_is_full_and_was_never_marked_is_a_pair() {
        let place = place(Duration::ZERO).await;
        place.push_object("app", "layer").await;
        pair(&place.metadata, &place.storage).await.unwrap();
        let mark = place.storage.mark().await.unwrap().unwrap();
        assert_eq!(place.metadata.mark_store("another").await.unwrap(), mark);
    }

    #[tokio::test]
    async fn a_database_with_objects_refuses_an_empty_store() {
        let (here, there) = (paired().await, place(Duration::ZERO).await);
        for _ in 0..2 {
            assert_refused(pair(&here.metadata, &there.storage).await, &there);
        }
        let empty = Storage::Remote(RemoteStore::new(memory_backend(), 0, 0));
        assert!(matches!(pair(&here.metadata, &empty).await, Err(Error::OtherStore { .. })));
        assert_eq!(empty.mark().await.unwrap(), None, "nothing was written there");
        pair(&here.metadata, &here.storage).await.unwrap();
    }

    /// Two replicas, each with a folder of its own: the likeliest mistake.
    #[tokio::test]
    async fn a_database_without_objects_refuses_a_second_folder() {
        let (first, second) = (place(Duration::ZERO).await, place(Duration::ZERO).await);
        pair(&first.metadata, &first.storage).await.unwrap();
        for _ in 0..2 {
            assert_refused(pair(&first.metadata, &second.storage).await, &second);
        }
        pair(&first.metadata, &first.storage).await.unwrap();
    }

    #[tokio::test]
    async fn a_database_refuses_the_store_of_another_one() {
        let (here, there) = (paired().await, paired().await);
        let mark = there.storage.mark().await.unwrap();
        assert_refused(pair(&here.metadata, &there.storage).await, &there);
        assert_eq!(there.storage.mark().await.unwrap(), mark);
        pair(&there.metadata, &there.storage).await.unwrap();
    }

    /// As after a restore.
    #[tokio::test]
    async fn a_new_database_takes_the_mark_of_its_store_over() {
        let (here, new) = (paired().await, place(Duration::ZERO).await);
        let mark = here.storage.mark().await.unwrap().unwrap();
        pair(&new.metadata, &here.storage).await.unwrap();
        assert_eq!(here.storage.mark().await.unwrap().as_ref(), Some(&mark));
        assert_eq!(new.metadata.mark_store("another").await.unwrap(), mark);
        assert_refused(pair(&new.metadata, &new.storage).await, &new);
    }

    /// Two servers with a database each, and one bucket: the likeliest mistake with object stores.
    #[tokio::test]
    async fn a_new_database_takes_no_object_store_over() {
        let (first, second) = (place(Duration::ZERO).await, place(Duration::ZERO).await);
        let bucket = Storage::Remote(RemoteStore::new(memory_backend(), 0, 0));
        pair(&first.metadata, &bucket).await.unwrap();
        for _ in 0..2 {
            let Err(error @ Error::TakenStore { .. }) = pair(&second.metadata, &bucket).await else { panic!() };
            assert!(error.to_string().contains("a bucket or prefix of its own"), "{error}");
        }
        pair(&first.metadata, &bucket).await.unwrap();
        // As after a restore.
        second.push_manifest("app", "manifest", &[], &[]).await;
        pair(&second.metadata, &bucket).await.unwrap();
    }

    /// The process that marked it ended before it could mark the store, or another one is about to.
    #[tokio::test]
    async fn a_marked_database_marks_an_object_store_when_both_are_empty() {
        let place = place(Duration::ZERO).await;
        place.metadata.mark_store("ours").await.unwrap();
        let empty = Storage::Remote(RemoteStore::new(memory_backend(), 0, 0));
        pair(&place.metadata, &empty).await.unwrap();
        assert_eq!(empty.mark().await.unwrap().as_deref(), Some("ours"));
    }

    #[tokio::test]
    async fn a_store_that_lost_its_mark_is_known_by_its_objects() {
        let place = paired().await;
        let mark = place.storage.mark().await.unwrap();
        std::fs::remove_file(place.folder.path().join("store")).unwrap();
        pair(&place.metadata, &place.storage).await.unwrap();
        assert_eq!(place.storage.mark().await.unwrap(), mark);
    }
}
