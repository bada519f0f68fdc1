-- What retention rules need: when each repository was last looked through, so that all replicas together do it once an
-- interval; and how many tags they have deleted, since rules that would delete most of them are taken for a mistake.
-- Expands only.

SET LOCAL lock_timeout = '3s';

CREATE TABLE retention_looks (
    repository_id BIGINT PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    looked_at     BIGINT NOT NULL
);

-- In the window of 0008: `tags` were there when anybody counted them, `tags_deleted` of them went by a rule.
ALTER TABLE gc_state ADD COLUMN tags BIGINT;
ALTER TABLE gc_state ADD COLUMN tags_deleted BIGINT NOT NULL DEFAULT 0;
