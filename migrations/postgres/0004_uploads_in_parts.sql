-- Uploads to an object store. What arrives goes there in parts, which become the object when the session ends; what is
-- too little for a part is an object of its own until more comes: the session's tail. `uploads.backend_upload` is the
-- store's name of the upload that the parts belong to. (`uploads.parts` was never used; a later migration drops it.)

SET LOCAL lock_timeout = '3s';

-- The bytes of the session after those in parts, and the object that the next such bytes are about to go to.
ALTER TABLE uploads ADD COLUMN tail_id BIGINT REFERENCES objects (id) ON DELETE RESTRICT;
ALTER TABLE uploads ADD COLUMN next_tail_id BIGINT REFERENCES objects (id) ON DELETE RESTRICT;
CREATE UNIQUE INDEX uploads_by_tail ON uploads (tail_id) WHERE tail_id IS NOT NULL;
CREATE UNIQUE INDEX uploads_by_next_tail ON uploads (next_tail_id) WHERE next_tail_id IS NOT NULL;

CREATE TABLE upload_parts (
    upload_id TEXT COLLATE "C" NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    number    BIGINT NOT NULL CHECK (number >= 0),
    tag       TEXT NOT NULL,
    size      BIGINT NOT NULL CHECK (size > 0),
    PRIMARY KEY (upload_id, number)
);
