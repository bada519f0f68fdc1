//! How many bytes a namespace may hold, and holds. A namespace is the first part of a repository's name: `team` of
//! `team/app/web`, `alpine` of `alpine`.

use crate::{Metadata, Result};
use longshore_oci::RepositoryName;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How many bytes namespaces may hold: manifests, and each blob once for each repository that holds it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Quotas(Arc<Limits>);

#[derive(Debug, Default)]
struct Limits {
    namespaces: BTreeMap<String, u64>,
    others: Option<u64>,
}

impl Quotas {
    /// Those of some namespaces by name, in bytes, and that of each other one, if there is any.
    pub fn new(namespaces: BTreeMap<String, u64>, others: Option<u64>) -> Self {
        Self(Arc::new(Limits { namespaces, others }))
    }

    /// How many bytes a namespace may hold; none where it may hold any.
    pub fn of(&self, namespace: &str) -> Option<u64> {
        self.0.namespaces.get(namespace).copied().or(self.0.others)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.namespaces.is_empty() && self.0.others.is_none()
    }
}

/// The namespace of a repository.
pub fn namespace(repository: &RepositoryName) -> &str {
    let name = repository.as_str();
    name.split_once('/').map_or(name, |(namespace, _)| namespace)
}

/// What a namespace holds, counted from all its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceUsage {
    /// The bytes that count for its quota: manifests, and each blob once for each repository that holds it.
    pub logical: u64,
    /// Those of its manifests, and of each blob once.
    pub stored: u64,
}

/// What a namespace is said to hold beside what it holds: the same, unless somebody else has changed the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComparedUsage {
    /// The bytes that count for its quota, as they were added up.
    pub told: i64,
    /// Those of all its manifests and blobs.
    pub counted: i64,
}

impl Metadata {
    /// The same, with quotas: whatever would let a namespace hold more is [`crate::Error::OverQuota`], and changes nothing.
    pub fn with_quotas(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }

    /// Adds up what has changed in namespaces since that was last done.
    pub async fn add_up_usage(&self) -> Result<()> {
        on_engine!(self.add_up_usage())
    }

    /// What a namespace holds, to the last change.
    pub async fn namespace_usage(&self, namespace: &str) -> Result<u64> {
        on_engine!(self.namespace_usage(namespace))
    }

    /// All namespaces that have a repository, whatever that holds.
    pub async fn list_namespaces(&self) -> Result<BTreeSet<String>> {
        on_engine!(self.list_namespaces())
    }

    /// Counts all that a namespace holds, whatever has been added up, and writes nothing.
    pub async fn measure_namespace(&self, namespace: &str) -> Result<NamespaceUsage> {
        on_engine!(self.measure_namespace(namespace))
    }

    /// Namespaces after this one that have been added up.
    pub async fn added_up_namespaces(&self, after: &str, limit: u32) -> Result<Vec<String>> {
        on_engine!(self.added_up_namespaces(after, limit))
    }

    /// Counts all that a namespace holds, and tells it beside what has been added up; none where nothing has.
    pub async fn compare_usage(&self, namespace: &str) -> Result<Option<ComparedUsage>> {
        on_engine!(self.compare_usage(namespace))
    }

    /// Lets a namespace be counted once more, when it is next asked for.
    pub async fn count_usage_anew(&self, namespace: &str) -> Result<()> {
        on_engine!(self.count_usage_anew(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_own_quota_or_that_of_all_others() {
        let quotas = Quotas::new(BTreeMap::from([("team".to_owned(), 7)]), Some(3));
        assert_eq!((quotas.of("team"), quotas.of("other")), (Some(7), Some(3)));
        assert_eq!(Quotas::default().of("team"), None);
        assert!(Quotas::default().is_empty());
    }

    #[test]
    fn a_namespace_is_the_first_part_of_a_name() {
        let of = |name: &str| namespace(&name.parse().unwrap()).to_owned();
        assert_eq!([of("alpine"), of("team/app"), of("team/app/web")], ["alpine", "team", "team"]);
    }
}
