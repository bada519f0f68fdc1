-- no-transaction
-- Indexes that begin with what tells rows apart. Those that began with the repository looked as good to the planner as those
-- of the manifest, and had the deletion of one manifest go through all that its repository's manifests need. Expands only: the
-- release before uses either.
--
-- On a large database, run the two CREATE INDEX with CONCURRENTLY before the upgrade: they are found here then. Each step is a
-- transaction of its own, so that no lock is held while another is waited for. What ends in between is run again from its
-- beginning.

BEGIN;
SET LOCAL lock_timeout = '3s';
CREATE INDEX IF NOT EXISTS manifest_blobs_by_needed ON manifest_blobs (blob_id, repository_id, manifest_id);
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '3s';
CREATE INDEX IF NOT EXISTS manifest_absent_blobs_by_needed ON manifest_absent_blobs (digest, repository_id, manifest_id);
COMMIT;

-- One that was built concurrently and failed is there, and of no use.
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid IN
        (to_regclass('manifest_blobs_by_needed'), to_regclass('manifest_absent_blobs_by_needed')))
    THEN
        RAISE EXCEPTION 'manifest_blobs_by_needed or manifest_absent_blobs_by_needed is not valid: DROP INDEX it, and start again';
    END IF;
END $$;

BEGIN;
SET LOCAL lock_timeout = '3s';
DROP INDEX IF EXISTS manifest_blobs_by_blob;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '3s';
DROP INDEX IF EXISTS manifest_absent_blobs_by_digest;
COMMIT;
