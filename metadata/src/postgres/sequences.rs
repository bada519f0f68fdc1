//! Rows that come with their numbers leave the sequences where they were: the next new row would take a number that is
//! taken. SQLite looks for itself.

statements! {
    REPOSITORIES = "SELECT setval(pg_get_serial_sequence('repositories', 'id'), \
        (SELECT COALESCE(MAX(id), 0) + 1 FROM repositories), false)";
    OBJECTS = "SELECT setval(pg_get_serial_sequence('objects', 'id'), \
        (SELECT COALESCE(MAX(id), 0) + 1 FROM objects), false)";
    BLOBS = "SELECT setval(pg_get_serial_sequence('blobs', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM blobs), false)";
    MANIFESTS = "SELECT setval(pg_get_serial_sequence('manifests', 'id'), \
        (SELECT COALESCE(MAX(id), 0) + 1 FROM manifests), false)";
    TAG_HISTORY = "SELECT setval(pg_get_serial_sequence('tag_history', 'id'), \
        (SELECT COALESCE(MAX(id), 0) + 1 FROM tag_history), false)";
    USERS = "SELECT setval(pg_get_serial_sequence('users', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM users), false)";
    TOKENS = "SELECT setval(pg_get_serial_sequence('tokens', 'id'), \
        (SELECT COALESCE(MAX(id), 0) + 1 FROM tokens), false)";
    GRANTS = "SELECT setval(pg_get_serial_sequence('grants', 'id'), \
        (SELECT COALESCE(MAX(id), 0) + 1 FROM grants), false)";
    AUDIT_LOG = "SELECT setval(pg_get_serial_sequence('audit_log', 'id'), \
        (SELECT COALESCE(MAX(id), 0) + 1 FROM audit_log), false)";
}

/// The last statements of a transaction that brought rows with their numbers.
pub(super) const AFTER_RESTORE: &[&str] =
    &[REPOSITORIES, OBJECTS, BLOBS, MANIFESTS, TAG_HISTORY, USERS, TOKENS, GRANTS, AUDIT_LOG];
