-- The twin of postgres/0018_old_tag_history.sql.
--
-- The past of tags was never forgotten. Garbage collection goes through it now in the order of its times, and forgets what is
-- older than `gc.tag_history` and no tag's last. Expands only: a release that does not know of it forgets nothing.

CREATE INDEX tag_history_by_time ON tag_history (changed_at, id);
