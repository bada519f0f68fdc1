-- The twin of postgres/0013_indexes_by_what_is_looked_for.sql.
--
-- Indexes that begin with what tells rows apart. Those that began with the repository looked as good to the planner as those
-- of the manifest, and had the deletion of one manifest go through all that its repository's manifests need. Expands only: the
-- release before uses either.

CREATE INDEX manifest_blobs_by_needed ON manifest_blobs (blob_id, repository_id, manifest_id);
DROP INDEX manifest_blobs_by_blob;

CREATE INDEX manifest_absent_blobs_by_needed ON manifest_absent_blobs (digest, repository_id, manifest_id);
DROP INDEX manifest_absent_blobs_by_digest;
