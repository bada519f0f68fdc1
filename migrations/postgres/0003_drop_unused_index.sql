-- The twin of sqlite/0003_drop_unused_index.sql.
--
-- Leases are reviewed from gc_queue, by when a review is due; nothing looks for them by when they end. Renewing a lease
-- can be a heap-only update now. Contracts, but no release has ever read this index.

SET LOCAL lock_timeout = '3s';

DROP INDEX repository_blobs_by_expiry;
