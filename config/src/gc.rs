//! `gc`: how long things stay that nobody refers to.

use crate::{ByteSize, duration};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Garbage collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gc {
    /// Time between two passes. Default 60 s.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// How long an acknowledged blob stays without a manifest. Default 24 h.
    #[serde(with = "duration")]
    pub promise: Duration,
    /// How long an upload session lives after its last byte. Default 24 h.
    #[serde(with = "duration")]
    pub upload_expiry: Duration,
    /// How long the bytes of a deleted object stay, so that downloads in flight end well, and a database that was restored
    /// from a backup finds them. Default 1 h.
    #[serde(with = "duration")]
    pub object_delay: Duration,
    /// How long a manifest stays that was neither tagged, nor pushed, nor pulled. Default 7 d.
    #[serde(with = "duration")]
    pub undo: Duration,
    /// How long it stays known what a tag named before. Default 365 d.
    #[serde(with = "duration")]
    pub tag_history: Duration,
    /// Of a hundred manifests, and of a hundred blobs, how many may be deleted in a day before that is taken for a mistake.
    /// Default 10; 100 is never.
    pub breaker: u8,
    /// How often the rules of retention look through a repository. Default 1 h.
    #[serde(with = "duration")]
    pub retention_interval: Duration,
    /// Of a hundred tags, how many rules may delete in a day before that is taken for a mistake. Default 50; 100 is never.
    pub tag_breaker: u8,
    /// Of a hundred parts of the time, how many the collector works. Default 50.
    pub share: u8,
    /// Every object is read again, and compared with its digest, once in so long; 0 never reads them. Default 30 d.
    #[serde(with = "duration")]
    pub scrub_period: Duration,
    /// At most so many bytes a second are read for that, by all replicas together. Default 64 MiB.
    pub scrub_rate: ByteSize,
}

impl Gc {
    /// Whoever reads slower than this would, after a manifest of some megabytes, wait for longer than it may read undisturbed,
    /// and the next one would begin with the same manifest.
    pub const SLOWEST_SCRUB: ByteSize = ByteSize::kib(64);
}

impl Default for Gc {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            interval: Duration::from_secs(60),
            promise: HOUR * 24,
            upload_expiry: HOUR * 24,
            object_delay: HOUR,
            undo: HOUR * 24 * 7,
            tag_history: HOUR * 24 * 365,
            breaker: 10,
            retention_interval: HOUR,
            tag_breaker: 50,
            share: 50,
            scrub_period: HOUR * 24 * 30,
            scrub_rate: ByteSize::mib(64),
        }
    }
}
