//! Blobs whose bytes became others, in the store or in their rows: nobody is served them, until the blob is pushed anew.

use crate::{
    expected::{Expected, content, digest},
    faulty::Fault,
    operation::{BLOBS, HOUR},
    play::Outcome,
    world::World,
};
use longshore_gc::{Finding, RoundFrom, ScrubRules, Scrubber};
use longshore_metadata::StoredObject;
use std::collections::BTreeSet;

/// Objects that blobs have.
async fn objects(world: &World, replica: usize) -> Outcome<Vec<StoredObject>> {
    let objects = world.replica(replica).metadata.objects_after(0, BLOBS as u32).await;
    objects.map_err(|error| error.to_string())
}

/// Spoils the bytes of a blob, if it is there, and reads all that is.
pub(crate) async fn spoil(world: &World, expected: &mut Expected, replica: usize, blob: usize) -> Outcome {
    match objects(world, replica).await?.into_iter().find(|object| object.digest == digest(blob)) {
        Some(object) => drop(world.ledger.book().spoiled.insert(object.key)),
        None => world.clock.spoil(&digest(blob).to_bytes(), &vec![b'?'; content(blob).len()]).await,
    }
    find(world, expected, replica).await
}

/// Reads all blobs: those that are spoiled are found, and no other.
pub(crate) async fn find(world: &World, expected: &mut Expected, replica: usize) -> Outcome {
    world.faulty.plan(|_, _| Fault::None);
    let process = world.replica(replica);
    let rules = ScrubRules { period: HOUR, rate: u64::MAX };
    let scrubber = Scrubber::new(process.metadata.clone(), process.storage.clone(), rules);
    let spoiled_before = spoiled(world, replica).await?;
    let mut damaged = BTreeSet::new();
    let read = scrubber.round_now(RoundFrom::Beginning, |report| {
        damaged.extend(report.damaged.iter().map(|damage| damage.digest.to_bytes()));
    });
    read.await.map_err(|error| error.to_string())?;
    // The others this process has written again, from its cache.
    let spoiled = spoiled(world, replica).await?;
    let of = |found: &BTreeSet<Vec<u8>>| -> Vec<usize> {
        (0..BLOBS).filter(|blob| found.contains(&digest(*blob).to_bytes())).collect()
    };
    for blob in of(&spoiled_before) {
        expected.is_damaged[blob] = spoiled.contains(&digest(blob).to_bytes());
    }
    if damaged == spoiled_before {
        return Ok(());
    }
    Err(format!("{:?} are spoiled, and {:?} were found", of(&spoiled_before), of(&damaged)))
}

/// What is not as it should be, but for bytes that were spoiled; it is mended, if it is to be.
pub(crate) async fn beside(world: &World, repair: bool) -> Outcome<Vec<Finding>> {
    let spoiled = spoiled(world, 0).await?;
    let mut findings = world.compare(repair).await.map_err(|error| error.to_string())?;
    findings.retain(|finding| match finding {
        Finding::DamagedRow { repository: None, digest } => !spoiled.contains(&digest.to_bytes()),
        _ => true,
    });
    Ok(findings)
}

/// The digests of blobs whose bytes are others.
async fn spoiled(world: &World, replica: usize) -> Outcome<BTreeSet<Vec<u8>>> {
    let mut objects = objects(world, replica).await?;
    objects.retain(|object| world.ledger.book().spoiled.contains(&object.key));
    let in_rows = world.clock.in_rows().await;
    let in_rows = in_rows.into_iter().filter(|(_, bytes)| bytes.iter().all(|byte| *byte == b'?'));
    Ok(objects.iter().map(|object| object.digest.to_bytes()).chain(in_rows.map(|(digest, _)| digest)).collect())
}
