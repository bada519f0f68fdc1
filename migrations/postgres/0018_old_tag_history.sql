-- The twin of sqlite/0018_old_tag_history.sql.
--
-- The past of tags was never forgotten. Garbage collection goes through it now in the order of its times, and forgets what is
-- older than `gc.tag_history` and no tag's last. Expands only: a release that does not know of it forgets nothing.
--
-- On a large database, run the CREATE INDEX with CONCURRENTLY before the upgrade: it is found here then.

SET LOCAL lock_timeout = '3s';
CREATE INDEX IF NOT EXISTS tag_history_by_time ON tag_history (changed_at, id);

-- One that was built concurrently and failed is there, and of no use.
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass('tag_history_by_time'))
    THEN
        RAISE EXCEPTION 'tag_history_by_time is not valid: DROP INDEX it, and start again';
    END IF;
END $$;
