//! What the operator decides.

use crate::Retention;
use longshore_metadata::Breaker;
use std::time::Duration;

/// How garbage is collected.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How long a manifest stays that was neither tagged, nor pushed, nor pulled: so long a tag's past can be restored.
    pub undo: Duration,
    /// How long it stays known what a tag named before: not shorter than that.
    pub tag_history: Duration,
    /// How many manifests, and how many blobs, may go before that is taken for a mistake.
    pub breaker: Breaker,
    /// Of a hundred parts of the time, how many the collector works: the others belong to everybody else.
    pub share: u8,
    /// Which tags stay.
    pub retention: Retention,
}

impl Default for Rules {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            undo: DAY * 7,
            tag_history: DAY * 365,
            breaker: Breaker { percent: 10, floor: 1000 },
            share: 50,
            retention: Retention::default(),
        }
    }
}
