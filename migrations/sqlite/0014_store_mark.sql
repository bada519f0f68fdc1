-- The twin of postgres/0014_store_mark.sql.
--
-- Which store of objects the database belongs to: that store bears the same mark. A server whose store bears another
-- does not start, since it would take all objects that it does not find for damaged. Expands only.

-- One row, from the first start on.
CREATE TABLE store_mark (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    mark TEXT NOT NULL
) STRICT;
