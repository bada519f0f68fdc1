-- The twin of postgres/0008_collecting_garbage.sql.
--
-- What garbage collection needs beside its queue: since when each manifest is kept by nothing, and what all replicas have to
-- know of it. Expands only.

-- One row. `blobs` were there when the window began, as far as anybody has counted; `deleted` of them since. A collection
-- that would delete too many is stopped; one whose clock cannot be trusted waits until `resume_at`.
CREATE TABLE gc_state (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    window_began INTEGER NOT NULL,
    blobs        INTEGER,
    deleted      INTEGER NOT NULL DEFAULT 0,
    is_allowed   INTEGER NOT NULL DEFAULT 0,
    stopped_at   INTEGER,
    stopped_why  TEXT,
    seen_at      INTEGER NOT NULL,
    resume_at    INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO gc_state (id, window_began, seen_at) SELECT 1, now, now FROM clock;

-- What an index or a subject kept has been kept until now: its time to go begins when theirs ended, not when it was pushed.
CREATE TRIGGER manifest_going BEFORE DELETE ON manifests BEGIN
    UPDATE manifests SET untagged_since = COALESCE(OLD.untagged_since, (SELECT now FROM clock))
    WHERE untagged_since < COALESCE(OLD.untagged_since, (SELECT now FROM clock)) AND id IN
        (SELECT child_id FROM manifest_children WHERE parent_id = OLD.id AND child_id IS NOT NULL);
    UPDATE manifests SET untagged_since = COALESCE(OLD.untagged_since, (SELECT now FROM clock))
    WHERE untagged_since < COALESCE(OLD.untagged_since, (SELECT now FROM clock)) AND repository_id = OLD.repository_id AND subject_digest = OLD.digest;
END;
