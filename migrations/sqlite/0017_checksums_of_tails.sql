-- The twin of postgres/0017_checksums_of_tails.sql.
--
-- The tail of an upload is read back by its next writer, whose hash has seen the bytes before they went there: what the
-- store gives back damaged would be in the object, and its digest right. Expands only.

-- CRC-64/NVME of a tail's bytes as they were sent. None for other objects, and for tails of a release that records none:
-- it stands here, and not beside `uploads.tail_id`, so that it is never taken for that of a tail which such a release
-- has put in the place of another.
ALTER TABLE objects ADD COLUMN tail_crc INTEGER;
