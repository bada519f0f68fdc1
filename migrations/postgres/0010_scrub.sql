-- The twin of sqlite/0010_scrub.sql.
--
-- Objects are read again from time to time. How far that came is here, so that it goes on after a restart and no two
-- replicas read the same; what was found damaged is here too, and is served no more until somebody pushes it anew.
-- Expands only.

SET LOCAL lock_timeout = '3s';

-- One row. `claim` rises with each process that takes the work; objects up to `last_id` were read since `began_at`.
CREATE TABLE scrub_state (
    id            BIGINT PRIMARY KEY CHECK (id = 1),
    claim         BIGINT NOT NULL DEFAULT 0,
    claimed_until BIGINT NOT NULL DEFAULT 0,
    last_id       BIGINT NOT NULL DEFAULT 0,
    total_bytes   BIGINT NOT NULL DEFAULT 0,
    done_bytes    BIGINT NOT NULL DEFAULT 0,
    began_at      BIGINT,
    finished_at   BIGINT
);
INSERT INTO scrub_state (id) VALUES (1);

CREATE TABLE damaged_blobs (
    blob_id  BIGINT PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    reason   TEXT NOT NULL,
    found_at BIGINT NOT NULL
);

-- Any repository may hold it.
CREATE FUNCTION announce_damage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce('*');
    RETURN NULL;
END $$;
CREATE TRIGGER announce_damage AFTER INSERT ON damaged_blobs FOR EACH ROW EXECUTE FUNCTION announce_damage();
