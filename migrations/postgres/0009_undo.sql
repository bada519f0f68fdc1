-- The twin of sqlite/0009_undo.sql.
--
-- What a client deleted by its digest can be brought back for a while: its body is kept here, its blobs by longer leases.
-- Expands only.

SET LOCAL lock_timeout = '3s';

-- How long what a client deleted or untagged can be brought back.
ALTER TABLE lifetimes ADD COLUMN undo BIGINT NOT NULL DEFAULT 604800000000;

CREATE TABLE deleted_manifests (
    repository_id BIGINT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest        BYTEA NOT NULL,
    media_type    TEXT NOT NULL,
    body          BYTEA NOT NULL,
    deleted_at    BIGINT NOT NULL,
    deleted_by    TEXT,
    keep_until    BIGINT NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX deleted_manifests_by_end ON deleted_manifests (keep_until);
