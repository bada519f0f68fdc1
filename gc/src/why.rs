//! Why one thing stays, or that it goes: what a preview would say of it, and of what it keeps too.

use crate::retention::Survey;
use crate::{Error, Pace, Rules, TagVerdict, Verdict, verdict};
use longshore_metadata::{GrantFacts, Metadata};
use longshore_oci::{Digest, RepositoryName, Tag};
use std::time::SystemTime;

/// Manifests that are read together.
const PAGE: u32 = 500;

/// What becomes of a repository's hold on a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhyBlob {
    /// In bytes.
    pub size: u64,
    /// Until when it is promised, or was.
    pub lease: SystemTime,
    /// What keeps it, or that it goes.
    pub verdict: Verdict,
}

/// Why a manifest stays, or that it goes; none where there is no such manifest.
///
/// # Errors
/// [`Error::Metadata`] where the database fails.
pub async fn why(
    metadata: &Metadata,
    rules: &Rules,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<Verdict>, Error> {
    let now = metadata.collection_state().await?.now;
    let facts = metadata.manifest_facts(repository, digest).await?;
    Ok(facts.map(|facts| verdict::of_manifest(Some(&facts), rules, now)))
}

/// Why a repository holds a blob, or that it lets go of it; none where it does not hold it.
///
/// # Errors
/// [`Error::Metadata`] where the database fails.
pub async fn why_blob(
    metadata: &Metadata,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<WhyBlob>, Error> {
    let found = metadata.grant_facts(repository, digest).await?;
    Ok(found.map(|(now, facts)| {
        let verdict = verdict::of_grant(Some(&facts), now);
        let GrantFacts { size, expires_at: lease, .. } = facts;
        WhyBlob { size, lease, verdict }
    }))
}

/// Tells each manifest of the repository that needs a blob, and what becomes of it.
///
/// # Errors
/// [`Error::Metadata`] where the database fails.
pub async fn users_of_blob(
    metadata: &Metadata,
    rules: &Rules,
    repository: &RepositoryName,
    digest: &Digest,
    mut told: impl FnMut(&Digest, &Verdict),
) -> Result<(), Error> {
    let now = metadata.collection_state().await?.now;
    let mut after = i64::MIN;
    loop {
        let users = metadata.users_of_blob(repository, digest, after, PAGE).await?;
        let Some(last) = users.last() else { return Ok(()) };
        after = last.number;
        for user in &users {
            // One that has gone since needs it no more.
            if let Some(facts) = metadata.manifest_facts(repository, &user.digest).await? {
                told(&user.digest, &verdict::of_manifest(Some(&facts), rules, now));
            }
        }
    }
}

/// What rules of retention say of a tag; none where there is no such tag.
///
/// # Errors
/// [`Error::Metadata`] where the database fails.
pub async fn why_tag<'rules>(
    metadata: &Metadata,
    rules: &'rules Rules,
    repository: &'rules RepositoryName,
    tag: &Tag,
) -> Result<Option<TagVerdict<'rules>>, Error> {
    let survey = Survey::read(metadata, &rules.retention, repository, Pace::new(100), None).await?;
    let found = metadata.tag_facts(repository, tag).await?;
    Ok(found.map(|(now, facts)| survey.verdict(&facts, now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;
    use crate::place::{Place, place};
    use longshore_oci::Algorithm;
    use std::time::Duration;

    fn digest(content: &str) -> Digest {
        Digest::of(Algorithm::Sha256, content.as_bytes())
    }

    impl Place {
        async fn why_blob(&self, repository: &str, content: &str) -> Option<WhyBlob> {
            why_blob(&self.metadata, &repository.parse().unwrap(), &digest(content)).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_blob_stays_by_its_lease_or_by_a_manifest_and_goes_without() {
        let place = place(Duration::ZERO).await;
        place.push_object("app", "layer").await;
        let leased = place.why_blob("app", "layer").await.unwrap();
        let verdict = Verdict::Until(leased.lease, Reason::Promised);
        assert_eq!(leased, WhyBlob { size: 5, lease: leased.lease, verdict });
        assert_eq!(place.why_blob("elsewhere", "layer").await, None);
        assert_eq!(place.why_blob("app", "nothing").await, None);

        let manifest = place.push_manifest("app", "manifest", &["layer"], &[]).await;
        let needed = place.why_blob("app", "layer").await.unwrap();
        assert_eq!(needed.verdict, Verdict::Kept(Reason::NeededBy(manifest)));

        place.promise_nothing().await;
        place.push_object("app", "loose").await;
        let ended = place.why_blob("app", "loose").await.unwrap().lease;
        while place.metadata.collection_state().await.unwrap().now <= ended {}
        assert_eq!(place.why_blob("app", "loose").await.unwrap().verdict, Verdict::Goes);
    }

    #[tokio::test]
    async fn each_manifest_that_needs_a_blob_is_told_with_what_keeps_it() {
        let place = place(Duration::ZERO).await;
        for layer in ["layer", "another"] {
            place.push_object("app", layer).await;
        }
        let tagged = place.push_manifest("app", "tagged", &["layer"], &["latest"]).await;
        let untagged = place.push_manifest("app", "untagged", &["layer"], &[]).await;
        place.push_manifest("app", "without it", &["another"], &["other"]).await;
        let mut told = Vec::new();
        let app = "app".parse().unwrap();
        let tell = |digest: &Digest, verdict: &Verdict| told.push((*digest, verdict.clone()));
        users_of_blob(&place.metadata, &place.rules, &app, &digest("layer"), tell).await.unwrap();
        assert_eq!(told.len(), 2);
        assert_eq!(told[0], (tagged, Verdict::Kept(Reason::Tag("latest".parse().unwrap()))));
        assert!(told[1].0 == untagged && matches!(told[1].1, Verdict::Until(_, Reason::Undo)), "{told:?}");
    }
}
