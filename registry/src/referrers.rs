//! What refers to a manifest: signatures, attestations, SBOMs.

use crate::{Registry, Result};
use longshore_metadata::{ReferrerRecord, ReferrersPage};
use longshore_oci::{Descriptor, Digest, MediaType, RepositoryName, descriptors_of_index};
use std::collections::HashSet;

/// A page of referrers.
#[derive(Debug, Clone)]
pub struct Referrers {
    /// In the order of their digests; those of a fallback tag come last.
    pub descriptors: Vec<Descriptor>,
    /// If there are more: the digest to go on after.
    pub next: Option<Digest>,
}

/// Bounds a page, with the one referrer that may stand beside others, below the 4 MiB that a manifest may have.
const PAGE_BYTES: u64 = 3 * 1024 * 1024;

impl Registry {
    /// Lists what refers to `subject`, which need not be here.
    pub async fn list_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Digest>,
    ) -> Result<Referrers> {
        let page = ReferrersPage {
            repository,
            subject,
            artifact_type,
            after,
            limit: self.rules.page_max,
            max_bytes: PAGE_BYTES,
        };
        let records = self.metadata.list_referrers(page).await?;
        let mut descriptors = records.into_iter().map(descriptor).collect::<Result<Vec<_>>>()?;
        let last = descriptors.last().map(|descriptor| descriptor.digest);
        let next = match &last {
            Some(last) => self.any_referrer_after(ReferrersPage { after: Some(last), ..page }).await?,
            None => None,
        };
        if next.is_some() {
            return Ok(Referrers { descriptors, next });
        }
        let fallback = self.fallback_referrers(repository, subject, artifact_type).await?;
        let both = || json_length(&descriptors) + json_length(&fallback);
        if last.is_some() && !fallback.is_empty() && both() > PAGE_BYTES {
            // They get a page of their own: that after the last referrer, which holds nothing else.
            return Ok(Referrers { descriptors, next: last });
        }
        descriptors.extend(fallback);
        Ok(Referrers { descriptors, next: None })
    }

    /// The place to go on from, if anything comes after it.
    async fn any_referrer_after(&self, page: ReferrersPage<'_>) -> Result<Option<Digest>> {
        let more = self.metadata.list_referrers(ReferrersPage { limit: 1, ..page }).await?;
        Ok(page.after.copied().filter(|_| !more.is_empty()))
    }

    /// What clients of a registry without this list have written down under the subject's fallback tag: it has to be
    /// listed once the registry has the list, as far as it is still here and not listed anyway.
    async fn fallback_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let Some(record) = self.metadata.find_tag(repository, &subject.fallback_tag()).await? else {
            return Ok(Vec::new());
        };
        let mut named = descriptors_of_index(&record.body);
        named.retain(|descriptor| {
            artifact_type.is_none_or(|wanted| descriptor.artifact_type.as_deref() == Some(wanted))
        });
        if named.is_empty() {
            return Ok(named);
        }
        let digests: Vec<Digest> = named.iter().map(|descriptor| descriptor.digest).collect();
        let here = self.metadata.manifests_beside_subject(repository, &digests, subject).await?;
        let mut here: HashSet<Digest> = here.into_iter().collect();
        named.retain(|descriptor| here.remove(&descriptor.digest));
        Ok(named)
    }
}

/// How long the descriptors are on a page, in bytes.
fn json_length(descriptors: &[Descriptor]) -> u64 {
    serde_json::json!(descriptors).to_string().len() as u64
}

fn descriptor(record: ReferrerRecord) -> Result<Descriptor> {
    let damaged = |reason: String| longshore_metadata::Error::Damaged { table: "manifests", reason };
    let media_type: MediaType = record.media_type.parse().map_err(|error| damaged(format!("media type: {error}")))?;
    let mut descriptor = Descriptor::new(media_type, record.digest, record.size);
    descriptor.artifact_type = record.artifact_type;
    if let Some(annotations) = record.annotations {
        descriptor.annotations =
            serde_json::from_str(&annotations).map_err(|error| damaged(format!("annotations: {error}")))?;
    }
    Ok(descriptor)
}
