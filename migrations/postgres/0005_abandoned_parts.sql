-- The parts of an upload that never became an object: whoever deletes the key ends that upload too.

SET LOCAL lock_timeout = '3s';

ALTER TABLE tombstones ADD COLUMN backend_upload TEXT;
