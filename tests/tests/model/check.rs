//! What must hold, whatever happened before.

use crate::{
    damage,
    expected::{Expected, MANIFEST, content, digest, repository, tag},
    faulty::Fault,
    operation::{BLOBS, HOUR, MANIFESTS, REPOSITORIES, TAGS},
    play::Outcome,
    quota, steps,
    world::World,
};
use futures_util::TryStreamExt;
use longshore_oci::Reference;
use longshore_registry::{Delivery, Error, Purpose, Registry};
use std::collections::BTreeSet;

/// Compares whether a blob can be read with what is known; a client that is told that it is not there knows so from then
/// on, unless it is damaged.
pub(crate) fn blob_found(found: Result<(), Error>, expected: &mut Expected, number: usize, blob: usize) -> Outcome {
    match found {
        Ok(()) if expected.is_damaged[blob] => Err(format!("blob {blob} is damaged, and repository {number} has it")),
        Err(Error::BlobUnknown { .. }) if expected.is_damaged[blob] => Ok(()),
        found => blob_held(found, expected, number, blob),
    }
}

/// Compares whether a repository holds a blob, damaged or not, with what is known.
pub(crate) fn blob_held(found: Result<(), Error>, expected: &mut Expected, number: usize, blob: usize) -> Outcome {
    let now = expected.now;
    let known = &mut expected.repositories[number];
    match found {
        Ok(()) if known.grants[blob].may_be => Ok(()),
        Ok(()) => Err(format!("blob {blob} is in repository {number}, where nobody got it")),
        Err(Error::BlobUnknown { .. }) if known.must_hold(blob, now) => {
            Err(format!("blob {blob} of repository {number} is lost: {:?}, now {now:?}", known.grants[blob]))
        }
        Err(Error::BlobUnknown { .. }) => {
            known.grants[blob].may_be = false;
            Ok(())
        }
        // The store may have been told to fail.
        Err(Error::Storage(longshore_storage::Error::Backend { .. })) => Ok(()),
        Err(error) => Err(format!("blob {blob} of repository {number}: {error}")),
    }
}

/// The same of a manifest.
pub(crate) fn manifest_found(is_found: bool, expected: &mut Expected, number: usize, manifest: usize) -> Outcome {
    let now = expected.now;
    let known = &mut expected.repositories[number];
    match (is_found, known.manifests[manifest].may_be) {
        (true, true) => Ok(()),
        (true, false) => Err(format!("manifest {manifest} is in repository {number}, where nobody pushed it")),
        (false, _) if known.must_have(manifest, now) => {
            Err(format!("manifest {manifest} of repository {number} is lost: {known:?}, now {now:?}"))
        }
        (false, _) => {
            known.manifests[manifest].may_be = false;
            Ok(())
        }
    }
}

/// Reads a blob, and compares its bytes.
async fn read_blob(registry: &Registry, number: usize, blob: usize) -> Result<Result<(), Error>, String> {
    let found = match registry.find_blob(&repository(number), &digest(blob)).await {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    let read = async {
        let reader = registry.open_blob(&found).await?;
        let bytes = reader.begin(0..found.size, Delivery::Copied).await?;
        Ok::<_, Error>(bytes.try_collect::<Vec<_>>().await?.concat())
    };
    match read.await {
        Ok(bytes) if bytes == content(blob) => Ok(Ok(())),
        Ok(_) => Err(format!("blob {blob} of repository {number} has other bytes")),
        Err(error) => Ok(Err(error)),
    }
}

/// A pull of a tag: its manifest, all blobs of it, and of all below it.
pub(crate) async fn pull(registry: &Registry, expected: &mut Expected, number: usize, name: usize) -> Outcome {
    let named = expected.repositories[number].tags[name % TAGS];
    match registry.find_manifest(repository(number), Reference::Tag(tag(name % TAGS)), Purpose::Pull).await {
        Ok(found) => {
            let Some(manifest) = named else { return Err(format!("a tag that was deleted names {}", found.digest)) };
            if found.digest != MANIFEST[manifest].digest || found.body != MANIFEST[manifest].body {
                return Err(format!("the tag names {}, and not manifest {manifest}", found.digest));
            }
            pull_below(registry, expected, number, manifest).await
        }
        Err(Error::ManifestUnknown { .. }) if named.is_none() => Ok(()),
        Err(error) => Err(format!("tag {name} names {named:?}: {error}")),
    }
}

async fn pull_below(registry: &Registry, expected: &mut Expected, number: usize, manifest: usize) -> Outcome {
    let mut below = vec![manifest];
    while let Some(manifest) = below.pop() {
        let is_found = has_manifest(registry, number, manifest).await?;
        manifest_found(is_found, expected, number, manifest)?;
        for blob in &MANIFEST[manifest].blobs {
            let found = read_blob(registry, number, *blob).await?;
            blob_found(found, expected, number, *blob)?;
        }
        below.extend(&MANIFEST[manifest].children);
    }
    Ok(())
}

/// Asks for what refers to a manifest that came just now: while it was not there they may have gone.
pub(crate) async fn referrers(registry: &Registry, expected: &mut Expected, number: usize, subject: usize) -> Outcome {
    for referrer in (0..MANIFESTS).filter(|number| MANIFEST[*number].subject == Some(subject)) {
        let is_found = has_manifest(registry, number, referrer).await?;
        manifest_found(is_found, expected, number, referrer)?;
    }
    Ok(())
}

async fn has_manifest(registry: &Registry, number: usize, manifest: usize) -> Outcome<bool> {
    match registry.find_manifest(repository(number), Reference::Digest(MANIFEST[manifest].digest), Purpose::Look).await
    {
        Ok(found) if found.body == MANIFEST[manifest].body => Ok(true),
        Ok(_) => Err(format!("manifest {manifest} has another body")),
        Err(Error::ManifestUnknown { .. }) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// Asks every replica for everything.
pub(crate) async fn everything(world: &World, expected: &mut Expected) -> Outcome {
    world.faulty.plan(|_, _| Fault::None);
    quota::is_kept(world).await?;
    for replica in 0..world.processes() {
        let registry = world.registry(replica);
        for number in 0..REPOSITORIES {
            for manifest in 0..MANIFESTS {
                let is_found = has_manifest(&registry, number, manifest).await?;
                manifest_found(is_found, expected, number, manifest)?;
            }
            for blob in 0..BLOBS {
                let found = read_blob(&registry, number, blob).await?;
                if let Err(Error::Storage(error)) = &found {
                    return Err(format!("blob {blob} of repository {number} cannot be read: {error}"));
                }
                blob_found(found, expected, number, blob)?;
            }
            for name in 0..TAGS {
                pull(&registry, expected, number, name).await?;
            }
        }
    }
    store_was_used_well(world)
}

/// No key was written twice, and nobody listed the store: neither clients nor collectors need to.
fn store_was_used_well(world: &World) -> Outcome {
    let book = world.ledger.book();
    if let Some(key) = book.written_again.first() {
        return Err(format!("{key} was written after it was deleted"));
    }
    if book.lists > 0 {
        return Err(format!("the store was listed {} times, and not by fsck", book.lists));
    }
    Ok(())
}

/// Lets all time go by that anything waits for, and the collector run until it finds nothing more: then what tags keep is
/// there, and nothing else, in the database and in the store.
pub(crate) async fn at_rest(world: &mut World, expected: &mut Expected) -> Outcome {
    while !world.decided.is_empty() {
        steps::act(world, expected).await?;
    }
    // A clock that was set back may have left what waits for long.
    steps::wait(world, expected, 1000 * HOUR, true).await?;
    // A tagged index, its child, its layer, its blob, its object: each waits for what it was promised.
    for _ in 0..12 {
        steps::wait(world, expected, 49 * HOUR, true).await?;
        steps::insist(world, expected).await?;
    }
    everything(world, expected).await?;
    holds_what_tags_keep(world, expected).await?;
    let named: BTreeSet<String> = world.clock.keys().await.into_iter().collect();
    store_holds(world, &named)?;
    // What each namespace holds was counted with every change, too.
    match damage::beside(world, false).await?.first() {
        Some(finding) => Err(finding.to_string()),
        None => Ok(()),
    }
}

async fn holds_what_tags_keep(world: &World, expected: &Expected) -> Outcome {
    let mut manifests = 0;
    let mut held = BTreeSet::new();
    for (number, known) in expected.repositories.iter().enumerate() {
        let kept = known.kept_by_tags();
        let there: Vec<usize> = (0..MANIFESTS).filter(|manifest| known.manifests[*manifest].may_be).collect();
        if there != kept {
            return Err(format!("repository {number} holds manifests {there:?}, and its tags keep {kept:?}"));
        }
        manifests += kept.len();
        held.extend(kept.iter().flat_map(|manifest| &MANIFEST[*manifest].blobs).map(|blob| (number, *blob)));
    }
    let blobs: BTreeSet<usize> = held.iter().map(|(_, blob)| *blob).collect();
    let counts = [
        ("SELECT count(*) FROM manifests", manifests),
        ("SELECT count(*) FROM repository_blobs", held.len()),
        ("SELECT count(*) FROM blobs", blobs.len()),
        ("SELECT count(*) FROM uploads", 0),
        ("SELECT count(*) FROM deleted_manifests", 0),
        ("SELECT count(*) FROM tombstones", 0),
        ("SELECT count(*) FROM gc_queue", 0),
    ];
    for (sql, count) in counts {
        let there = world.clock.count(sql).await;
        if there != count as i64 {
            return Err(format!("{sql} gives {there}, and {count} are needed"));
        }
    }
    Ok(())
}

/// The store holds these objects, and nothing that was begun and not ended.
fn store_holds(world: &World, named: &BTreeSet<String>) -> Outcome {
    let book = world.ledger.book();
    if book.objects != *named {
        return Err(format!("the store holds {:?}, and the database names {named:?}", book.objects));
    }
    if !book.uploads.is_empty() {
        return Err(format!("uploads are left in the store: {:?}", book.uploads));
    }
    Ok(())
}
