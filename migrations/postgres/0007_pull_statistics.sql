-- no-transaction
-- The twin of sqlite/0007_pull_statistics.sql: how often manifests were pulled, and when tags were last.
-- (`manifests.last_pulled_at` is there since 0001.) Written in batches while the registry serves, so nothing must come of
-- it: neither column is in an index, which lets Postgres leave the indexes alone, and no trigger that there is looks at
-- them. Expands only.
--
-- Each table in a transaction of its own, so that no lock is held on one while the other is waited for. What ends in
-- between is run again from its beginning.

BEGIN;
SET LOCAL lock_timeout = '3s';
ALTER TABLE manifests ADD COLUMN IF NOT EXISTS pulls BIGINT NOT NULL DEFAULT 0;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '3s';
ALTER TABLE tags ADD COLUMN IF NOT EXISTS last_pulled_at BIGINT;
COMMIT;
