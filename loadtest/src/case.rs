//! Owns what a case is: a thing that clients do to a registry, prepared once and then repeated under a clock.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::client::Connection;
use crate::{listing, manifest, pull, push};

/// One line of `longshore-loadtest list`.
pub(crate) trait Case {
    /// What `--cases` calls it.
    fn name(&self) -> &str;
    /// What it does, in one line.
    fn summary(&self) -> &str;
    /// The size of the blobs that its operations leave behind, if they push blobs.
    fn pushed_blob_size(&self) -> Option<u64> {
        None
    }
    /// Brings the registry to the state that the case needs, and makes what will be sent. Not measured.
    fn prepare(&self, connection: &mut Connection<'_>, plan: &Plan) -> Result<Prepared>;
}

/// How much load is wanted: what a case needs to know to prepare enough of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Connections at once, each with one request under way.
    pub(crate) connections: usize,
    /// The longest time in which operations are begun.
    pub(crate) window: Duration,
    /// End after this many operations.
    pub(crate) operations: Option<u64>,
    /// The most bytes that one case may push within its window.
    pub(crate) push_budget_bytes: u64,
}

/// What preparing came to.
pub(crate) enum Prepared {
    Ready(Box<dyn Operation>),
    /// The case does not fit into the plan, and why.
    Skipped(String),
}

/// An operation that can be repeated on many connections at once.
pub(crate) trait Operation: Sync {
    /// How often it can be repeated, if something had to be prepared for each time.
    fn available(&self) -> Option<u64> {
        None
    }

    /// Does it once on one connection and verifies every byte. Not measured. Answers what the reader of the figures
    /// should know, if the registry behaves in a way that makes them incomparable.
    fn rehearse(&self, connection: &mut Connection<'_>) -> Result<Option<String>>;

    /// What one connection repeats.
    fn on_one_connection(&self) -> Repeated<'_>;

    /// Verifies what the operations `0..operations` left behind. Not measured.
    fn audit(&self, _connection: &mut Connection<'_>, _operations: u64) -> Result<()> {
        Ok(())
    }
}

/// Does the operation with the given number and answers how many bytes of content it moved. A number is used once.
pub(crate) type Repeated<'a> = Box<dyn FnMut(&mut Connection<'_>, u64) -> Result<u64> + Send + 'a>;

/// All cases, in the order in which they run.
pub(crate) fn all_cases() -> Vec<Box<dyn Case>> {
    let mut cases = pull::cases();
    cases.extend(push::cases());
    cases.extend(manifest::cases());
    cases.extend(listing::cases());
    cases
}

/// The cases that were asked for, in the order of the list. A name ending in `*` stands for all that begin so.
pub(crate) fn select_cases(wanted: &[String]) -> Result<Vec<Box<dyn Case>>> {
    let mut all = all_cases();
    if wanted.is_empty() {
        return Ok(all);
    }
    for name in wanted {
        if !all.iter().any(|case| matches(name, case.name())) {
            bail!("there is no case {name:?}: `longshore-loadtest list` shows those there are");
        }
    }
    all.retain(|case| wanted.iter().any(|name| matches(name, case.name())));
    Ok(all)
}

/// Whether a name that was asked for, perhaps ending in `*`, means this one.
pub(crate) fn matches(wanted: &str, name: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == name, |beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn selected(wanted: &[&str]) -> Vec<String> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        select_cases(&wanted).unwrap().iter().map(|case| case.name().to_owned()).collect()
    }

    #[test]
    fn names_are_unique_and_usable_on_a_command_line() {
        let mut seen = HashSet::new();
        for case in all_cases() {
            assert!(seen.insert(case.name().to_owned()), "{} is there twice", case.name());
            assert!(case.name().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{}", case.name());
            assert!(!case.summary().is_empty() && !case.summary().contains('\n'));
        }
    }

    #[test]
    fn cases_are_selected_by_name_or_beginning() {
        assert_eq!(selected(&["pull-1MiB", "pull-1KiB"]), ["pull-1KiB", "pull-1MiB"]);
        assert_eq!(selected(&["tags*"]), ["tags-first", "tags-middle"]);
        assert_eq!(selected(&[]).len(), all_cases().len());
        assert!(select_cases(&["pull".to_owned()]).is_err());
        assert!(select_cases(&["nothing*".to_owned()]).is_err());
    }
}
