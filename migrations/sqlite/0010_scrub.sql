-- The twin of postgres/0010_scrub.sql.
--
-- Objects are read again from time to time. How far that came is here, so that it goes on after a restart; what was found
-- damaged is here too, and is served no more until somebody pushes it anew. Expands only.

-- One row. `claim` rises with each process that takes the work; objects up to `last_id` were read since `began_at`.
CREATE TABLE scrub_state (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    claim         INTEGER NOT NULL DEFAULT 0,
    claimed_until INTEGER NOT NULL DEFAULT 0,
    last_id       INTEGER NOT NULL DEFAULT 0,
    total_bytes   INTEGER NOT NULL DEFAULT 0,
    done_bytes    INTEGER NOT NULL DEFAULT 0,
    began_at      INTEGER,
    finished_at   INTEGER
) STRICT;
INSERT INTO scrub_state (id) VALUES (1);

CREATE TABLE damaged_blobs (
    blob_id  INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    reason   TEXT NOT NULL,
    found_at INTEGER NOT NULL
) STRICT;
