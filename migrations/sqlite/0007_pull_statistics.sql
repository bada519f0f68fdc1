-- The twin of postgres/0007_pull_statistics.sql: how often manifests were pulled, and when tags were last.
-- (`manifests.last_pulled_at` is there since 0001.) Expands only.

ALTER TABLE manifests ADD COLUMN pulls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tags ADD COLUMN last_pulled_at INTEGER;
