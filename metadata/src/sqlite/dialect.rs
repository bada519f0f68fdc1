//! The fragments in which SQLite's SQL differs from PostgreSQL's. The twin of `postgres/dialect.rs`. There is one
//! writer, so rows need no locks.

/// Locks the selected rows until the transaction ends: the one writer holds them all.
macro_rules! for_update {
    () => {
        ""
    };
}

/// The same, of one table of the select: the one writer holds them all.
macro_rules! for_update_of {
    ($table:literal) => {
        ""
    };
}

/// Keeps the rows of one table of the select from being deleted until the transaction ends: nobody else writes.
macro_rules! for_key_share {
    ($table:literal) => {
        ""
    };
}

/// Locks the rows of one table of the select: the one writer holds them all.
macro_rules! for_no_key_update {
    ($table:literal) => {
        ""
    };
}

/// Locks the selected rows and passes over those that another transaction holds: there is none.
macro_rules! skip_locked {
    () => {
        ""
    };
}

/// A one-column table `digest` from a parameter that holds a JSON list of hexadecimal text.
macro_rules! digest_list {
    ($parameter:literal) => {
        concat!("(SELECT unhex(value) AS digest FROM json_each(", $parameter, "))")
    };
}

/// A table `digest`, `repository_id` from parameters that hold a JSON list of hexadecimal text and a repository's name.
macro_rules! digests_in {
    ($digests:literal, $repository:literal) => {
        concat!(
            "(SELECT unhex(value) AS digest, (SELECT id FROM repositories WHERE name = ",
            $repository,
            ") AS repository_id FROM json_each(",
            $digests,
            "))"
        )
    };
}

/// The same of a JSON list of names.
macro_rules! names_in {
    ($names:literal, $repository:literal) => {
        concat!(
            "(SELECT value AS name, (SELECT id FROM repositories WHERE name = ",
            $repository,
            ") AS repository_id FROM json_each(",
            $names,
            "))"
        )
    };
}

/// A one-column table `value` from a parameter that holds a JSON list of lists.
macro_rules! json_rows {
    ($parameter:literal) => {
        concat!("json_each(", $parameter, ")")
    };
}

/// Bytes from hexadecimal text.
macro_rules! unhex {
    ($text:expr) => {
        concat!("unhex(", $text, ")")
    };
}

/// Hexadecimal text from bytes, NULL from NULL: SQLite's own function makes no difference between that and no bytes.
macro_rules! hex {
    ($bytes:literal) => {
        concat!("CASE WHEN ", $bytes, " IS NULL THEN NULL ELSE lower(hex(", $bytes, ")) END")
    };
}

/// A JSON list of these columns, as text.
macro_rules! json_row {
    ($($columns:expr),+) => {
        concat!("json_array(", $($columns),+, ")")
    };
}

/// A one-column table `value` from a parameter that holds a JSON list of text.
macro_rules! text_list {
    ($parameter:literal) => {
        concat!("(SELECT value FROM json_each(", $parameter, "))")
    };
}

/// A table `id1`, `id2`, `due`, `other` of numbers from a parameter that holds a JSON list of lists.
macro_rules! review_list {
    ($parameter:literal) => {
        concat!(
            "(SELECT value ->> 0 AS id1, value ->> 1 AS id2, value ->> 2 AS due, value ->> 3 AS other FROM json_each(",
            $parameter,
            "))"
        )
    };
}

/// A table `kind`, `id1`, `id2`, `due`, `later` of numbers from a parameter that holds a JSON list of lists.
macro_rules! queue_list {
    ($parameter:literal) => {
        concat!(
            "(SELECT value ->> 0 AS kind, value ->> 1 AS id1, value ->> 2 AS id2, value ->> 3 AS due, value ->> 4 AS later \
             FROM json_each(",
            $parameter,
            "))"
        )
    };
}

/// Lets nobody else who asks for the same go on until the transaction ends: nobody else writes.
macro_rules! lock_text {
    ($text:literal) => {
        $text
    };
}

/// The value of an annotation, from a column that holds them as a JSON object; NULL where there is none.
macro_rules! annotation {
    ($annotations:literal, $key:literal) => {
        concat!($annotations, " ->> '$.\"", $key, "\"'")
    };
}

pub(super) use {
    annotation, digest_list, digests_in, for_key_share, for_no_key_update, for_update, for_update_of, hex, json_row,
    json_rows, lock_text, names_in, queue_list, review_list, skip_locked, text_list, unhex,
};
