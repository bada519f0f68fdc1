//! Owns the caches that a trace's hits are compared with: one that evicts what was used longest ago, and one that
//! keeps everything. Both hold whole blobs, as is usual where such traces are studied.

use std::collections::{BTreeMap, HashMap};

/// Hits and misses of GETs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hits {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) hit_requests: u64,
    pub(super) hit_bytes: u64,
}

impl Hits {
    fn count(&mut self, bytes: u64, is_hit: bool) {
        self.requests += 1;
        self.bytes += bytes;
        if is_hit {
            self.hit_requests += 1;
            self.hit_bytes += bytes;
        }
    }
}

/// Least recently used, bounded in bytes. A blob larger than all of it is never kept.
#[derive(Debug)]
pub(super) struct LruCache {
    pub(super) capacity: u64,
    pub(super) hits: Hits,
    held_bytes: u64,
    /// By content: when it was last used, and its size.
    held: HashMap<u32, (u64, u64)>,
    by_use: BTreeMap<u64, u32>,
    clock: u64,
}

impl LruCache {
    pub(super) fn new(capacity: u64) -> Self {
        let (held, by_use) = (HashMap::new(), BTreeMap::new());
        Self { capacity, hits: Hits::default(), held_bytes: 0, held, by_use, clock: 0 }
    }

    /// A GET of a blob. Pushes fill it as little as they fill the server's.
    pub(super) fn get(&mut self, content: u32, bytes: u64) {
        self.clock += 1;
        if let Some((used, _)) = self.held.get_mut(&content) {
            self.by_use.remove(used);
            *used = self.clock;
            self.by_use.insert(self.clock, content);
            self.hits.count(bytes, true);
            return;
        }
        self.hits.count(bytes, false);
        if bytes > self.capacity {
            return;
        }
        while self.held_bytes + bytes > self.capacity {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.held_bytes -= self.held.remove(&oldest).map_or(0, |(_, bytes)| bytes);
        }
        self.held.insert(content, (self.clock, bytes));
        self.by_use.insert(self.clock, content);
        self.held_bytes += bytes;
    }
}

/// The cache of unbounded size: what it misses has to be read once whatever one does.
#[derive(Debug)]
pub(super) struct EndlessCache(LruCache);

impl EndlessCache {
    pub(super) fn new() -> Self {
        Self(LruCache::new(u64::MAX))
    }

    pub(super) fn get(&mut self, content: u32, bytes: u64) {
        self.0.get(content, bytes);
    }

    pub(super) fn hits(&self) -> Hits {
        self.0.hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(capacity: u64, gets: &[(u32, u64)]) -> Hits {
        let mut cache = LruCache::new(capacity);
        gets.iter().for_each(|(content, bytes)| cache.get(*content, *bytes));
        cache.hits
    }

    #[test]
    fn what_was_used_longest_ago_goes() {
        // 1 is used again before 3 comes, so 2 goes.
        let found = hits(20, &[(1, 10), (2, 10), (1, 10), (3, 10), (1, 10), (2, 10)]);
        assert_eq!(found, Hits { requests: 6, bytes: 60, hit_requests: 2, hit_bytes: 20 });
    }

    #[test]
    fn what_is_too_large_pushes_nothing_out() {
        let found = hits(20, &[(1, 10), (2, 30), (1, 10), (2, 30)]);
        assert_eq!((found.hit_requests, found.hit_bytes), (1, 10));
    }

    #[test]
    fn an_endless_cache_misses_what_is_new_alone() {
        let mut cache = EndlessCache::new();
        for content in [1, 2, 1, 3, 2, 1] {
            cache.get(content, 1 << 40);
        }
        assert_eq!(cache.hits().hit_requests, 3);
    }
}
