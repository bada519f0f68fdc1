-- The twin of sqlite/0015_manifest_breaker.sql.
--
-- How many manifests garbage collection has deleted of late: nothing brings those back, so a collection that would delete
-- too many of them is taken for a mistake, as with blobs (0008) and tags (0012). Expands only. The release before deletes
-- manifests without counting them, and begins a window without ending this count: what is counted twice stops a collection
-- too early rather than too late.

SET LOCAL lock_timeout = '3s';

-- In the window of 0008: `manifests` were there when anybody counted them, `manifests_deleted` of them went since.
ALTER TABLE gc_state ADD COLUMN manifests BIGINT;
ALTER TABLE gc_state ADD COLUMN manifests_deleted BIGINT NOT NULL DEFAULT 0;
