//! What the server says about itself: logs, one line per request, metrics.

mod access_lines;
pub(crate) mod access_log;
mod cache;
pub(crate) mod logs;
mod metrics;

pub(crate) use access_lines::AccessLines;
pub(crate) use cache::CacheMetrics;
pub(crate) use metrics::{Metrics, Redirected, RequestLabels};
