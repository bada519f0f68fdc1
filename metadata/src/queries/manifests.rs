//! Manifests: stored with everything that follows from them in one transaction, so that a manifest without its blobs,
//! or a tag without its manifest, cannot be seen even for a moment.

use super::blobs::{digest, json_list, stored_size};
use super::dialect::{digest_list, digests_in, for_key_share, for_update};
use super::usage::Place;
use super::{Batch, Connection, Store, Transaction, history, read, references, repositories};
use crate::cache::Change;
use crate::{
    DeleteManifest, DeleteOutcome, Error, GuardedDelete, ManifestRecord, PutManifest, PutManifestOutcome, Quotas,
    Result,
};
use longshore_oci::{Digest, RepositoryName, Tag};
use std::collections::HashSet;

// `CROSS JOIN` has SQLite go through tables in the order in which they are written, here and elsewhere: it begins with the list.
statements! {
    BY_DIGEST = "SELECT m.digest, m.media_type, m.body FROM repositories r \
        JOIN manifests m ON m.repository_id = r.id WHERE r.name = $1 AND m.digest = $2 \
        AND NOT EXISTS (SELECT 1 FROM damaged_manifests d WHERE d.manifest_id = m.id)";
    BY_TAG = "SELECT m.digest, m.media_type, m.body FROM repositories r \
        JOIN tags t ON t.repository_id = r.id JOIN manifests m ON m.id = t.manifest_id \
        WHERE r.name = $1 AND t.name = $2 \
        AND NOT EXISTS (SELECT 1 FROM damaged_manifests d WHERE d.manifest_id = m.id)";
    GRANTED = concat!("SELECT b.digest, (SELECT x.found_at FROM damaged_blobs x WHERE x.blob_id = b.id) AS damaged_at \
        FROM ", digests_in!("$2", "$1"), " d CROSS JOIN blobs b CROSS JOIN repository_blobs g \
        WHERE b.digest = d.digest AND g.blob_id = b.id AND g.repository_id = d.repository_id ORDER BY b.id", for_key_share!("g"));
    PRESENT = concat!("SELECT m.digest, (SELECT x.found_at FROM damaged_manifests x WHERE x.manifest_id = m.id) AS damaged_at \
        FROM ", digests_in!("$2", "$1"), " d CROSS JOIN manifests m WHERE m.digest = d.digest \
        AND m.repository_id = d.repository_id ORDER BY m.id", for_key_share!("m"));
    // Its bytes are others only where the database has been damaged.
    UPSERT = "INSERT INTO manifests (repository_id, digest, media_type, artifact_type, config_media_type, \
        subject_digest, annotations, body, size, pushed_at, pushed_by, untagged_since) \
        SELECT r.id, $2, $3, $4, $5, $6, $7, $8, $9, c.now, $10, c.now FROM repositories r, clock c WHERE r.name = $1 \
        ON CONFLICT (repository_id, digest) DO UPDATE SET media_type = excluded.media_type, \
        pushed_at = excluded.pushed_at, pushed_by = excluded.pushed_by, \
        body = CASE WHEN manifests.body = excluded.body THEN manifests.body ELSE excluded.body END, \
        untagged_since = CASE WHEN manifests.untagged_since IS NULL THEN NULL ELSE excluded.untagged_since END \
        RETURNING id, repository_id";
    INSERT_BLOBS = concat!("INSERT INTO manifest_blobs (repository_id, manifest_id, blob_id) \
        SELECT m.repository_id, m.id, b.id FROM manifests m, ", digest_list!("$2"), " d \
        JOIN blobs b ON b.digest = d.digest WHERE m.id = $1 ORDER BY b.id ON CONFLICT DO NOTHING");
    INSERT_ABSENT = concat!("INSERT INTO manifest_absent_blobs (repository_id, manifest_id, digest) \
        SELECT m.repository_id, m.id, d.digest FROM manifests m, ", digest_list!("$2"), " d \
        WHERE m.id = $1 ON CONFLICT DO NOTHING");
    INSERT_CHILDREN = concat!("INSERT INTO manifest_children (repository_id, parent_id, child_digest, child_id) \
        SELECT p.repository_id, p.id, d.digest, c.id FROM ", digest_list!("$2"), " d \
        JOIN manifests p ON p.id = $1 \
        LEFT JOIN manifests c ON c.repository_id = p.repository_id AND c.digest = d.digest \
        WHERE true ORDER BY c.id ON CONFLICT DO NOTHING");
    LOCK = concat!("SELECT m.id, m.repository_id FROM manifests m \
        WHERE m.repository_id = (SELECT id FROM repositories WHERE name = $1) AND m.digest = $2", for_update!());
    PARENT_OF = "SELECT p.digest FROM manifest_children c JOIN manifests p ON p.id = c.parent_id \
        WHERE c.repository_id = $1 AND c.child_id = $2 ORDER BY p.id LIMIT 1";
    DELETE = "DELETE FROM manifests WHERE id = $1";
}

type ManifestRow = (Vec<u8>, String, Vec<u8>);

fn manifest(row: ManifestRow) -> Result<ManifestRecord> {
    let (stored_digest, media_type, body) = row;
    Ok(ManifestRecord { digest: digest(&stored_digest)?, media_type: media_type.into(), body: body.into() })
}

/// What a manifest names, sorted by what the repository holds.
struct Links {
    /// Blobs that are here: config, layers, and entries of an index that are blobs.
    blobs: Vec<Digest>,
    /// Entries of an index that are manifests here, or are nothing here yet.
    children: Vec<Digest>,
    /// Blobs, or entries, that are not here.
    absent: Vec<Digest>,
    /// Those of the absent ones that have to be here.
    missing: Vec<Digest>,
    /// Blobs and manifests that are here, and cannot be read.
    damaged: Vec<Digest>,
}

impl Links {
    /// Which of them are here, whether they can be read or not.
    fn note_damaged(&mut self, rows: Vec<(Digest, bool)>) -> HashSet<Digest> {
        self.damaged.extend(rows.iter().filter_map(|(digest, is_damaged)| is_damaged.then_some(*digest)));
        rows.into_iter().map(|(digest, _)| digest).collect()
    }
}

/// Looks up what the manifest names, and keeps what is there from going until the transaction ends.
async fn find_links(connection: &mut Connection, manifest: &PutManifest) -> Result<Links> {
    let named = || manifest.blobs.iter().map(|blob| &blob.digest).chain(&manifest.children);
    let mut links = Links { blobs: vec![], children: vec![], absent: vec![], missing: vec![], damaged: vec![] };
    let mut granted = HashSet::new();
    let mut present = HashSet::new();
    if named().next().is_some() {
        let rows = select_here(connection, GRANTED, &manifest.repository, json_list(named())).await?;
        granted = links.note_damaged(rows);
    }
    if !manifest.children.is_empty() {
        let rows = select_here(connection, PRESENT, &manifest.repository, json_list(&manifest.children)).await?;
        present = links.note_damaged(rows);
    }
    for blob in &manifest.blobs {
        if granted.contains(&blob.digest) {
            links.blobs.push(blob.digest);
        } else {
            links.absent.push(blob.digest);
            links.missing.extend(blob.required.then_some(blob.digest));
        }
    }
    for child in &manifest.children {
        if present.contains(child) {
            links.children.push(*child);
        } else if granted.contains(child) {
            links.blobs.push(*child);
        } else {
            links.children.push(*child);
            links.absent.push(*child);
            links.missing.push(*child);
        }
    }
    Ok(links)
}

/// The manifest's row, and its repository's; none where the repository is new.
async fn upsert(connection: &mut Connection, manifest: &PutManifest) -> Result<Option<(i64, i64)>> {
    let ids = sqlx::query_as(UPSERT)
        .bind(manifest.repository.as_str())
        .bind(manifest.digest.to_bytes())
        .bind(&manifest.media_type)
        .bind(&manifest.artifact_type)
        .bind(&manifest.config_media_type)
        .bind(manifest.subject.as_ref().map(Digest::to_bytes))
        .bind(&manifest.annotations)
        .bind(&manifest.body)
        .bind(stored_size(manifest.body.len() as u64))
        .bind(&manifest.pushed_by)
        .fetch_optional(connection)
        .await?;
    Ok(ids)
}

/// As [`upsert`]; the repository comes to be with its first manifest.
async fn upsert_with_repository(connection: &mut Connection, manifest: &PutManifest) -> Result<(i64, i64)> {
    if let Some(ids) = upsert(connection, manifest).await? {
        return Ok(ids);
    }
    repositories::find_or_insert(connection, &manifest.repository).await?;
    let ids = upsert(connection, manifest).await?;
    ids.ok_or_else(|| Error::Damaged { table: "repositories", reason: "a new row is not there".into() })
}

impl Transaction for PutManifest {
    type Output = PutManifestOutcome;

    fn changes(&self) -> Vec<Change> {
        let tags = self.tags.iter().map(|tag| Change::Tag(self.repository.clone(), tag.clone()));
        tags.chain([Change::Manifest(self.repository.clone(), self.digest)]).collect()
    }

    async fn run(&self, connection: &mut Connection) -> Result<PutManifestOutcome> {
        let is_immutable = |tag: &&Tag| self.immutable.rule_for(&self.repository, tag).is_some();
        let immutable: Vec<&Tag> = self.tags.iter().filter(is_immutable).collect();
        let another = references::hold_immutable(connection, &self.repository, &immutable, &self.digest).await?;
        if let Some((tag, digest)) = another {
            return Ok(PutManifestOutcome::Immutable { tag, digest });
        }
        let mut links = find_links(connection, self).await?;
        if !links.damaged.is_empty() {
            return Ok(PutManifestOutcome::Absent { digests: links.damaged });
        }
        if !links.missing.is_empty() && !self.allow_absent {
            return Ok(PutManifestOutcome::Absent { digests: links.missing });
        }
        if !links.absent.is_empty() {
            // What is absent may be arriving right now, in a transaction that does not see this manifest: nobody would
            // link the two. With the repository locked it is either here when we look again, or comes after us.
            let repository_id = repositories::find_or_insert(connection, &self.repository).await?;
            repositories::lock(connection, repository_id).await?;
            links = find_links(connection, self).await?;
        }
        let (id, repository_id) = upsert_with_repository(connection, self).await?;
        let mut batch = Batch::default();
        insert_links(&mut batch, INSERT_BLOBS, id, &links.blobs);
        insert_links(&mut batch, INSERT_ABSENT, id, &links.absent);
        insert_links(&mut batch, INSERT_CHILDREN, id, &links.children);
        let by = self.pushed_by.as_deref();
        let mut tags: Vec<&Tag> = self.tags.iter().collect();
        tags.sort_unstable(); // one order for all writers, so that two of them cannot hold each other up
        for tag in tags {
            references::set_tag(&mut batch, repository_id, tag, id, by);
        }
        batch.execute(connection).await?;
        Ok(PutManifestOutcome::Stored)
    }
}

/// Which of the blobs, or of the manifests, the repository has, and whether what it has is damaged.
async fn select_here(
    connection: &mut Connection,
    statement: &'static str,
    repository: &RepositoryName,
    list: String,
) -> Result<Vec<(Digest, bool)>> {
    let rows: Vec<(Vec<u8>, Option<i64>)> =
        sqlx::query_as(statement).bind(repository.as_str()).bind(list).fetch_all(connection).await?;
    rows.iter().map(|(bytes, damaged_at)| Ok((digest(bytes)?, damaged_at.is_some()))).collect()
}

fn insert_links(batch: &mut Batch, statement: &'static str, manifest_id: i64, digests: &[Digest]) {
    if !digests.is_empty() {
        batch.add(statement).bind(manifest_id).bind(json_list(digests));
    }
}

impl Transaction for DeleteManifest {
    type Output = GuardedDelete;

    /// Its tags go with it, whichever those are.
    fn changes(&self) -> Vec<Change> {
        vec![Change::Manifest(self.repository.clone(), self.digest)]
    }

    async fn run(&self, connection: &mut Connection) -> Result<GuardedDelete> {
        let row: Option<(i64, i64)> = sqlx::query_as(LOCK)
            .bind(self.repository.as_str())
            .bind(self.digest.to_bytes())
            .fetch_optional(&mut *connection)
            .await?;
        let Some((id, repository_id)) = row else {
            return Ok(GuardedDelete::Ended(DeleteOutcome::Unknown));
        };
        let parent: Option<(Vec<u8>,)> =
            sqlx::query_as(PARENT_OF).bind(repository_id).bind(id).fetch_optional(&mut *connection).await?;
        if let Some((by,)) = parent {
            return Ok(GuardedDelete::Ended(DeleteOutcome::InUse { by: digest(&by)? }));
        }
        // With the manifest locked, no tag comes to name it.
        let immutable = references::immutable_tag_of(connection, id, &self.repository, &self.immutable).await?;
        if let Some(tag) = immutable {
            return Ok(GuardedDelete::Immutable { tag });
        }
        let mut batch = Batch::default();
        references::delete_tags_of(&mut batch, id, self.by.as_deref());
        history::keep_deleted(&mut batch, id, self.by.as_deref());
        batch.add(DELETE).bind(id);
        batch.execute(connection).await?;
        Ok(GuardedDelete::Ended(DeleteOutcome::Deleted))
    }
}

impl Store {
    pub(crate) async fn put_manifest(&self, manifest: PutManifest, quotas: &Quotas) -> Result<PutManifestOutcome> {
        self.write_within(manifest, |manifest| Place::Repository(manifest.repository.clone()), quotas).await
    }

    pub(crate) async fn find_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestRecord>> {
        read!(self.connections, connection => {
            let by_digest = sqlx::query_as(BY_DIGEST).bind(repository.as_str()).bind(digest.to_bytes());
            by_digest.fetch_optional(connection).await?.map(manifest).transpose()
        })
    }

    pub(crate) async fn find_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<ManifestRecord>> {
        read!(self.connections, connection => {
            let by_tag = sqlx::query_as(BY_TAG).bind(repository.as_str()).bind(tag.as_str());
            by_tag.fetch_optional(connection).await?.map(manifest).transpose()
        })
    }

    pub(crate) async fn delete_manifest(&self, delete: DeleteManifest) -> Result<GuardedDelete> {
        self.write(delete).await
    }
}
