-- The twin of postgres/0016_scrub_rows.sql.
--
-- What has its bytes in its row (manifests and small blobs) is read again too, before the objects of a round, and how far that
-- came is in the round's row. Manifests that were found damaged are remembered as blobs are, until they are pushed again.
-- Expands only: a release that does not know of it reads objects only, and its round counts as one that has read the rows.

-- `rows_stage` 0: small blobs after the place (`rows_id1`, `rows_id2`) are to be read, and then all manifests; 1: manifests
-- after that place; 2: none any more.
ALTER TABLE scrub_state ADD COLUMN rows_stage INTEGER NOT NULL DEFAULT 0;
ALTER TABLE scrub_state ADD COLUMN rows_id1 INTEGER NOT NULL DEFAULT 0;
ALTER TABLE scrub_state ADD COLUMN rows_id2 INTEGER NOT NULL DEFAULT 0;

CREATE TABLE damaged_manifests (
    manifest_id INTEGER PRIMARY KEY REFERENCES manifests (id) ON DELETE CASCADE,
    reason      TEXT NOT NULL,
    found_at    INTEGER NOT NULL
) STRICT;

-- A push of the same manifest sets its bytes, whichever release takes it.
CREATE TRIGGER manifest_body_set AFTER UPDATE OF body ON manifests BEGIN
    DELETE FROM damaged_manifests WHERE manifest_id = NEW.id;
END;
