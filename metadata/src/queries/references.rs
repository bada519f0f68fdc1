//! What points at manifests: tags with their history, and referrers. Pages are range scans of an index.

use super::blobs::{digest, json_list, size, stored_size};
use super::dialect::{digests_in, lock_text, names_in, text_list};
use super::{Batch, Connection, Store, Transaction, read, repositories};
use crate::cache::Change;
use crate::{Error, ReferrerRecord, ReferrersPage, Result};
use longshore_oci::{Digest, ImmutableTags, RepositoryName, Tag};

statements! {
    LIST_TAGS = "SELECT name FROM tags WHERE repository_id = $1 AND name > $2 ORDER BY name LIMIT $3";
    RECORD_MOVE = "INSERT INTO tag_history (repository_id, tag, digest, changed_at, changed_by) \
        SELECT m.repository_id, $2, m.digest, c.now, $3 FROM manifests m, clock c WHERE m.id = $1 \
        AND m.digest IS DISTINCT FROM (SELECT h.digest FROM tag_history h \
        WHERE h.repository_id = m.repository_id AND h.tag = $2 ORDER BY h.id DESC LIMIT 1)";
    SET_TAG = "INSERT INTO tags (repository_id, name, manifest_id, updated_at) \
        VALUES ($1, $2, $3, (SELECT now FROM clock)) ON CONFLICT (repository_id, name) \
        DO UPDATE SET manifest_id = excluded.manifest_id, updated_at = excluded.updated_at";
    RECORD_DELETED = "INSERT INTO tag_history (repository_id, tag, digest, changed_at, changed_by) \
        SELECT t.repository_id, t.name, NULL, c.now, $2 FROM tags t, clock c WHERE t.manifest_id = $1";
    DELETE_OF_MANIFEST = "DELETE FROM tags WHERE manifest_id = $1";
    DELETE_TAG = "DELETE FROM tags WHERE repository_id = $1 AND name = $2";
    RECORD_DELETE = "INSERT INTO tag_history (repository_id, tag, digest, changed_at, changed_by) \
        VALUES ($1, $2, NULL, (SELECT now FROM clock), $3)";
    TAGS_OF = "SELECT name FROM tags WHERE manifest_id = $1 ORDER BY name";
    // In one order for all, so that two of them cannot hold each other up.
    LOCK_NAMES = concat!("SELECT ", lock_text!("l.name"), " AS locked FROM (SELECT v.value AS name FROM ",
        text_list!("$1"), " v ORDER BY v.value) l");
    NAMES_ANOTHER = concat!("SELECT t.name, m.digest FROM ", names_in!("$2", "$1"), " v CROSS JOIN tags t \
        CROSS JOIN manifests m WHERE t.repository_id = v.repository_id AND t.name = v.name \
        AND m.id = t.manifest_id AND m.digest <> $3 ORDER BY t.name LIMIT 1");
    LIST_REFERRERS = "SELECT p.digest, p.media_type, p.size, p.artifact_type, p.annotations FROM ( \
        SELECT m.digest, m.media_type, m.size, COALESCE(m.artifact_type, m.config_media_type) AS artifact_type, \
        m.annotations, COALESCE(octet_length(m.annotations), 0) + 512 AS own, \
        SUM(COALESCE(octet_length(m.annotations), 0) + 512) OVER (ORDER BY m.digest) AS total \
        FROM repositories r JOIN manifests m ON m.repository_id = r.id \
        WHERE r.name = $1 AND m.subject_digest = $2 AND m.digest > $3 \
        AND ($4 = '' OR COALESCE(m.artifact_type, m.config_media_type) = $4) ORDER BY m.digest LIMIT $5 \
        ) p WHERE p.total <= $6 OR p.total = p.own ORDER BY p.digest";
    BESIDE_SUBJECT = concat!("SELECT m.digest FROM ", digests_in!("$2", "$1"), " d CROSS JOIN manifests m \
        WHERE m.repository_id = d.repository_id AND m.digest = d.digest AND m.subject_digest IS DISTINCT FROM $3");
}

/// Lets the tag name the manifest, and records it if that is news: in this order, so that the history has the order in
/// which writers had the tag's row.
pub(super) fn set_tag(batch: &mut Batch, repository_id: i64, tag: &Tag, manifest_id: i64, by: Option<&str>) {
    batch.add(SET_TAG).bind(repository_id).bind(tag.as_str()).bind(manifest_id);
    batch.add(RECORD_MOVE).bind(manifest_id).bind(tag.as_str()).bind(by);
}

/// One of these tags that names another manifest than this. None of them comes to name anything else until the
/// transaction ends, not even one that names nothing yet: whoever else may not move it waits here.
pub(super) async fn hold_immutable(
    connection: &mut Connection,
    repository: &RepositoryName,
    tags: &[&Tag],
    named: &Digest,
) -> Result<Option<(Tag, Digest)>> {
    if tags.is_empty() {
        return Ok(None);
    }
    let locks = tags.iter().map(|tag| format!("{repository} {tag}"));
    let locks = serde_json::Value::from_iter(locks).to_string();
    sqlx::query(LOCK_NAMES).bind(locks).execute(&mut *connection).await?;
    let names = serde_json::Value::from_iter(tags.iter().map(|tag| tag.as_str())).to_string();
    let other: Option<(String, Vec<u8>)> = sqlx::query_as(NAMES_ANOTHER)
        .bind(repository.as_str())
        .bind(names)
        .bind(named.to_bytes())
        .fetch_optional(connection)
        .await?;
    other.map(|(name, bytes)| Ok((tag(&name)?, digest(&bytes)?))).transpose()
}

/// A tag that names the manifest and may not move.
pub(super) async fn immutable_tag_of(
    connection: &mut Connection,
    manifest_id: i64,
    repository: &RepositoryName,
    immutable: &ImmutableTags,
) -> Result<Option<Tag>> {
    if !immutable.concern(repository) {
        return Ok(None);
    }
    let names: Vec<(String,)> = sqlx::query_as(TAGS_OF).bind(manifest_id).fetch_all(connection).await?;
    for (name,) in names {
        let tag = tag(&name)?;
        if immutable.rule_for(repository, &tag).is_some() {
            return Ok(Some(tag));
        }
    }
    Ok(None)
}

/// Deletes every tag that names the manifest.
pub(super) fn delete_tags_of(batch: &mut Batch, manifest_id: i64, by: Option<&str>) {
    batch.add(RECORD_DELETED).bind(manifest_id).bind(by);
    batch.add(DELETE_OF_MANIFEST).bind(manifest_id);
}

struct DeleteTag {
    repository: RepositoryName,
    tag: Tag,
    by: Option<String>,
}

impl Transaction for DeleteTag {
    type Output = bool;

    fn changes(&self) -> Vec<Change> {
        vec![Change::Tag(self.repository.clone(), self.tag.clone())]
    }

    async fn run(&self, connection: &mut Connection) -> Result<bool> {
        let Some(repository_id) = repositories::find(connection, &self.repository).await? else {
            return Ok(false);
        };
        let deleted =
            sqlx::query(DELETE_TAG).bind(repository_id).bind(self.tag.as_str()).execute(&mut *connection).await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(RECORD_DELETE)
            .bind(repository_id)
            .bind(self.tag.as_str())
            .bind(&self.by)
            .execute(connection)
            .await?;
        Ok(true)
    }
}

type ReferrerRow = (Vec<u8>, String, i64, Option<String>, Option<String>);

fn referrer(row: ReferrerRow) -> Result<ReferrerRecord> {
    let (stored_digest, media_type, stored_size, artifact_type, annotations) = row;
    Ok(ReferrerRecord {
        digest: digest(&stored_digest)?,
        media_type,
        size: size(stored_size)?,
        artifact_type,
        annotations,
    })
}

/// A tag as the database gave it back.
pub(super) fn tag(text: &str) -> Result<Tag> {
    text.parse().map_err(|error| Error::Damaged { table: "tags", reason: format!("name {text:?}: {error}") })
}

impl Store {
    pub(crate) async fn list_tags(
        &self,
        repository: &RepositoryName,
        after: &str,
        limit: u32,
    ) -> Result<Option<Vec<Tag>>> {
        read!(self.connections, connection => {
            let Some(repository_id) = repositories::find(connection, repository).await? else {
                return Ok(None);
            };
            let list = sqlx::query_as(LIST_TAGS).bind(repository_id).bind(after).bind(i64::from(limit));
            let rows: Vec<(String,)> = list.fetch_all(connection).await?;
            rows.iter().map(|(text,)| tag(text)).collect::<Result<_>>().map(Some)
        })
    }

    pub(crate) async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag, by: Option<&str>) -> Result<bool> {
        self.write(DeleteTag { repository: repository.clone(), tag: tag.clone(), by: by.map(str::to_owned) }).await
    }

    pub(crate) async fn list_referrers(&self, page: ReferrersPage<'_>) -> Result<Vec<ReferrerRecord>> {
        read!(self.connections, connection => {
            let rows: Vec<ReferrerRow> = sqlx::query_as(LIST_REFERRERS)
                .bind(page.repository.as_str())
                .bind(page.subject.to_bytes())
                .bind(page.after.map(Digest::to_bytes).unwrap_or_default())
                .bind(page.artifact_type.unwrap_or_default())
                .bind(i64::from(page.limit))
                .bind(stored_size(page.max_bytes))
                .fetch_all(connection)
                .await?;
            rows.into_iter().map(referrer).collect()
        })
    }

    pub(crate) async fn manifests_beside_subject(
        &self,
        repository: &RepositoryName,
        manifests: &[Digest],
        subject: &Digest,
    ) -> Result<Vec<Digest>> {
        read!(self.connections, connection => {
            let beside = sqlx::query_as(BESIDE_SUBJECT).bind(repository.as_str()).bind(json_list(manifests));
            let rows: Vec<(Vec<u8>,)> = beside.bind(subject.to_bytes()).fetch_all(connection).await?;
            rows.iter().map(|(bytes,)| digest(bytes)).collect()
        })
    }
}
