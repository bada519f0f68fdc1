-- A manifest or a hold on a blob that goes makes nothing else of its repository wrong, and replicas go on answering the rest
-- from memory (docs/adr/0008). Until now they forgot all that they knew of the repository with each of them, so that a
-- cleanup had its readers ask the database for everything.
--
-- Expands only: two trigger functions of 0011 say more. A replica of the release before does not understand it and forgets
-- everything, which is right and slower. Nothing to contract.

SET LOCAL lock_timeout = '3s';

-- The payload is a repository's name, `manifest` or `blob`, and a digest. One that is none, or of an algorithm that is not
-- known here, gives no text: that is the empty payload, which means "everything".
CREATE FUNCTION announce_content(changed BIGINT, kind TEXT, digest BYTEA) RETURNS void LANGUAGE sql AS $$
    SELECT announce(name || ' ' || kind || ' ' || CASE substr(digest, 1, 1) WHEN '\x01'::bytea THEN 'sha256:'
        WHEN '\x02'::bytea THEN 'sha512:' END || encode(substr(digest, 2), 'hex')) FROM repositories WHERE id = changed
$$;

CREATE OR REPLACE FUNCTION manifest_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM queue_review(1, r.repository_id, r.id) FROM (
        SELECT repository_id, id FROM manifests
        WHERE repository_id = OLD.repository_id AND subject_digest = OLD.digest ORDER BY id
    ) r;
    PERFORM announce_content(OLD.repository_id, 'manifest', OLD.digest);
    PERFORM count_usage(OLD.repository_id, -OLD.size);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION repository_blob_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM queue_review(3, OLD.blob_id, 0);
    PERFORM announce_content(OLD.repository_id, 'blob', (SELECT digest FROM blobs WHERE id = OLD.blob_id));
    PERFORM count_usage(OLD.repository_id, -(SELECT size FROM blobs WHERE id = OLD.blob_id));
    RETURN NULL;
END $$;
