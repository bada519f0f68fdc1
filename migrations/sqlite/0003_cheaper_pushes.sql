-- The twin of postgres/0003_cheaper_pushes.sql.
--
-- Leases are reviewed from gc_queue, by when a review is due; nothing looks for them by when they end. The index cost
-- a page of the log for each blob pushed.

DROP INDEX repository_blobs_by_expiry;
