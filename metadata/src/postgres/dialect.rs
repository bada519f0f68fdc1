//! The fragments in which PostgreSQL's SQL differs from SQLite's. The twin of `sqlite/dialect.rs`.

/// Locks the selected rows until the transaction ends.
macro_rules! for_update {
    () => {
        " FOR UPDATE"
    };
}

/// The same, of one table of the select.
macro_rules! for_update_of {
    ($table:literal) => {
        concat!(" FOR UPDATE OF ", $table)
    };
}

/// Keeps the rows of one table of the select from being deleted until the transaction ends.
macro_rules! for_key_share {
    ($table:literal) => {
        concat!(" FOR KEY SHARE OF ", $table)
    };
}

/// Locks the rows of one table of the select, in its order, until the transaction ends; but for who refers to them.
macro_rules! for_no_key_update {
    ($table:literal) => {
        concat!(" FOR NO KEY UPDATE OF ", $table)
    };
}

/// Locks the selected rows and passes over those that another transaction holds.
macro_rules! skip_locked {
    () => {
        " FOR UPDATE SKIP LOCKED"
    };
}

/// A one-column table `digest` from a parameter that holds a JSON list of hexadecimal text.
macro_rules! digest_list {
    ($parameter:literal) => {
        concat!("(SELECT decode(value, 'hex') AS digest FROM json_array_elements_text(", $parameter, "::json))")
    };
}

/// A table `digest`, `repository_id` from parameters that hold a JSON list of hexadecimal text and a repository's name. That
/// all rows have the same repository is hidden from the planner (`OFFSET 0`): it would begin with all that the repository has.
macro_rules! digests_in {
    ($digests:literal, $repository:literal) => {
        concat!(
            "(SELECT decode(value, 'hex') AS digest, (SELECT id FROM repositories WHERE name = ",
            $repository,
            ") AS repository_id FROM json_array_elements_text(",
            $digests,
            "::json) OFFSET 0)"
        )
    };
}

/// The same of a JSON list of names.
macro_rules! names_in {
    ($names:literal, $repository:literal) => {
        concat!(
            "(SELECT value AS name, (SELECT id FROM repositories WHERE name = ",
            $repository,
            ") AS repository_id FROM json_array_elements_text(",
            $names,
            "::json) OFFSET 0)"
        )
    };
}

/// A one-column table `value` from a parameter that holds a JSON list of lists.
macro_rules! json_rows {
    ($parameter:literal) => {
        concat!("json_array_elements(", $parameter, "::json)")
    };
}

/// Bytes from hexadecimal text.
macro_rules! unhex {
    ($text:expr) => {
        concat!("decode(", $text, ", 'hex')")
    };
}

/// Hexadecimal text from bytes, NULL from NULL.
macro_rules! hex {
    ($bytes:literal) => {
        concat!("encode(", $bytes, ", 'hex')")
    };
}

/// A JSON list of these columns, as text.
macro_rules! json_row {
    ($($columns:expr),+) => {
        concat!("CAST(json_build_array(", $($columns),+, ") AS TEXT)")
    };
}

/// A one-column table `value` from a parameter that holds a JSON list of text.
macro_rules! text_list {
    ($parameter:literal) => {
        concat!("(SELECT value FROM json_array_elements_text(", $parameter, "::json))")
    };
}

/// A table `id1`, `id2`, `due`, `other` of numbers from a parameter that holds a JSON list of lists.
macro_rules! review_list {
    ($parameter:literal) => {
        concat!(
            "(SELECT (value ->> 0)::bigint AS id1, (value ->> 1)::bigint AS id2, (value ->> 2)::bigint AS due, \
             (value ->> 3)::bigint AS other FROM json_array_elements(",
            $parameter,
            "::json))"
        )
    };
}

/// A table `kind`, `id1`, `id2`, `due`, `later` of numbers from a parameter that holds a JSON list of lists.
macro_rules! queue_list {
    ($parameter:literal) => {
        concat!(
            "(SELECT (value ->> 0)::bigint AS kind, (value ->> 1)::bigint AS id1, (value ->> 2)::bigint AS id2, \
             (value ->> 3)::bigint AS due, (value ->> 4)::bigint AS later FROM json_array_elements(",
            $parameter,
            "::json))"
        )
    };
}

/// Lets nobody else who asks for the same go on until the transaction ends.
macro_rules! lock_text {
    ($text:literal) => {
        concat!("pg_advisory_xact_lock(hashtextextended(", $text, ", 0))")
    };
}

/// The value of an annotation, from a column that holds them as a JSON object; NULL where there is none.
macro_rules! annotation {
    ($annotations:literal, $key:literal) => {
        concat!("CAST(", $annotations, " AS json) ->> '", $key, "'")
    };
}

pub(super) use {
    annotation, digest_list, digests_in, for_key_share, for_no_key_update, for_update, for_update_of, hex, json_row,
    json_rows, lock_text, names_in, queue_list, review_list, skip_locked, text_list, unhex,
};
