//! An operation on the registry, and what clients know after it.

use crate::{
    check,
    crash::{self, Death},
    damage,
    expected::{Expected, MANIFEST, content, digest, repository, tag},
    faulty::Fault,
    operation::{Operation, TAGS},
    quota, restore, steps,
    world::World,
};
use bytes::Bytes;
use futures_util::stream;
use longshore_metadata::UploadAddress;
use longshore_oci::{Algorithm, Reference};
use longshore_registry::{Chunk, Error, NewManifest, Registry};

/// Everything is looked at after so many operations, and at the end.
const LOOK_EVERY: usize = 25;

/// What was found wrong.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Plays a history, then lets everything come to rest.
pub(crate) async fn all(world: &mut World, history: &[Operation]) -> Outcome {
    let mut expected = Expected::new();
    for (number, operation) in history.iter().enumerate() {
        let at = |why: String| format!("at operation {number}, {operation:?}: {why}");
        play(world, &mut expected, operation).await.map_err(at)?;
        if number % LOOK_EVERY == LOOK_EVERY - 1 {
            check::everything(world, &mut expected).await.map_err(at)?;
        }
    }
    check::everything(world, &mut expected).await.map_err(|why| format!("at the end: {why}"))?;
    check::at_rest(world, &mut expected).await.map_err(|why| format!("at rest: {why}"))
}

async fn play(world: &mut World, expected: &mut Expected, operation: &Operation) -> Outcome {
    use Operation::*;
    match operation.clone() {
        PushBlob { replica, repository, blob } => {
            let pushed = push_blob(&world.registry(replica), repository, blob).await;
            acknowledged(world, pushed, expected, repository, blob).await
        }
        PushInParts { replica, repository, blob, ends } => {
            let each = [replica, replica + 1, replica + 2].map(|replica| &world.replica(replica).registry);
            match push_in_parts(each, repository, blob, ends).await {
                Ok(()) if !ends => Ok(()),
                pushed => acknowledged(world, pushed, expected, repository, blob).await,
            }
        }
        Head { replica, repository: number, blob } => {
            let found = world.registry(replica).promise_blob(&repository(number), &digest(blob)).await;
            let is_found = found.is_ok();
            check::blob_found(found.map(drop), expected, number, blob)?;
            if is_found {
                expected.promise(number, blob);
            }
            Ok(())
        }
        Mount { replica, from, target, blob } => mount(world, expected, replica, (from, target), blob).await,
        DeleteBlob { replica, repository, blob } => delete_blob(world, expected, replica, repository, blob).await,
        PushManifest { replica, repository, manifest, tag } => {
            push_manifest(world, expected, replica, repository, manifest, tag).await
        }
        DeleteTag { replica, repository, tag } => delete_tag(world, expected, replica, repository, tag).await,
        DeleteManifest { replica, repository, manifest } => {
            delete_manifest(world, expected, replica, repository, manifest).await
        }
        Pull { replica, repository, tag } => {
            let registry = world.registry(replica);
            let pulled = check::pull(&registry, expected, repository, tag).await;
            world.faulty.plan(|_, _| Fault::None);
            pulled
        }
        Look { replica, step } => steps::look(world, expected, replica, step).await,
        Act => steps::act(world, expected).await,
        ExpireUploads { replica } => steps::expire_uploads(world, expected, replica).await,
        DeleteObjects { replica } => steps::delete_objects(world, expected, replica).await,
        Pass { replica } => steps::pass(world, expected, replica).await,
        Advance(time) => steps::wait(world, expected, time, true).await,
        Down(time) => steps::wait(world, expected, time, false).await,
        MoveClock { by, back } => steps::move_clock(world, expected, by, back).await,
        Restart { replica } => restart(world, expected, replica).await,
        Crash { replica, at, call, after } => crash::crash(world, expected, replica, at, Death { call, after }).await,
        BackUp { replica } => restore::back_up(world, expected, replica).await,
        Restore => restore::restore(world, expected).await,
        Spoil { replica, blob } => damage::spoil(world, expected, replica, blob).await,
        FailStore { call, after } => {
            let fault = if after { Fault::After } else { Fault::Before };
            world.faulty.plan(move |number, _| if number == call { fault } else { Fault::None });
            Ok(())
        }
    }
}

async fn restart(world: &mut World, expected: &mut Expected, replica: usize) -> Outcome {
    steps::notice(world, expected).await?;
    let process = world.process(replica);
    world.end_one(process).await;
    world.begin_one(process).await;
    expected.collection.ended(process);
    Ok(())
}

fn chunk(start: Option<u64>, bytes: Vec<u8>) -> Chunk {
    let length = Some(bytes.len() as u64);
    Chunk { start, length, body: Box::pin(stream::iter([Ok(Bytes::from(bytes))])) }
}

pub(crate) async fn push_blob(registry: &Registry, number: usize, blob: usize) -> Result<(), Error> {
    registry.push_blob(&repository(number), None, digest(blob), chunk(None, content(blob))).await
}

/// Each request goes to one of these.
pub(crate) async fn push_in_parts(
    [begins, goes_on, finishes]: [&Registry; 3],
    number: usize,
    blob: usize,
    ends: bool,
) -> Result<(), Error> {
    let repository = repository(number);
    let id = begins.begin_upload(&repository, None, Algorithm::Sha256).await?;
    let address = UploadAddress { repository, id, principal: None };
    let bytes = content(blob);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let received = goes_on.append(address.clone(), chunk(Some(0), first.to_vec())).await?;
    if !ends {
        return Ok(());
    }
    finishes.finish_upload(address, digest(blob), chunk(Some(received), second.to_vec())).await
}

/// What is acknowledged is promised, and mended if it was damaged; what fails in the store, or is over a quota, is not, and
/// leaves everything as it was.
pub(crate) async fn acknowledged(
    world: &World,
    pushed: Result<(), Error>,
    expected: &mut Expected,
    repository: usize,
    blob: usize,
) -> Outcome {
    match pushed {
        Ok(()) => {
            expected.promise(repository, blob);
            expected.is_damaged[blob] = false;
            quota::accepted(world, repository).await
        }
        Err(Error::Storage(_)) => Ok(()),
        Err(Error::Metadata(error)) => quota::refused(world, &error).await,
        Err(error) => Err(format!("a push was refused: {error}")),
    }
}

async fn mount(
    world: &World,
    expected: &mut Expected,
    replica: usize,
    (from, target): (usize, usize),
    blob: usize,
) -> Outcome {
    let source = repository(from);
    let mounted = world.registry(replica).mount_blob(&repository(target), &digest(blob), Some(&source), |_| true).await;
    let mounted = match mounted {
        Err(Error::Metadata(error)) => return quota::refused(world, &error).await,
        mounted => mounted.map_err(|error| error.to_string())?,
    };
    let found = if mounted { Ok(()) } else { Err(Error::BlobUnknown { digest: digest(blob) }) };
    check::blob_found(found, expected, from, blob)?;
    if mounted {
        expected.promise(target, blob);
    }
    quota::accepted(world, target).await
}

async fn delete_blob(world: &World, expected: &mut Expected, replica: usize, number: usize, blob: usize) -> Outcome {
    match world.registry(replica).delete_blob(&repository(number), &digest(blob)).await {
        Ok(()) => {
            let known = &mut expected.repositories[number];
            let user = MANIFEST.iter().enumerate().find(|(manifest, specimen)| {
                specimen.blobs.contains(&blob) && known.must_have(*manifest, expected.now)
            });
            if let Some((manifest, _)) = user {
                return Err(format!("manifest {manifest} needs the blob, and it was deleted"));
            }
            known.grants[blob] = Default::default();
            Ok(())
        }
        Err(Error::BlobInUse { by, .. }) => {
            let known = &expected.repositories[number];
            let user = MANIFEST.iter().position(|specimen| specimen.digest == by);
            match user.filter(|manifest| known.manifests[*manifest].may_be) {
                Some(_) => Ok(()),
                None => Err(format!("the blob is said to be in use by {by}, which is not there")),
            }
        }
        Err(error) => check::blob_held(Err(error), expected, number, blob),
    }
}

async fn push_manifest(
    world: &World,
    expected: &mut Expected,
    replica: usize,
    number: usize,
    manifest: usize,
    under: Option<usize>,
) -> Outcome {
    let specimen = &MANIFEST[manifest];
    let reference = under.map_or(Reference::Digest(specimen.digest), |number| Reference::Tag(tag(number)));
    let pushed = NewManifest {
        reference,
        tags: Vec::new(),
        content_type: Some(specimen.media_type.to_owned()),
        body: specimen.body.clone().into(),
    };
    match world.registry(replica).push_manifest(&repository(number), None, pushed).await {
        Ok(_) => {
            for blob in &specimen.blobs {
                check::blob_found(Ok(()), expected, number, *blob)?;
            }
            for child in &specimen.children {
                check::manifest_found(true, expected, number, *child)?;
            }
            check::referrers(&world.registry(replica), expected, number, manifest).await?;
            let known = &mut expected.repositories[number];
            known.manifests[manifest].may_be = true;
            let left = under.and_then(|tag| known.tags[tag].replace(manifest));
            expected.touch(number, manifest);
            if let Some(left) = left {
                expected.touch(number, left);
            }
            quota::accepted(world, number).await
        }
        Err(Error::ManifestBlobUnknown { digests }) => {
            for absent in digests {
                let blob = specimen.blobs.iter().find(|blob| digest(**blob) == absent);
                let child = specimen.children.iter().find(|child| MANIFEST[**child].digest == absent);
                match (blob, child) {
                    (Some(blob), _) => {
                        check::blob_found(Err(Error::BlobUnknown { digest: absent }), expected, number, *blob)?;
                    }
                    (_, Some(child)) => check::manifest_found(false, expected, number, *child)?,
                    _ => return Err(format!("{absent} is said to be absent, and nobody named it")),
                }
            }
            Ok(())
        }
        Err(Error::Metadata(error)) => quota::refused(world, &error).await,
        Err(error) => Err(format!("a manifest was refused: {error}")),
    }
}

async fn delete_tag(world: &World, expected: &mut Expected, replica: usize, number: usize, name: usize) -> Outcome {
    let deleted = world.registry(replica).delete_manifest(&repository(number), None, &Reference::Tag(tag(name))).await;
    let named = expected.repositories[number].tags[name % TAGS].take();
    match (deleted, named) {
        (Ok(()), Some(manifest)) => {
            expected.touch(number, manifest);
            Ok(())
        }
        (Err(Error::ManifestUnknown { .. }), None) => Ok(()),
        (deleted, named) => Err(format!("the tag named {named:?}, and its delete answered {deleted:?}")),
    }
}

async fn delete_manifest(
    world: &World,
    expected: &mut Expected,
    replica: usize,
    number: usize,
    manifest: usize,
) -> Outcome {
    let reference = Reference::Digest(MANIFEST[manifest].digest);
    match world.registry(replica).delete_manifest(&repository(number), None, &reference).await {
        Ok(()) => {
            check::manifest_found(true, expected, number, manifest)?;
            expected.manifest_deleted(number, manifest);
            Ok(())
        }
        Err(Error::ManifestUnknown { .. }) => check::manifest_found(false, expected, number, manifest),
        Err(Error::ManifestInUse { by, .. }) => {
            let parent = MANIFEST.iter().position(|specimen| specimen.digest == by);
            match parent.filter(|parent| expected.repositories[number].manifests[*parent].may_be) {
                Some(_) => Ok(()),
                None => Err(format!("the manifest is said to be in use by {by}, which is not there")),
            }
        }
        Err(error) => Err(error.to_string()),
    }
}
