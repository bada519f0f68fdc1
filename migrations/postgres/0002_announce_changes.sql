-- Replicas answer reads from memory (docs/adr/0008). Whatever makes such an answer wrong is announced to all of them, in
-- the transaction that does it. What is new is not: that something was absent is not kept in memory, and a notification
-- makes commits wait for each other.
--
-- Expands only: 0001's trigger functions say a little more, and there is one new trigger. Nothing to contract. The
-- functions are replaced rather than triggers added, since that takes no lock on the tables.

SET LOCAL lock_timeout = '3s';

-- The payload is a repository's name, or that, a space and a tag; what a program does not understand means "everything".
CREATE FUNCTION announce(payload TEXT) RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('longshore_changed', payload)
$$;

-- Several things of a repository at once: the same text twice in a transaction is sent once.
CREATE FUNCTION announce_repository(changed BIGINT) RETURNS void LANGUAGE sql AS $$
    SELECT announce(name) FROM repositories WHERE id = changed
$$;

CREATE FUNCTION announce_tag(changed BIGINT, tag TEXT) RETURNS void LANGUAGE sql AS $$
    SELECT announce(name || ' ' || tag) FROM repositories WHERE id = changed
$$;

CREATE OR REPLACE FUNCTION manifest_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM queue_review(1, r.repository_id, r.id) FROM (
        SELECT repository_id, id FROM manifests
        WHERE repository_id = OLD.repository_id AND subject_digest = OLD.digest ORDER BY id
    ) r;
    PERFORM announce_repository(OLD.repository_id);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION tag_left() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mark_if_untagged(OLD.manifest_id);
    PERFORM queue_review(1, OLD.repository_id, OLD.manifest_id);
    PERFORM announce_tag(OLD.repository_id, OLD.name);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION tag_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE manifests SET untagged_since = NULL WHERE id = NEW.manifest_id AND untagged_since IS NOT NULL;
    PERFORM mark_if_untagged(OLD.manifest_id);
    PERFORM queue_review(1, OLD.repository_id, OLD.manifest_id);
    PERFORM announce_tag(OLD.repository_id, OLD.name);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION repository_blob_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM queue_review(3, OLD.blob_id, 0);
    PERFORM announce_repository(OLD.repository_id);
    RETURN NULL;
END $$;

-- The same bytes may be pushed again as another type.
CREATE FUNCTION announce_media_type() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce_repository(NEW.repository_id);
    RETURN NULL;
END $$;
CREATE TRIGGER announce_media_type AFTER UPDATE OF media_type ON manifests FOR EACH ROW
    WHEN (OLD.media_type <> NEW.media_type) EXECUTE FUNCTION announce_media_type();
