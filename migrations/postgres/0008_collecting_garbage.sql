-- The twin of sqlite/0008_collecting_garbage.sql.
--
-- What garbage collection needs beside its queue: since when each manifest is kept by nothing, and what all replicas have to
-- know of it. Expands only.

SET LOCAL lock_timeout = '3s';

-- One row. `blobs` were there when the window began, as far as anybody has counted; `deleted` of them since. A collection
-- that would delete too many is stopped; one whose clock cannot be trusted waits until `resume_at`.
CREATE TABLE gc_state (
    id           BIGINT PRIMARY KEY CHECK (id = 1),
    window_began BIGINT NOT NULL,
    blobs        BIGINT,
    deleted      BIGINT NOT NULL DEFAULT 0,
    is_allowed   BIGINT NOT NULL DEFAULT 0,
    stopped_at   BIGINT,
    stopped_why  TEXT,
    seen_at      BIGINT NOT NULL,
    resume_at    BIGINT NOT NULL DEFAULT 0
);
INSERT INTO gc_state (id, window_began, seen_at) SELECT 1, now, now FROM clock;

-- What an index or a subject kept has been kept until now: its time to go begins when theirs ended, not when it was pushed.
CREATE FUNCTION manifest_going() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    released BIGINT := COALESCE(OLD.untagged_since, (SELECT now FROM clock));
BEGIN
    UPDATE manifests SET untagged_since = released
    WHERE untagged_since < released AND id IN
        (SELECT child_id FROM manifest_children WHERE parent_id = OLD.id AND child_id IS NOT NULL);
    UPDATE manifests SET untagged_since = released
    WHERE untagged_since < released AND repository_id = OLD.repository_id AND subject_digest = OLD.digest;
    RETURN OLD;
END $$;
CREATE TRIGGER manifest_going BEFORE DELETE ON manifests FOR EACH ROW EXECUTE FUNCTION manifest_going();
