//! Owns the reading of a server's own figures: `/metrics` in the text format of Prometheus.

use crate::client::{Connection, Method, Request};
use crate::setup;
use crate::target::Target;

/// What Longshore tells of its hot cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HotCache {
    /// The most memory that it may take, in bytes.
    pub(crate) capacity_bytes: u64,
    pub(crate) bytes: u64,
    /// Segments that were read into it so far.
    pub(crate) segments_read: u64,
}

/// Asks for it. `None` where a server has no such figures.
pub(crate) fn hot_cache(target: &Target) -> Option<HotCache> {
    parse_hot_cache(&page(target)?)
}

/// A counter without labels, by its name. `None` where a server has no such figure.
pub(crate) fn counter(target: &Target, name: &str) -> Option<u64> {
    value_of(&page(target)?, name)
}

fn page(target: &Target) -> Option<String> {
    let mut connection = Connection::new(target, setup::setup_deadline());
    let request = Request { method: Method::Get, path: "/metrics", headers: "", expected_status: 200 };
    let mut page = Vec::new();
    connection.read(&request, &mut |piece| page.extend_from_slice(piece)).ok()?;
    Some(String::from_utf8_lossy(&page).into_owned())
}

fn parse_hot_cache(page: &str) -> Option<HotCache> {
    Some(HotCache {
        capacity_bytes: value_of(page, "longshore_hot_cache_capacity_bytes")?,
        bytes: value_of(page, "longshore_hot_cache_bytes")?,
        segments_read: value_of(page, "longshore_hot_cache_segments_read_total")?,
    })
}

/// The whole number behind a name without labels.
fn value_of(page: &str, name: &str) -> Option<u64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_name() {
        let page = "# HELP longshore_hot_cache_bytes Memory.\n# TYPE longshore_hot_cache_bytes gauge\n\
            longshore_hot_cache_bytes 7\nlongshore_hot_cache_capacity_bytes 512\n\
            longshore_hot_cache_segments_read_total 3\n# EOF\n";
        let expected = HotCache { capacity_bytes: 512, bytes: 7, segments_read: 3 };
        assert_eq!(parse_hot_cache(page), Some(expected));
        assert_eq!(parse_hot_cache("longshore_hot_cache_bytes_more 7\n"), None);
    }
}
