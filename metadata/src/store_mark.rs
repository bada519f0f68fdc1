//! Which store of objects the database belongs to.

use crate::{Metadata, Result};

impl Metadata {
    /// Writes down the mark of the store that the database belongs to, if there is none yet. Answers the one that is
    /// there then: the first stays, whoever wrote it.
    pub async fn mark_store(&self, mark: &str) -> Result<String> {
        on_engine!(self.mark_store(mark))
    }

    /// The mark that is written down; none where there is none yet.
    pub async fn store_mark(&self) -> Result<Option<String>> {
        on_engine!(self.store_mark())
    }

    /// Whether nothing was ever stored: neither a repository, nor bytes, nor users.
    pub async fn is_empty(&self) -> Result<bool> {
        on_engine!(self.is_empty())
    }
}
