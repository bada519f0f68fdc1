//! A look into the server's database, beside the server.

use sqlx::{Connection, PgConnection, SqliteConnection};

/// The database of a server.
#[derive(Debug)]
pub(crate) struct Database(String);

/// An object as the database has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub(crate) struct Object {
    /// `objects/` and the name.
    pub(crate) key: String,
    /// In bytes.
    pub(crate) size: i64,
    /// `pending` while it is written, then `live`.
    pub(crate) state: String,
}

/// Runs a query on either kind of database, on a connection of its own.
macro_rules! on_either {
    ($url:expr, $query:expr, $method:ident) => {
        if $url.starts_with("sqlite:") {
            let mut connection = SqliteConnection::connect($url).await.expect("the database can be opened");
            let outcome = $query.$method(&mut connection).await.expect("the statement is right");
            connection.close().await.expect("the connection can be closed");
            outcome
        } else {
            let mut connection = PgConnection::connect($url).await.expect("the database can be reached");
            let outcome = $query.$method(&mut connection).await.expect("the statement is right");
            connection.close().await.expect("the connection can be closed");
            outcome
        }
    };
}

/// A step of garbage collection, by the rows that become fewer with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sessions that have expired.
    Uploads,
    /// What can be brought back no more.
    Deleted,
    /// Manifests that nothing keeps.
    Manifests,
    /// Holds of repositories on blobs.
    Grants,
    /// Blobs that nobody holds.
    Blobs,
    /// The bytes of condemned objects.
    Objects,
}

impl Step {
    pub(crate) const ALL: [Self; 6] =
        [Self::Uploads, Self::Deleted, Self::Manifests, Self::Grants, Self::Blobs, Self::Objects];
}

/// Runs what makes everything due, in one transaction of a connection.
macro_rules! age {
    ($connection:expr) => {{
        let mut transaction = $connection.begin().await.expect("a transaction can begin");
        for statement in AGE {
            sqlx::query(statement).execute(&mut *transaction).await.expect("the statement is right");
        }
        transaction.commit().await.expect("the transaction can be committed");
        $connection.close().await.expect("the connection can be closed");
    }};
}

/// The queue last: what is in it is looked at from then on.
const AGE: [&str; 6] = [
    "UPDATE uploads SET expires_at = 0",
    "UPDATE deleted_manifests SET keep_until = 0",
    "UPDATE manifests SET pushed_at = 0, last_pulled_at = NULL, \
        untagged_since = CASE WHEN untagged_since IS NULL THEN NULL ELSE 0 END",
    "UPDATE repository_blobs SET expires_at = 0",
    "UPDATE tombstones SET not_before = 0, claimed_until = 0",
    "UPDATE gc_queue SET review_after = 0",
];

impl Database {
    pub(crate) fn at(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// Every object, in the order of the keys.
    pub(crate) async fn objects(&self) -> Vec<Object> {
        on_either!(&self.0, sqlx::query_as("SELECT key, size, state FROM objects ORDER BY key"), fetch_all)
    }

    /// How many upload sessions are open.
    pub(crate) async fn sessions(&self) -> i64 {
        on_either!(&self.0, sqlx::query_scalar("SELECT count(*) FROM uploads"), fetch_one)
    }

    /// How many objects wait for their deletion.
    pub(crate) async fn tombstones(&self) -> i64 {
        on_either!(&self.0, sqlx::query_scalar("SELECT count(*) FROM tombstones"), fetch_one)
    }

    /// How many rows a step of garbage collection has before it.
    pub(crate) async fn before(&self, step: Step) -> i64 {
        let count = match step {
            Step::Uploads => "SELECT count(*) FROM uploads",
            Step::Deleted => "SELECT count(*) FROM deleted_manifests",
            Step::Manifests => "SELECT count(*) FROM manifests",
            Step::Grants => "SELECT count(*) FROM repository_blobs",
            Step::Blobs => "SELECT count(*) FROM blobs",
            Step::Objects => "SELECT count(*) FROM tombstones",
        };
        on_either!(&self.0, sqlx::query_scalar(count), fetch_one)
    }

    /// What was made due by [`Database::age`], and was not looked at since.
    pub(crate) async fn due(&self) -> i64 {
        const DUE: &str = "SELECT (SELECT count(*) FROM gc_queue WHERE review_after = 0) \
            + (SELECT count(*) FROM uploads WHERE expires_at = 0) \
            + (SELECT count(*) FROM deleted_manifests WHERE keep_until = 0)";
        on_either!(&self.0, sqlx::query_scalar(DUE), fetch_one)
    }

    /// How much nothing keeps: what waits to be collected, sooner or later.
    pub(crate) async fn garbage(&self) -> i64 {
        const GARBAGE: &str = "SELECT (SELECT count(*) FROM uploads) + (SELECT count(*) FROM deleted_manifests) \
            + (SELECT count(*) FROM tombstones) \
            + (SELECT count(*) FROM manifests m WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest_id = m.id) \
                AND NOT EXISTS (SELECT 1 FROM manifest_children c WHERE c.child_id = m.id) \
                AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository_id = m.repository_id \
                    AND s.digest = m.subject_digest)) \
            + (SELECT count(*) FROM repository_blobs g WHERE NOT EXISTS (SELECT 1 FROM manifest_blobs n \
                WHERE n.repository_id = g.repository_id AND n.blob_id = g.blob_id)) \
            + (SELECT count(*) FROM blobs b WHERE NOT EXISTS \
                (SELECT 1 FROM repository_blobs g WHERE g.blob_id = b.id))";
        on_either!(&self.0, sqlx::query_scalar(GARBAGE), fetch_one)
    }

    /// Makes everything due at one moment that garbage collection waits with: as if weeks had gone by, in which the server
    /// did nothing. It may be running.
    pub(crate) async fn age(&self) {
        if self.0.starts_with("sqlite:") {
            let mut connection = SqliteConnection::connect(&self.0).await.expect("the database can be opened");
            age!(connection);
        } else {
            let mut connection = PgConnection::connect(&self.0).await.expect("the database can be reached");
            age!(connection);
        }
    }

    /// Lets every upload session expire, and every claim of a collector that died: as if days had gone by.
    pub(crate) async fn let_time_pass(&self) {
        const EXPIRE: &str = "UPDATE uploads SET expires_at = 0 RETURNING expires_at";
        const RELEASE: &str = "UPDATE tombstones SET claimed_until = 0 RETURNING claimed_until";
        let _expired: Vec<i64> = on_either!(&self.0, sqlx::query_scalar(EXPIRE), fetch_all);
        let _released: Vec<i64> = on_either!(&self.0, sqlx::query_scalar(RELEASE), fetch_all);
    }
}
