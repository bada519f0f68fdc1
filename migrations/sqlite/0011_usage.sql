-- The twin of postgres/0011_usage.sql.
--
-- How many bytes each namespace (the first part of a repository's name) holds: its repositories' manifests and blobs, each blob
-- once for each repository. What changes that is written down as a change, a row of its own; changes are added up later, or
-- when somebody needs the sum. Expands only. (`usage`, of 0001, was never used.)

-- `bytes` is NULL until all rows have been counted once.
CREATE TABLE namespace_usage (
    namespace TEXT PRIMARY KEY NOT NULL,
    bytes     INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_changes (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    bytes     INTEGER NOT NULL
) STRICT;
CREATE INDEX usage_changes_by_namespace ON usage_changes (namespace);

DROP TRIGGER manifest_inserted;
CREATE TRIGGER manifest_inserted AFTER INSERT ON manifests BEGIN
    UPDATE manifest_children SET child_id = NEW.id
    WHERE repository_id = NEW.repository_id AND child_digest = NEW.digest AND child_id IS NULL;
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 1, NEW.repository_id, NEW.id, review_after FROM lease WHERE true
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
    INSERT INTO usage_changes (namespace, bytes)
        SELECT substr(r.name, 1, instr(r.name || '/', '/') - 1), NEW.size FROM repositories r WHERE r.id = NEW.repository_id;
END;

DROP TRIGGER manifest_deleted;
CREATE TRIGGER manifest_deleted AFTER DELETE ON manifests BEGIN
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 1, m.repository_id, m.id, l.review_after FROM manifests m, lease l
        WHERE m.repository_id = OLD.repository_id AND m.subject_digest = OLD.digest
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
    INSERT INTO usage_changes (namespace, bytes)
        SELECT substr(r.name, 1, instr(r.name || '/', '/') - 1), -OLD.size FROM repositories r WHERE r.id = OLD.repository_id;
END;

DROP TRIGGER repository_blob_inserted;
CREATE TRIGGER repository_blob_inserted AFTER INSERT ON repository_blobs BEGIN
    INSERT INTO manifest_blobs (repository_id, manifest_id, blob_id)
        SELECT a.repository_id, a.manifest_id, b.id
        FROM blobs b JOIN manifest_absent_blobs a ON a.digest = b.digest
        WHERE b.id = NEW.blob_id AND a.repository_id = NEW.repository_id
    ON CONFLICT DO NOTHING;
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 2, NEW.repository_id, NEW.blob_id, review_after FROM lease WHERE true
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
    INSERT INTO usage_changes (namespace, bytes)
        SELECT substr(r.name, 1, instr(r.name || '/', '/') - 1), b.size FROM repositories r JOIN blobs b ON b.id = NEW.blob_id WHERE r.id = NEW.repository_id;
END;

DROP TRIGGER repository_blob_deleted;
CREATE TRIGGER repository_blob_deleted AFTER DELETE ON repository_blobs BEGIN
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 3, OLD.blob_id, 0, review_after FROM lease WHERE true
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
    INSERT INTO usage_changes (namespace, bytes)
        SELECT substr(r.name, 1, instr(r.name || '/', '/') - 1), -b.size FROM repositories r JOIN blobs b ON b.id = OLD.blob_id WHERE r.id = OLD.repository_id;
END;
