//! What the server says about itself: logs, one line per request, metrics.

mod access_lines;
pub(crate) mod access_log;
mod backups;
mod cache;
mod collection;
pub(crate) mod logs;
mod metrics;
mod numbers;
mod object_store;
mod process;
mod pulls;
mod scrub;

pub(crate) use access_lines::AccessLines;
pub(crate) use cache::CacheMetrics;
pub(crate) use metrics::{Metrics, Redirected, RequestLabels};
pub(crate) use object_store::ObjectStoreMetrics;
pub(crate) use process::ProcessMetrics;
pub(crate) use pulls::PullMetrics;
