//! What repositories hold, and how it hangs together: for whoever asks where the bytes are.

use super::blobs::{digest, size};
use super::dialect::review_list;
use super::repositories::{find, name};
use super::reviews::id_list;
use super::{Store, read};
use crate::{BlobEdge, Contents, Error, ManifestNode, RepositorySize, Result};
use longshore_oci::{RepositoryName, Tag};

statements! {
    SIZES = "SELECT r.name, \
        (SELECT count(*) FROM manifests m WHERE m.repository_id = r.id) AS manifests, \
        (SELECT CAST(COALESCE(SUM(m.size), 0) AS BIGINT) FROM manifests m WHERE m.repository_id = r.id) AS manifest_bytes, \
        (SELECT count(*) FROM repository_blobs g WHERE g.repository_id = r.id) AS blobs, \
        (SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM repository_blobs g JOIN blobs b ON b.id = g.blob_id \
            WHERE g.repository_id = r.id) AS blob_bytes, \
        (SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM repository_blobs g JOIN blobs b ON b.id = g.blob_id \
            WHERE g.repository_id = r.id AND (SELECT count(*) FROM repository_blobs o WHERE o.blob_id = g.blob_id) = 1) \
            AS unique_bytes \
        FROM repositories r WHERE r.name > $1 ORDER BY r.name LIMIT $2";
    BLOB_SIZES = "SELECT count(*), CAST(COALESCE(SUM(p.size), 0) AS BIGINT), MAX(p.id) \
        FROM (SELECT id, size FROM blobs WHERE id > $1 ORDER BY id LIMIT $2) p";
    MANIFESTS = "SELECT m.id, m.digest, m.size, m.subject_digest FROM manifests m \
        WHERE m.repository_id = $1 AND m.id > $2 ORDER BY m.id LIMIT $3";
    CHILDREN = concat!("SELECT c.parent_id, c.child_id FROM ", review_list!("$1"), " l \
        JOIN manifest_children c ON c.parent_id = l.id1 WHERE c.child_id IS NOT NULL");
    BLOBS = concat!("SELECT n.manifest_id, b.id AS blob_id, b.digest, b.size, \
        (SELECT count(*) FROM repository_blobs g WHERE g.blob_id = b.id) AS holders FROM ", review_list!("$1"), " l \
        JOIN manifest_blobs n ON n.manifest_id = l.id1 JOIN blobs b ON b.id = n.blob_id");
    TAGS = "SELECT t.name, t.manifest_id FROM tags t WHERE t.repository_id = $1 AND t.name > $2 ORDER BY t.name LIMIT $3";
}

/// Rows that are read together.
const PAGE: i64 = 500;

#[derive(sqlx::FromRow)]
struct SizeRow {
    name: String,
    manifests: i64,
    manifest_bytes: i64,
    blobs: i64,
    blob_bytes: i64,
    unique_bytes: i64,
}

#[derive(sqlx::FromRow)]
struct ManifestRow {
    id: i64,
    digest: Vec<u8>,
    size: i64,
    subject_digest: Option<Vec<u8>>,
}

#[derive(sqlx::FromRow)]
struct BlobRow {
    manifest_id: i64,
    blob_id: i64,
    digest: Vec<u8>,
    size: i64,
    holders: i64,
}

fn node(row: &ManifestRow) -> Result<ManifestNode> {
    let subject = row.subject_digest.as_deref().map(digest).transpose()?;
    Ok(ManifestNode { id: row.id, digest: digest(&row.digest)?, size: size(row.size)?, subject })
}

fn edge(row: &BlobRow) -> Result<BlobEdge> {
    Ok(BlobEdge {
        manifest: row.manifest_id,
        blob: row.blob_id,
        digest: digest(&row.digest)?,
        size: size(row.size)?,
        holders: size(row.holders)?,
    })
}

fn tag(text: &str) -> Result<Tag> {
    text.parse().map_err(|_| Error::Damaged { table: "tags", reason: format!("name {text:?}") })
}

impl Store {
    pub(crate) async fn repository_sizes(&self, after: &str, limit: u32) -> Result<Vec<RepositorySize>> {
        let told: Result<Vec<SizeRow>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(SIZES).bind(after).bind(i64::from(limit)).fetch_all(connection).await?)
        });
        let row = |row: SizeRow| {
            Ok(RepositorySize {
                repository: name(&row.name)?,
                manifests: size(row.manifests)?,
                manifest_bytes: size(row.manifest_bytes)?,
                blobs: size(row.blobs)?,
                blob_bytes: size(row.blob_bytes)?,
                unique_bytes: size(row.unique_bytes)?,
            })
        };
        told?.into_iter().map(row).collect()
    }

    pub(crate) async fn bytes_of_blobs(&self) -> Result<u64> {
        self.total(BLOB_SIZES).await
    }

    pub(crate) async fn contents_of(&self, repository: &RepositoryName) -> Result<Option<Contents>> {
        let id: Result<Option<i64>> = read!(self.connections, connection => find(connection, repository).await);
        let Some(id) = id? else { return Ok(None) };
        let mut contents = Contents::default();
        let mut after = 0;
        loop {
            let page = self.manifests_after(id, after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let list = id_list(page.iter().map(|manifest| (manifest.id, 0)));
            contents.manifests.extend(page);
            self.add_edges(&list, &mut contents).await?;
        }
        self.add_tags(id, &mut contents).await?;
        Ok(Some(contents))
    }

    async fn manifests_after(&self, repository_id: i64, after: i64) -> Result<Vec<ManifestNode>> {
        let told: Result<Vec<ManifestRow>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(MANIFESTS).bind(repository_id).bind(after).bind(PAGE).fetch_all(connection).await?)
        });
        told?.iter().map(node).collect()
    }

    async fn add_edges(&self, manifests: &str, contents: &mut Contents) -> Result<()> {
        let children: Result<Vec<(i64, i64)>> = read!(self.connections, connection => {
            Ok(sqlx::query_as(CHILDREN).bind(manifests).fetch_all(connection).await?)
        });
        contents.children.extend(children?);
        let blobs: Result<Vec<BlobRow>> = read!(self.connections, connection => Ok(sqlx::query_as(BLOBS).bind(manifests).fetch_all(connection).await?));
        for row in &blobs? {
            contents.blobs.push(edge(row)?);
        }
        Ok(())
    }

    async fn add_tags(&self, repository_id: i64, contents: &mut Contents) -> Result<()> {
        let mut after = String::new();
        loop {
            let told: Result<Vec<(String, i64)>> = read!(self.connections, connection => {
                let page = sqlx::query_as(TAGS).bind(repository_id).bind(&after).bind(PAGE);
                Ok(page.fetch_all(connection).await?)
            });
            let page = told?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = last.clone();
            for (name, manifest) in page {
                contents.tags.push((tag(&name)?, manifest));
            }
        }
    }
}
