//! One namespace may not hold all that clients push there.

use crate::{play::Outcome, world::World};
use longshore_metadata::{Error, Quotas, namespace};
use std::collections::BTreeMap;

/// In bytes: a third of all there is. With half of it hardly a history came that far.
const QUOTA: u64 = 2000;

/// That of the second repository.
fn full() -> String {
    namespace(&crate::expected::repository(1)).to_owned()
}

/// Of that one.
pub(crate) fn quotas() -> Quotas {
    Quotas::new(BTreeMap::from([(full(), QUOTA)]), None)
}

async fn held(world: &World) -> Result<u64, String> {
    let measured = world.replica(0).metadata.measure_namespace(&full()).await;
    Ok(measured.map_err(|error| error.to_string())?.logical)
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
