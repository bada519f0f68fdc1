-- The twin of postgres/0009_undo.sql.
--
-- What a client deleted by its digest can be brought back for a while: its body is kept here, its blobs by longer leases.
-- Expands only.

-- How long what a client deleted or untagged can be brought back.
ALTER TABLE lifetimes ADD COLUMN undo INTEGER NOT NULL DEFAULT 604800000000;

CREATE TABLE deleted_manifests (
    repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest        BLOB NOT NULL,
    media_type    TEXT NOT NULL,
    body          BLOB NOT NULL,
    deleted_at    INTEGER NOT NULL,
    deleted_by    TEXT,
    keep_until    INTEGER NOT NULL,
    PRIMARY KEY (repository_id, digest)
) STRICT;
CREATE INDEX deleted_manifests_by_end ON deleted_manifests (keep_until);
