//! Objects whose bytes became others: nobody is served them, until the blob is pushed anew.

use crate::{
    expected::{Expected, digest},
    faulty::Fault,
    operation::{BLOBS, HOUR},
    play::Outcome,
    world::World,
};
use longshore_gc::{Damage, RoundFrom, ScrubRules, Scrubber};
use longshore_metadata::StoredObject;
use std::collections::BTreeSet;

/// Objects that blobs have.
async fn objects(world: &World, replica: usize) -> Outcome<Vec<StoredObject>> {
    let objects = world.replica(replica).metadata.objects_after(0, BLOBS as u32).await;
    objects.map_err(|error| error.to_string())
}

/// Spoils the object of a blob, if it has one, and reads all objects.
pub(crate) async fn spoil(world: &World, expected: &mut Expected, replica: usize, blob: usize) -> Outcome {
    let objects = objects(world, replica).await?;
    let Some(object) = objects.into_iter().find(|object| object.digest == digest(blob)) else { return Ok(()) };
    world.ledger.book().spoiled.insert(object.key);
    find(world, expected, replica).await
}

/// Reads all objects: those that are spoiled are found, and no other.
pub(crate) async fn find(world: &World, expected: &mut Expected, replica: usize) -> Outcome {
    world.faulty.plan(|_, _| Fault::None);
    let process = world.replica(replica);
    let rules = ScrubRules { period: HOUR, rate: u64::MAX };
    let scrubber = Scrubber::new(process.metadata.clone(), process.storage.clone(), rules);
    let mut found = BTreeSet::new();
    let name = |damage: &Damage| damage.key.clone().unwrap_or_else(|| damage.to_string());
    let read = scrubber.round_now(RoundFrom::Beginning, |report| found.extend(report.damaged.iter().map(name)));
    read.await.map_err(|error| error.to_string())?;
    let mut spoiled = objects(world, replica).await?;
    spoiled.retain(|object| world.ledger.book().spoiled.contains(&object.key));
    for blob in 0..BLOBS {
        expected.is_damaged[blob] |= spoiled.iter().any(|object| object.digest == digest(blob));
    }
    let spoiled: BTreeSet<String> = spoiled.into_iter().map(|object| object.key).collect();
    if found == spoiled { Ok(()) } else { Err(format!("{spoiled:?} are spoiled, and {found:?} were found")) }
}
