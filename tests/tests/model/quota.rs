//! One namespace may not hold all that clients push there.

use crate::{expected::repository, play::Outcome, world::World};
use longshore_metadata::{Error, Quotas, namespace};
use std::collections::BTreeMap;

/// In bytes: a fifth of all there is. With a third hardly a history came that far.
const QUOTA: u64 = 1200;

/// The number of the one repository in that namespace.
const REPOSITORY: usize = 1;

/// The namespace.
fn full() -> String {
    namespace(&repository(REPOSITORY)).to_owned()
}

/// Of that one.
pub(crate) fn quotas() -> Quotas {
    Quotas::new(BTreeMap::from([(full(), QUOTA)]), None)
}

async fn held(world: &World) -> Result<u64, String> {
    let measured = world.replica(0).metadata.measure_namespace(&full()).await;
    Ok(measured.map_err(|error| error.to_string())?.logical)
}

/// A push to a repository was accepted.
pub(crate) async fn accepted(world: &World, number: usize) -> Outcome {
    if number == REPOSITORY { is_kept(world).await } else { Ok(()) }
}

/// It never holds more.
pub(crate) async fn is_kept(world: &World) -> Outcome {
    let held = held(world).await?;
    if held <= QUOTA { Ok(()) } else { Err(format!("{held} bytes are held, and {QUOTA} may be")) }
}

/// A push was refused by this error: there was no room for it, and there is as much as before.
pub(crate) async fn refused(world: &World, error: &Error) -> Outcome {
    match error {
        Error::OverQuota { namespace, quota, held: before, wanted }
            if *namespace == full() && *quota == QUOTA && before + wanted > QUOTA =>
        {
            let held = held(world).await?;
            if held == *before { Ok(()) } else { Err(format!("{held} bytes are held after: {error}")) }
        }
        error => Err(format!("a push was refused: {error}")),
    }
}
