//! Faults: the server killed at any point of a push or of a collection, bits that flip, a disk that is full, clients that hang up, replicas that die, clocks
//! that are wrong, a database and an object store that go away.
//!
//! What was acknowledged is there, byte for byte; what was not is there whole or not at all; a later push works; and
//! nothing is left behind on the disk. `LONGSHORE_CRASH_SEED` repeats the kills of a run that failed.

mod balanced;
mod below;
mod bit_flips;
mod collecting;
mod database;
mod disk_cache;
mod disk_full;
mod errand;
mod eventually;
mod fuse;
mod garbage;
mod hang_up;
mod kill9;
mod late_error;
mod ledger;
mod leftovers;
mod load;
mod made_up;
mod progress;
mod push;
mod pusher;
mod replicas;
mod skew;
mod small_disk;
mod unreliable;

/// The variable that repeats a run.
const SEED: &str = "LONGSHORE_CRASH_SEED";

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
