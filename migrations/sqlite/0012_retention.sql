-- The twin of postgres/0012_retention.sql.
--
-- What retention rules need: when each repository was last looked through, and how many tags they have deleted, since
-- rules that would delete most of them are taken for a mistake. Expands only.

CREATE TABLE retention_looks (
    repository_id INTEGER PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    looked_at     INTEGER NOT NULL
) STRICT;

-- In the window of 0008: `tags` were there when anybody counted them, `tags_deleted` of them went by a rule.
ALTER TABLE gc_state ADD COLUMN tags INTEGER;
ALTER TABLE gc_state ADD COLUMN tags_deleted INTEGER NOT NULL DEFAULT 0;
