//! Lists in pages: tags of a repository, and the catalog.

use crate::{Error, Registry, Result};
use longshore_oci::{RepositoryName, Tag};

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In byte order.
    pub items: Vec<T>,
    /// Whether there are more after the last one.
    pub more: bool,
}

impl Registry {
    /// At most `limit` tags after `after`.
    pub async fn list_tags(&self, repository: &RepositoryName, after: &str, limit: u32) -> Result<Page<Tag>> {
        let limit = limit.min(self.rules.page_max);
        let tags = self.metadata.list_tags(repository, after, one_more(limit)).await?;
        let tags = tags.ok_or_else(|| Error::NameUnknown { repository: repository.clone() })?;
        Ok(page(tags, limit))
    }

    /// At most `limit` repositories after `after`, of those that `may_list` lets the caller see.
    pub async fn list_repositories(
        &self,
        after: &str,
        limit: u32,
        may_list: impl Fn(&RepositoryName) -> bool,
    ) -> Result<Page<RepositoryName>> {
        let limit = limit.min(self.rules.page_max);
        let mut visible = Vec::new();
        let mut after = after.to_owned();
        loop {
            let names = self.metadata.list_repositories(&after, one_more(limit)).await?;
            let exhausted = names.len() < one_more(limit) as usize;
            let Some(last) = names.last() else { break };
            after = last.to_string();
            visible.extend(names.into_iter().filter(|name| may_list(name)));
            if exhausted || visible.len() > limit as usize {
                break;
            }
        }
        Ok(page(visible, limit))
    }
}

/// One more than is shown tells whether there are more.
fn one_more(limit: u32) -> u32 {
    limit.saturating_add(1)
}

fn page<T>(mut items: Vec<T>, limit: u32) -> Page<T> {
    let more = limit > 0 && items.len() > limit as usize;
    items.truncate(limit as usize);
    Page { items, more }
}
