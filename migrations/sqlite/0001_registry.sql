-- The registry's tables, first form. The twin of postgres/0001_registry.sql: same tables, same columns, same rules.
--
-- Conventions: times are microseconds since 1970 by the DATABASE's clock; digests are bytes (algorithm byte, then
-- the hash); names compare and page in byte order (the default, BINARY); the database refuses the bad state by
-- foreign keys, so that garbage collection needs only to try a delete.

CREATE VIEW clock AS SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER) AS now;

-- One row: how long things are promised. `promise` is G of the design, `review_delay` how long a change waits for
-- review, `object_delay` (D) how long the bytes of a condemned object stay: longer than any write or read of it lasts.
CREATE TABLE lifetimes (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    promise      INTEGER NOT NULL CHECK (promise > 0),
    review_delay INTEGER NOT NULL CHECK (review_delay >= 0),
    object_delay INTEGER NOT NULL CHECK (object_delay >= 0)
) STRICT;
INSERT INTO lifetimes (id, promise, review_delay, object_delay) VALUES (1, 86400000000, 86400000000, 3600000000);

-- A lease is set to now + 2G and renewed only when less than G remains: the promise is never below G, and a blob
-- in use costs at most one write per repository and G.
CREATE VIEW lease AS
    SELECT c.now AS now, c.now + l.promise AS renew_before, c.now + 2 * l.promise AS expires_at,
           c.now + l.review_delay AS review_after, c.now + l.object_delay AS delete_after
    FROM clock c CROSS JOIN lifetimes l;

CREATE TABLE repositories (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

-- Physical bytes. A key is random, written once and never used again.
CREATE TABLE objects (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    key         TEXT NOT NULL UNIQUE,
    backend     TEXT NOT NULL,
    size        INTEGER NOT NULL CHECK (size >= 0),
    encoding    TEXT NOT NULL DEFAULT 'identity',
    state       TEXT NOT NULL CHECK (state IN ('pending', 'live')),
    created_at  INTEGER NOT NULL,
    verified_at INTEGER
) STRICT;

-- Content by digest: its bytes are an object, or inline when small.
CREATE TABLE blobs (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    digest     BLOB NOT NULL UNIQUE,
    size       INTEGER NOT NULL CHECK (size >= 0),
    object_id  INTEGER UNIQUE REFERENCES objects (id) ON DELETE RESTRICT,
    inline     BLOB,
    created_at INTEGER NOT NULL,
    CHECK ((object_id IS NULL) <> (inline IS NULL))
) STRICT;

-- The grant and the lease in one row: a blob is readable in a repository only through this row.
CREATE TABLE repository_blobs (
    repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE RESTRICT,
    blob_id       INTEGER NOT NULL REFERENCES blobs (id) ON DELETE RESTRICT,
    expires_at    INTEGER NOT NULL,
    PRIMARY KEY (repository_id, blob_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_blobs_by_blob ON repository_blobs (blob_id, repository_id);
CREATE INDEX repository_blobs_by_expiry ON repository_blobs (expires_at);

CREATE TABLE manifests (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    repository_id     INTEGER NOT NULL REFERENCES repositories (id) ON DELETE RESTRICT,
    digest            BLOB NOT NULL,
    media_type        TEXT NOT NULL,
    artifact_type     TEXT,
    config_media_type TEXT,
    subject_digest    BLOB,
    annotations       TEXT,
    body              BLOB NOT NULL,
    size              INTEGER NOT NULL,
    pushed_at         INTEGER NOT NULL,
    pushed_by         TEXT,
    last_pulled_at    INTEGER,
    untagged_since    INTEGER,
    UNIQUE (repository_id, digest),
    UNIQUE (repository_id, id)
) STRICT;
CREATE INDEX manifests_by_subject ON manifests (repository_id, subject_digest, digest) WHERE subject_digest IS NOT NULL;
CREATE INDEX manifests_by_untagged ON manifests (untagged_since) WHERE untagged_since IS NOT NULL;

-- What a manifest needs: it can name only what its own repository was granted, and what is named cannot be deleted.
CREATE TABLE manifest_blobs (
    repository_id INTEGER NOT NULL,
    manifest_id   INTEGER NOT NULL,
    blob_id       INTEGER NOT NULL,
    PRIMARY KEY (manifest_id, blob_id),
    FOREIGN KEY (repository_id, manifest_id) REFERENCES manifests (repository_id, id) ON DELETE CASCADE,
    FOREIGN KEY (repository_id, blob_id) REFERENCES repository_blobs (repository_id, blob_id) ON DELETE RESTRICT
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_blobs_by_blob ON manifest_blobs (repository_id, blob_id);

-- An index's entries; child_id is NULL while a sparse index names what is not here.
CREATE TABLE manifest_children (
    repository_id INTEGER NOT NULL,
    parent_id     INTEGER NOT NULL,
    child_digest  BLOB NOT NULL,
    child_id      INTEGER,
    PRIMARY KEY (parent_id, child_digest),
    FOREIGN KEY (repository_id, parent_id) REFERENCES manifests (repository_id, id) ON DELETE CASCADE,
    FOREIGN KEY (repository_id, child_id) REFERENCES manifests (repository_id, id) ON DELETE RESTRICT
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_children_by_child ON manifest_children (repository_id, child_id) WHERE child_id IS NOT NULL;
CREATE INDEX manifest_children_absent ON manifest_children (repository_id, child_digest) WHERE child_id IS NULL;

-- Blobs that a manifest names and that were not here when it came (sparse manifests, layers that live elsewhere).
-- The trigger on repository_blobs turns a row into a manifest_blobs row as soon as the blob arrives.
CREATE TABLE manifest_absent_blobs (
    repository_id INTEGER NOT NULL,
    manifest_id   INTEGER NOT NULL,
    digest        BLOB NOT NULL,
    PRIMARY KEY (manifest_id, digest),
    FOREIGN KEY (repository_id, manifest_id) REFERENCES manifests (repository_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_absent_blobs_by_digest ON manifest_absent_blobs (repository_id, digest);

CREATE TABLE tags (
    repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE RESTRICT,
    name          TEXT NOT NULL,
    manifest_id   INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, manifest_id) REFERENCES manifests (repository_id, id) ON DELETE RESTRICT
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_manifest ON tags (manifest_id);

-- Append only. digest is NULL where the tag was deleted.
CREATE TABLE tag_history (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    tag           TEXT NOT NULL,
    digest        BLOB,
    changed_at    INTEGER NOT NULL,
    changed_by    TEXT
) STRICT;
CREATE INDEX tag_history_by_tag ON tag_history (repository_id, tag, id);

-- Upload sessions. Bytes are `staged` in the row while they are few, then in the object; `received` counts durable
-- bytes, `hash_state` is the hash after exactly these, `fence` rises with each writer that takes the session.
CREATE TABLE uploads (
    id             TEXT PRIMARY KEY,
    repository_id  INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    principal      TEXT,
    received       INTEGER NOT NULL CHECK (received >= 0),
    hash_state     BLOB NOT NULL,
    staged         BLOB,
    object_id      INTEGER UNIQUE REFERENCES objects (id) ON DELETE RESTRICT,
    backend_upload TEXT,
    parts          TEXT,
    fence          INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX uploads_by_expiry ON uploads (expires_at);

-- What garbage collection is to look at. kind 1: manifest (repository, manifest); 2: grant (repository, blob); 3: blob (blob, 0).
CREATE TABLE gc_queue (
    kind         INTEGER NOT NULL CHECK (kind IN (1, 2, 3)),
    id1          INTEGER NOT NULL,
    id2          INTEGER NOT NULL,
    review_after INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, id1, id2)
) STRICT, WITHOUT ROWID;
CREATE INDEX gc_queue_due ON gc_queue (kind, review_after);

-- Keys whose bytes are to be deleted once `not_before` has passed.
CREATE TABLE tombstones (
    key           TEXT PRIMARY KEY,
    backend       TEXT NOT NULL,
    size          INTEGER NOT NULL,
    reason        TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    not_before    INTEGER NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    claimed_until INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_due ON tombstones (not_before);

CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL UNIQUE,
    kind          TEXT NOT NULL CHECK (kind IN ('person', 'robot')),
    password_hash TEXT,
    created_at    INTEGER NOT NULL,
    disabled_at   INTEGER
) STRICT;

CREATE TABLE tokens (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind         TEXT NOT NULL CHECK (kind IN ('access', 'refresh')),
    description  TEXT NOT NULL,
    secret_hash  BLOB NOT NULL UNIQUE,
    scope        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT;
CREATE INDEX tokens_by_user ON tokens (user_id);

CREATE TABLE grants (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    subject_kind       TEXT NOT NULL CHECK (subject_kind IN ('anonymous', 'user', 'group', 'everyone')),
    subject            TEXT NOT NULL,
    repository_pattern TEXT NOT NULL,
    role               TEXT NOT NULL CHECK (role IN ('reader', 'writer', 'maintainer', 'admin')),
    created_at         INTEGER NOT NULL,
    created_by         TEXT,
    UNIQUE (subject_kind, subject, repository_pattern)
) STRICT;

CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    kind         TEXT NOT NULL,
    slot         TEXT NOT NULL,
    payload      TEXT NOT NULL,
    run_at       INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    locked_until INTEGER NOT NULL DEFAULT 0,
    last_error   TEXT,
    created_at   INTEGER NOT NULL,
    UNIQUE (kind, slot)
) STRICT;
CREATE INDEX jobs_due ON jobs (run_at);

CREATE TABLE audit_log (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    at            INTEGER NOT NULL,
    actor         TEXT,
    action        TEXT NOT NULL,
    target        TEXT NOT NULL,
    digest_before BLOB,
    digest_after  BLOB,
    address       TEXT,
    request_id    TEXT,
    outcome       TEXT NOT NULL
) STRICT;
CREATE INDEX audit_log_by_time ON audit_log (at);

-- What is known of a tag at a registry that we mirror, and how fresh it is.
CREATE TABLE upstream_state (
    upstream    TEXT NOT NULL,
    repository  TEXT NOT NULL,
    reference   TEXT NOT NULL,
    digest      BLOB,
    checked_at  INTEGER NOT NULL,
    fresh_until INTEGER NOT NULL,
    last_error  TEXT,
    PRIMARY KEY (upstream, repository, reference)
) STRICT, WITHOUT ROWID;

-- Counters of a repository, equal to what counting the rows would give.
CREATE TABLE usage (
    repository_id INTEGER PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    manifests     INTEGER NOT NULL DEFAULT 0,
    blobs         INTEGER NOT NULL DEFAULT 0,
    bytes         INTEGER NOT NULL DEFAULT 0,
    counted_at    INTEGER NOT NULL
) STRICT;

-- Triggers: whatever changes what is reachable is queued for review here, so that no code path can forget to.
-- DO UPDATE, never DO NOTHING: a review that is going on right now has read the old state. (`WHERE true` parts the
-- SELECT from ON CONFLICT for SQLite's parser.)

CREATE TRIGGER manifest_inserted AFTER INSERT ON manifests BEGIN
    UPDATE manifest_children SET child_id = NEW.id
    WHERE repository_id = NEW.repository_id AND child_digest = NEW.digest AND child_id IS NULL;
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 1, NEW.repository_id, NEW.id, review_after FROM lease WHERE true
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
END;

CREATE TRIGGER manifest_deleted AFTER DELETE ON manifests BEGIN
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 1, m.repository_id, m.id, l.review_after FROM manifests m, lease l
        WHERE m.repository_id = OLD.repository_id AND m.subject_digest = OLD.digest
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
END;

CREATE TRIGGER manifest_blob_deleted AFTER DELETE ON manifest_blobs BEGIN
    UPDATE repository_blobs SET expires_at = max(expires_at, (SELECT lease.expires_at FROM lease))
    WHERE repository_id = OLD.repository_id AND blob_id = OLD.blob_id;
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 2, OLD.repository_id, OLD.blob_id, review_after FROM lease WHERE true
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
END;

CREATE TRIGGER manifest_child_deleted AFTER DELETE ON manifest_children WHEN OLD.child_id IS NOT NULL BEGIN
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 1, OLD.repository_id, OLD.child_id, review_after FROM lease WHERE true
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
END;

CREATE TRIGGER tag_inserted AFTER INSERT ON tags BEGIN
    UPDATE manifests SET untagged_since = NULL WHERE id = NEW.manifest_id AND untagged_since IS NOT NULL;
END;

CREATE TRIGGER tag_deleted AFTER DELETE ON tags BEGIN
    UPDATE manifests SET untagged_since = (SELECT now FROM clock)
    WHERE id = OLD.manifest_id AND NOT EXISTS (SELECT 1 FROM tags WHERE manifest_id = OLD.manifest_id);
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 1, OLD.repository_id, OLD.manifest_id, review_after FROM lease WHERE true
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
END;

CREATE TRIGGER tag_moved AFTER UPDATE OF manifest_id ON tags WHEN OLD.manifest_id <> NEW.manifest_id BEGIN
    UPDATE manifests SET untagged_since = NULL WHERE id = NEW.manifest_id AND untagged_since IS NOT NULL;
    UPDATE manifests SET untagged_since = (SELECT now FROM clock)
    WHERE id = OLD.manifest_id AND NOT EXISTS (SELECT 1 FROM tags WHERE manifest_id = OLD.manifest_id);
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 1, OLD.repository_id, OLD.manifest_id, review_after FROM lease WHERE true
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
END;

CREATE TRIGGER repository_blob_inserted AFTER INSERT ON repository_blobs BEGIN
    INSERT INTO manifest_blobs (repository_id, manifest_id, blob_id)
        SELECT a.repository_id, a.manifest_id, b.id
        FROM blobs b JOIN manifest_absent_blobs a ON a.digest = b.digest
        WHERE b.id = NEW.blob_id AND a.repository_id = NEW.repository_id
    ON CONFLICT DO NOTHING;
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 2, NEW.repository_id, NEW.blob_id, review_after FROM lease WHERE true
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
END;

CREATE TRIGGER repository_blob_deleted AFTER DELETE ON repository_blobs BEGIN
    INSERT INTO gc_queue (kind, id1, id2, review_after)
        SELECT 3, OLD.blob_id, 0, review_after FROM lease WHERE true
    ON CONFLICT (kind, id1, id2) DO UPDATE SET review_after = excluded.review_after, attempts = 0;
END;
