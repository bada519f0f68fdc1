//! What namespaces hold. Triggers write each change down; changes are added up here, under the namespace's row, so that each
//! counts once.

use super::blobs::size;
use super::dialect::{for_update, review_list};
use super::reviews::id_list;
use super::{Connection, Store, Transaction, read, repositories};
use crate::cache::Change;
use crate::{ComparedUsage, Durability, Error, NamespaceUsage, Quotas, Result, UploadId, namespace};
use longshore_oci::RepositoryName;
use std::collections::BTreeSet;

/// Of the repositories `r`, those in the namespace `$1`: with [`inside`] as `$2` and `$3`.
macro_rules! in_namespace {
    () => {
        "r.name >= $1 AND r.name < $2 AND (r.name = $1 OR r.name >= $3)"
    };
}

/// The bytes of the namespace's manifests.
macro_rules! of_manifests {
    () => {
        concat!(
            "(SELECT COALESCE(SUM(m.size), 0) FROM repositories r JOIN manifests m ON m.repository_id = r.id WHERE ",
            in_namespace!(),
            ")"
        )
    };
}

/// All that counts for its quota: those, and the bytes of each blob once for each repository that holds it.
macro_rules! of_all {
    () => {
        concat!(
            "(SELECT COALESCE(SUM(b.size), 0) FROM repositories r JOIN repository_blobs g ON g.repository_id = r.id \
             JOIN blobs b ON b.id = g.blob_id WHERE ",
            in_namespace!(),
            ") + ",
            of_manifests!()
        )
    };
}

statements! {
    ADD = "INSERT INTO namespace_usage (namespace, bytes) VALUES ($1, NULL) ON CONFLICT (namespace) DO NOTHING";
    LOCK = concat!("SELECT bytes FROM namespace_usage WHERE namespace = $1", for_update!());
    TAKE = "DELETE FROM usage_changes WHERE namespace = $1 RETURNING bytes";
    // All rows, and the changes that they have in them already: in one look.
    COUNT = concat!("SELECT CAST(0 AS BIGINT) AS id, CAST(", of_all!(), " AS BIGINT) AS bytes \
        UNION ALL SELECT d.id, CAST(0 AS BIGINT) FROM usage_changes d WHERE d.namespace = $1");
    DROP = concat!("DELETE FROM usage_changes WHERE id IN (SELECT id1 FROM ", review_list!("$1"), " l)");
    SET = "UPDATE namespace_usage SET bytes = $2 WHERE namespace = $1";
    CHANGED = "SELECT namespace FROM usage_changes WHERE namespace > $1 ORDER BY namespace LIMIT 1";
    USAGE = "SELECT u.bytes, (SELECT CAST(COALESCE(SUM(d.bytes), 0) AS BIGINT) FROM usage_changes d \
        WHERE d.namespace = u.namespace) AS changes FROM namespace_usage u WHERE u.namespace = $1";
    NAMES = "SELECT r.name FROM repositories r WHERE r.name > $1 ORDER BY r.name LIMIT $2";
    // Each blob is read once, with how many of the namespace's repositories hold it.
    MEASURE = concat!("SELECT CAST(COALESCE(SUM(b.size * h.holders), 0) AS BIGINT), CAST(COALESCE(SUM(b.size), 0) AS BIGINT), \
        CAST(", of_manifests!(), " AS BIGINT) \
        FROM (SELECT g.blob_id, count(*) AS holders FROM repositories r \
            JOIN repository_blobs g ON g.repository_id = r.id WHERE ", in_namespace!(), " GROUP BY g.blob_id) h \
        JOIN blobs b ON b.id = h.blob_id");
    ADDED_UP = "SELECT namespace FROM namespace_usage WHERE namespace > $1 AND bytes IS NOT NULL ORDER BY namespace LIMIT $2";
    // What its row and the changes since then say, and what its rows are: in one look, so that they are of one moment.
    COMPARE = concat!("SELECT \
        CAST(u.bytes + COALESCE((SELECT SUM(d.bytes) FROM usage_changes d WHERE d.namespace = u.namespace), 0) AS BIGINT), \
        CAST(", of_all!(), " AS BIGINT) FROM namespace_usage u WHERE u.namespace = $1 AND u.bytes IS NOT NULL");
    FORGET = "UPDATE namespace_usage SET bytes = NULL WHERE namespace = $1";
    NAMESPACE_OF = "SELECT r.name FROM uploads u JOIN repositories r ON r.id = u.repository_id WHERE u.id = $1";
}

/// Rows that are read together.
const PAGE: i64 = 500;

/// What a namespace holds with all that this transaction sees. Its row is locked until the transaction ends.
async fn add_up(connection: &mut Connection, namespace: &str) -> Result<u64> {
    let mut row: Option<(Option<i64>,)> = sqlx::query_as(LOCK).bind(namespace).fetch_optional(&mut *connection).await?;
    if row.is_none() {
        sqlx::query(ADD).bind(namespace).execute(&mut *connection).await?;
        row = sqlx::query_as(LOCK).bind(namespace).fetch_optional(&mut *connection).await?;
    }
    let before = match row {
        Some((Some(bytes),)) => bytes,
        _ => count(connection, namespace).await?,
    };
    let changes: Vec<(i64,)> = sqlx::query_as(TAKE).bind(namespace).fetch_all(&mut *connection).await?;
    let bytes = before + changes.iter().map(|(change,)| change).sum::<i64>();
    if !changes.is_empty() || row != Some((Some(bytes),)) {
        sqlx::query(SET).bind(namespace).bind(bytes).execute(connection).await?;
    }
    size(bytes)
}

/// Counts all rows of a namespace that was never counted; the changes that are among them are forgotten.
async fn count(connection: &mut Connection, namespace: &str) -> Result<i64> {
    let (below, end) = inside(namespace);
    let rows: Vec<(i64, i64)> =
        sqlx::query_as(COUNT).bind(namespace).bind(end).bind(below).fetch_all(&mut *connection).await?;
    let counted = id_list(rows.iter().filter(|(id, _)| *id > 0).map(|(id, _)| (*id, 0)));
    sqlx::query(DROP).bind(counted).execute(connection).await?;
    Ok(rows.iter().map(|(_, bytes)| bytes).sum())
}

/// The first and the last name that a repository in a namespace may have: `0` comes after `/`.
fn inside(namespace: &str) -> (String, String) {
    (format!("{namespace}/"), format!("{namespace}0"))
}

/// Whose quota a write counts for.
#[derive(Debug)]
pub(super) enum Place {
    Repository(RepositoryName),
    Upload(UploadId),
}

impl Place {
    async fn namespace(&self, connection: &mut Connection) -> Result<Option<String>> {
        match self {
            Self::Repository(name) => Ok(Some(namespace(name).to_owned())),
            Self::Upload(id) => {
                let name: Option<(String,)> =
                    sqlx::query_as(NAMESPACE_OF).bind(id.to_string()).fetch_optional(connection).await?;
                name.map(|(name,)| Ok(namespace(&repositories::name(&name)?).to_owned())).transpose()
            }
        }
    }
}

/// A write that counts for a quota: where it would let the namespace hold more than it may, it does nothing. Writes to one
/// namespace that has a quota wait for each other.
pub(super) struct Within<T> {
    pub(super) work: T,
    pub(super) place: Place,
    pub(super) quotas: Quotas,
}

impl<T: Transaction> Transaction for Within<T> {
    type Output = T::Output;

    const DURABILITY: Durability = T::DURABILITY;

    fn changes(&self) -> Vec<Change> {
        self.work.changes()
    }

    async fn run(&self, connection: &mut Connection) -> Result<T::Output> {
        let namespace = self.place.namespace(connection).await?;
        let Some((namespace, quota)) = namespace.and_then(|name| self.quotas.of(&name).map(|quota| (name, quota)))
        else {
            return self.work.run(connection).await;
        };
        let before = add_up(connection, &namespace).await?;
        let output = self.work.run(connection).await?;
        let after = add_up(connection, &namespace).await?;
        if after > quota && after > before {
            return Err(Error::OverQuota { namespace, quota, held: before, wanted: after - before });
        }
        Ok(output)
    }
}

struct AddUp(String);

impl Transaction for AddUp {
    type Output = u64;

    /// What is lost is added up once more.
    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<u64> {
        add_up(connection, &self.0).await
    }
}

struct CountAnew(String);

impl Transaction for CountAnew {
    type Output = ();

    async fn run(&self, connection: &mut Connection) -> Result<()> {
        sqlx::query(FORGET).bind(&self.0).execute(connection).await?;
        Ok(())
    }
}

impl Store {
    /// A write that counts for the quota of a namespace.
    pub(super) async fn write_within<T: Transaction>(
        &self,
        work: T,
        place: impl FnOnce(&T) -> Place,
        quotas: &Quotas,
    ) -> Result<T::Output> {
        if quotas.is_empty() {
            return self.write(work).await;
        }
        let place = place(&work);
        self.write(Within { work, place, quotas: quotas.clone() }).await
    }

    pub(crate) async fn add_up_usage(&self) -> Result<()> {
        let mut after = String::new();
        while let Some(namespace) = self.changed_namespace(&after).await? {
            self.write(AddUp(namespace.clone())).await?;
            after = namespace;
        }
        Ok(())
    }

    async fn changed_namespace(&self, after: &str) -> Result<Option<String>> {
        let told: Result<Option<(String,)>> = read!(self.connections, connection => Ok(sqlx::query_as(CHANGED).bind(after).fetch_optional(connection).await?));
        Ok(told?.map(|(namespace,)| namespace))
    }

    pub(crate) async fn namespace_usage(&self, namespace: &str) -> Result<u64> {
        let told: Result<Option<(Option<i64>, i64)>> = read!(self.connections, connection => Ok(sqlx::query_as(USAGE).bind(namespace).fetch_optional(connection).await?));
        match told? {
            Some((Some(bytes), changes)) => size(bytes + changes),
            _ => self.write(AddUp(namespace.to_owned())).await,
        }
    }

    /// A namespace's repositories need not stand together: `team-b` comes between `team` and `team/a`.
    pub(crate) async fn list_namespaces(&self) -> Result<BTreeSet<String>> {
        let (mut namespaces, mut after) = (BTreeSet::new(), String::new());
        loop {
            let told: Result<Vec<(String,)>> = read!(self.connections, connection => {
                Ok(sqlx::query_as(NAMES).bind(&after).bind(PAGE).fetch_all(connection).await?)
            });
            let page = told?;
            let Some((last,)) = page.last() else { return Ok(namespaces) };
            after = last.clone();
            for (text,) in &page {
                namespaces.insert(namespace(&repositories::name(text)?).to_owned());
            }
        }
    }

    pub(crate) async fn measure_namespace(&self, namespace: &str) -> Result<NamespaceUsage> {
        let (below, end) = inside(namespace);
        let told: Result<(i64, i64, i64)> = read!(self.connections, connection => {
            Ok(sqlx::query_as(MEASURE).bind(namespace).bind(&end).bind(&below).fetch_one(connection).await?)
        });
        let (for_each, once, manifests) = told?;
        Ok(NamespaceUsage { logical: size(for_each + manifests)?, stored: size(once + manifests)? })
    }

    pub(crate) async fn added_up_namespaces(&self, after: &str, limit: u32) -> Result<Vec<String>> {
        let told: Result<Vec<(String,)>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(ADDED_UP).bind(after).bind(i64::from(limit)).fetch_all(connection).await?)
        });
        Ok(told?.into_iter().map(|(namespace,)| namespace).collect())
    }

    pub(crate) async fn compare_usage(&self, namespace: &str) -> Result<Option<ComparedUsage>> {
        let (below, end) = inside(namespace);
        let told: Result<Option<(i64, i64)>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(COMPARE).bind(namespace).bind(&end).bind(&below).fetch_optional(connection).await?)
        });
        Ok(told?.map(|(told, counted)| ComparedUsage { told, counted }))
    }

    pub(crate) async fn count_usage_anew(&self, namespace: &str) -> Result<()> {
        self.write(CountAnew(namespace.to_owned())).await
    }
}
