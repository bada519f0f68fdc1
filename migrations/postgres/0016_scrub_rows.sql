-- no-transaction
-- The twin of sqlite/0016_scrub_rows.sql.
--
-- What has its bytes in its row (manifests and small blobs) is read again too, before the objects of a round, and how far that
-- came is in the round's row. Manifests that were found damaged are remembered as blobs are, until they are pushed again.
-- Expands only: a release that does not know of it reads objects only, and its round counts as one that has read the rows.
--
-- Each table in a transaction of its own, so that no lock is held on one while the other is waited for. What ends in
-- between is run again from its beginning.

-- `rows_stage` 0: small blobs after the place (`rows_id1`, `rows_id2`) are to be read, and then all manifests; 1: manifests
-- after that place; 2: none any more.
BEGIN;
SET LOCAL lock_timeout = '3s';
ALTER TABLE scrub_state ADD COLUMN IF NOT EXISTS rows_stage BIGINT NOT NULL DEFAULT 0;
ALTER TABLE scrub_state ADD COLUMN IF NOT EXISTS rows_id1 BIGINT NOT NULL DEFAULT 0;
ALTER TABLE scrub_state ADD COLUMN IF NOT EXISTS rows_id2 BIGINT NOT NULL DEFAULT 0;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '3s';
CREATE TABLE IF NOT EXISTS damaged_manifests (
    manifest_id BIGINT PRIMARY KEY REFERENCES manifests (id) ON DELETE CASCADE,
    reason      TEXT NOT NULL,
    found_at    BIGINT NOT NULL
);

-- A push of the same manifest sets its bytes, whichever release takes it.
CREATE OR REPLACE FUNCTION manifest_body_set() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM damaged_manifests WHERE manifest_id = NEW.id;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS manifest_body_set ON manifests;
CREATE TRIGGER manifest_body_set AFTER UPDATE OF body ON manifests FOR EACH ROW EXECUTE FUNCTION manifest_body_set();
COMMIT;
