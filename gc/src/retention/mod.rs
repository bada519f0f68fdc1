//! Rules that say which tags stay, and the step that deletes the others.
//!
//! What a rule says of a tag depends on the tag's facts, on the other tags of its repository, and on the time
//! ([`Survey`]); nothing is decided by what was decided before. The step goes through the repositories that rules are for,
//! a page of tags at a time, and deletes what is still as it was found.

mod expiry;
mod rules;
mod step;
mod survey;
#[cfg(test)]
mod tests;

pub use rules::{Keep, Retention, RetentionRule};
pub(crate) use step::look_through;
pub use survey::{KeptBy, TagVerdict};
pub(crate) use survey::{PAGE, Survey};

use longshore_metadata::Deleted;

/// What retention rules have done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// Repositories that were looked through.
    pub repositories: u64,
    /// Tags that were deleted.
    pub tags: u64,
    /// Tags that rules which only report would have deleted.
    pub reported: u64,
    /// Old generations of build caches that were deleted.
    pub build_caches: Deleted,
}

impl std::ops::AddAssign for Retained {
    fn add_assign(&mut self, more: Self) {
        self.repositories += more.repositories;
        self.tags += more.tags;
        self.reported += more.reported;
        self.build_caches += more.build_caches;
    }
}
