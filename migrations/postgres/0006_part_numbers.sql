-- The first number that no writer of the session was given for its parts. A writer that has lost the session may still have a
-- part on its way: with numbers of its own it cannot take the place of a part that the next writer has saved.

SET LOCAL lock_timeout = '3s';

ALTER TABLE uploads ADD COLUMN next_part BIGINT NOT NULL DEFAULT 0;
UPDATE uploads SET next_part = (SELECT COALESCE(max(number) + 1, 0) FROM upload_parts WHERE upload_id = uploads.id)
    WHERE backend_upload IS NOT NULL;
