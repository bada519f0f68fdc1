//! Which store of objects the database belongs to.

use crate::{Metadata, Result};

impl Metadata {
    /// Writes down the mark of the store that the database belongs to, if there is none yet. Answers the one that is
    /// there then: the first stays, whoever wrote it.
    pub async fn mark_store(&self, mark: &str) -> Result<String> {
        on_engine!(self.mark_store(mark))
    }
}
