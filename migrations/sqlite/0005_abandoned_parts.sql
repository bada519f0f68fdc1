-- The twin of postgres/0005_abandoned_parts.sql.
--
-- The parts of an upload that never became an object: whoever deletes the key ends that upload too.

ALTER TABLE tombstones ADD COLUMN backend_upload TEXT;
