-- The twin of sqlite/0003_cheaper_pushes.sql.
--
-- Leases are reviewed from gc_queue, by when a review is due; nothing looks for them by when they end. Renewing a lease
-- can be a heap-only update now. Contracts, but no release has ever read this index.

SET LOCAL lock_timeout = '3s';

DROP INDEX repository_blobs_by_expiry;

-- 0001 has it in LANGUAGE sql, which is planned anew at each call.
CREATE OR REPLACE FUNCTION queue_review(review_kind BIGINT, first_id BIGINT, second_id BIGINT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- DO UPDATE, never DO NOTHING: a review that is going on right now has read the old state.
    INSERT INTO gc_queue (kind, id1, id2, review_after) SELECT review_kind, first_id, second_id, review_after FROM lease
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
END $$;
