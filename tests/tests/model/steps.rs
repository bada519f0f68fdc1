//! What collectors do, step by step and in passes, as far as nothing holds them up: a step that is not a pass's own is
//! taken only where a pass would take it.

use crate::{
    collection::{Counts, Foreseen},
    expected::Expected,
    play::Outcome,
    world::World,
};
use longshore_gc::{Collected, Error as GcError, Halt, Step};
use std::time::{Duration, SystemTime};

const WINDOW: &str = "SELECT window_began FROM gc_state WHERE id = 1";
const MANIFESTS: &str = "SELECT count(*) FROM manifests";
const UNKEPT: &str = "SELECT count(*) FROM manifests WHERE untagged_since IS NOT NULL";
const BLOBS: &str = "SELECT count(*) FROM blobs";
const UNHELD: &str =
    "SELECT count(*) FROM blobs b WHERE NOT EXISTS (SELECT 1 FROM repository_blobs g WHERE g.blob_id = b.id)";

/// The collector of a replica reads and decides.
pub(crate) async fn look(world: &mut World, expected: &mut Expected, replica: usize, step: Step) -> Outcome {
    if !may_go_on(world, expected, replica).await? {
        return Ok(());
    }
    let found = world.collector(replica).look(step).await.map_err(|error| error.to_string())?;
    if let Some(findings) = found {
        expected.collection.looked(world.process(replica), expected.now);
        world.decided.push_back((replica, findings));
    }
    Ok(())
}

/// Does what was decided first.
pub(crate) async fn act(world: &mut World, expected: &mut Expected) -> Outcome {
    let Some((replica, findings)) = world.decided.pop_front() else { return Ok(()) };
    let before = counted(world).await;
    let acted = world.collector(replica).act(findings).await;
    let after = counted(world).await;
    match acted {
        Ok(_) => went(world, expected, before, after).await,
        Err(GcError::TooMuch) if after == before => stopped(world, expected).await,
        Err(error) => Err(format!("{error}: {before:?} became {after:?}")),
    }
}

async fn counted(world: &World) -> Counts {
    Counts { manifests: world.clock.count(MANIFESTS).await, blobs: world.clock.count(BLOBS).await }
}

pub(crate) async fn expire_uploads(world: &World, expected: &mut Expected, replica: usize) -> Outcome {
    if !may_go_on(world, expected, replica).await? {
        return Ok(());
    }
    world.collector(replica).expire_uploads().await.map(drop).map_err(|error| error.to_string())
}

pub(crate) async fn delete_objects(world: &World, expected: &mut Expected, replica: usize) -> Outcome {
    if !may_go_on(world, expected, replica).await? {
        return Ok(());
    }
    match world.collector(replica).delete_condemned().await {
        // The store may have been told to fail.
        Ok(_) | Err(GcError::Storage(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// A whole pass: it does what it must, and nothing where something holds it up.
pub(crate) async fn pass(world: &World, expected: &mut Expected, replica: usize) -> Outcome {
    let before = (counted(world).await, world.ledger.book().objects.clone());
    let foreseen = expected.collection.begin(world.process(replica), expected.now);
    let mut collected = Collected::default();
    let passed = world.collector(replica).pass(|event| collected += event).await;
    let after = (counted(world).await, world.ledger.book().objects.clone());
    let is_stopped = matches!(collected.halt, Some(Halt::Stopped(_)));
    match (foreseen, &passed) {
        // The store may have been told to fail.
        (Foreseen::Goes, Ok(()) | Err(GcError::Storage(_))) if collected.halt.is_none() => {
            went(world, expected, before.0, after.0).await
        }
        // What should not have gone may be brought back: its bytes are there.
        (Foreseen::Goes, Ok(())) if is_stopped && after.1 == before.1 => {
            went(world, expected, before.0, after.0).await?;
            stopped(world, expected).await
        }
        (Foreseen::Moved, Err(GcError::ClockMoved)) if after == before => Ok(()),
        (Foreseen::Waits(until), Ok(())) if after == before && is_held(&collected, until) => Ok(()),
        (Foreseen::Stopped, Ok(())) if after == before && collected.is_nothing() && is_stopped => Ok(()),
        _ => Err(format!(
            "{foreseen:?} was foreseen, and a pass gave {passed:?}, {collected:?}: {before:?} became {after:?}"
        )),
    }
}

fn is_held(collected: &Collected, until: Duration) -> bool {
    collected.is_nothing() && collected.halt == Some(Halt::Until(SystemTime::UNIX_EPOCH + until))
}

async fn counts_since(world: &World, expected: &mut Expected) -> Outcome {
    let began = Duration::from_micros(world.clock.count(WINDOW).await.try_into().unwrap());
    expected.collection.counts_since(expected.now, began)
}

async fn went(world: &World, expected: &mut Expected, before: Counts, after: Counts) -> Outcome {
    counts_since(world, expected).await?;
    expected.collection.went(before, after)
}

async fn stopped(world: &World, expected: &mut Expected) -> Outcome {
    let may_go = Counts { manifests: world.clock.count(UNKEPT).await, blobs: world.clock.count(UNHELD).await };
    counts_since(world, expected).await?;
    expected.collection.stop(may_go)
}

/// Whether a replica's collector does what there is to do. Where something holds it up a pass is made, which does nothing,
/// and somebody lets it go on if it was stopped.
pub(crate) async fn may_go_on(world: &World, expected: &mut Expected, replica: usize) -> Outcome<bool> {
    if expected.collection.goes(world.process(replica), expected.now) {
        return Ok(true);
    }
    pass(world, expected, replica).await?;
    if expected.collection.is_stopped() && !expected.collection.waits(expected.now) {
        world.replica(replica).metadata.resume_collection().await.map_err(|error| error.to_string())?;
        expected.collection.resume(expected.now);
    }
    Ok(false)
}

/// A whole pass to its end: where the breaker stops it somebody lets it go on.
pub(crate) async fn insist(world: &World, expected: &mut Expected) -> Outcome {
    loop {
        while !may_go_on(world, expected, 0).await? {}
        pass(world, expected, 0).await?;
        if !expected.collection.is_stopped() {
            return Ok(());
        }
    }
}

/// There is a pass every minute: whoever lives to see the next finds that the clock was moved.
pub(crate) async fn notice(world: &World, expected: &mut Expected) -> Outcome {
    for process in 0..world.processes() {
        if expected.collection.is_surprising(process, expected.now) {
            pass(world, expected, process).await?;
        }
    }
    Ok(())
}

/// Lets time go by. Where nobody watches, all processes have ended, and what they decided is forgotten.
pub(crate) async fn wait(world: &mut World, expected: &mut Expected, time: Duration, is_watched: bool) -> Outcome {
    notice(world, expected).await?;
    if !is_watched {
        world.decided.clear();
    }
    expected.now += time;
    expected.collection.moved_to(expected.now, is_watched);
    world.move_to(expected.now, is_watched).await;
    Ok(())
}

/// Moves the clock behind the back of processes that have all looked at it just now, none between its look and its act:
/// nothing of what must be there then goes before it is promised anew. A backup is of another time.
pub(crate) async fn move_clock(world: &mut World, expected: &mut Expected, by: Duration, back: bool) -> Outcome {
    for process in 0..world.processes() {
        pass(world, expected, process).await?;
    }
    world.decided.clear();
    expected.backup = None;
    let before = expected.now;
    expected.now = if back { before - by } else { before + by };
    world.clock.set(expected.now).await;
    expected.clock_moved(before);
    Ok(())
}
