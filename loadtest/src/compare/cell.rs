//! Owns what is compared: which cases, on how many connections, by which subjects and in which order.

use anyhow::{Result, bail};

use crate::case::{self, Case};
use crate::subject::Kind;

/// How many clients download slowly at once, and how many upload.
pub(crate) const SLOW_DOWNLOADS: usize = 500;
pub(crate) const SLOW_UPLOADS: usize = 200;

/// The cases in the order in which they run, with their numbers of connections: those that are always taken, and those
/// that `--full` adds because they take long and tell little.
const CASES: [(&str, &[usize], &[usize]); 28] = [
    ("pull-1KiB", &[1, 16, 64], &[]),
    ("pull-1MiB", &[1, 16, 64], &[]),
    ("pull-64MiB", &[1, 16, 64], &[]),
    ("pull-1GiB", &[1, 16], &[64]),
    ("pull-cold-64MiB", &[1, 16], &[]),
    ("api-version", &[1, 16], &[]),
    ("blob-head", &[1, 16], &[]),
    ("manifest-get-tag", &[1, 16], &[]),
    ("manifest-get-digest", &[1, 16], &[]),
    ("manifest-head-tag", &[16], &[1]),
    ("manifest-head-digest", &[16], &[1]),
    ("push-10KiB", &[1, 16], &[]),
    ("push-64MiB-put", &[1, 8], &[]),
    ("push-64MiB-patch", &[1, 8], &[]),
    ("push-64MiB-chunks", &[1, 8], &[]),
    ("push-1GiB-put", &[1], &[8]),
    ("push-1GiB-patch", &[], &[1]),
    ("push-1GiB-chunks", &[], &[1]),
    ("manifest-put-tag", &[1, 16], &[]),
    ("manifest-put-digest", &[], &[1, 16]),
    ("tag-of-10000", &[1], &[16]),
    ("tags-first", &[1], &[16]),
    ("tags-middle", &[1], &[16]),
    ("catalog-first", &[1], &[16]),
    ("catalog-middle", &[1], &[16]),
    ("slow-downloads", &[SLOW_DOWNLOADS], &[]),
    ("slow-uploads", &[SLOW_UPLOADS], &[]),
    ("start-up", &[0], &[]),
];

/// One case on one number of connections.
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) connections: usize,
    pub(crate) work: Work,
}

/// What is done in a cell.
pub(crate) enum Work {
    /// A case of `longshore-loadtest run`.
    Case(Box<dyn Case>),
    /// Blobs that were pushed just before are pulled once each.
    ColdPull,
    /// Many clients that read slowly, from a fresh process.
    SlowDownloads,
    /// Many clients that send slowly, to a fresh process.
    SlowUploads,
    /// The time from a start to the first answer, and the memory then.
    StartUp,
}

/// The cells that were asked for. A name ending in `*` stands for all that begin so.
pub(crate) fn select(wanted: &[String], connections: &[u16], full: bool) -> Result<Vec<Cell>> {
    for name in wanted {
        if !CASES.iter().any(|(case, ..)| case::matches(name, case)) {
            let known: Vec<&str> = CASES.iter().map(|(case, ..)| *case).collect();
            bail!("there is no case {name:?} to compare: there are {}", known.join(", "));
        }
    }
    let mut cells = Vec::new();
    for (name, usual, further) in CASES {
        let by_name = wanted.iter().any(|wanted| case::matches(wanted, name));
        if !wanted.is_empty() && !by_name {
            continue;
        }
        // A case that was asked for by its whole name is wanted even if it is none of the usual.
        let all = full || (usual.is_empty() && wanted.iter().any(|wanted| wanted == name));
        let mut counts: Vec<usize> = usual.iter().chain(further.iter().filter(|_| all)).copied().collect();
        counts.sort_unstable();
        let has_own_count = matches!(name, "slow-downloads" | "slow-uploads" | "start-up");
        if !connections.is_empty() && !has_own_count && (by_name || !counts.is_empty()) {
            counts = connections.iter().copied().map(usize::from).collect();
        }
        for connections in counts {
            cells.push(Cell { name, connections, work: work_of(name)? });
        }
    }
    Ok(cells)
}

fn work_of(name: &'static str) -> Result<Work> {
    Ok(match name {
        "pull-cold-64MiB" => Work::ColdPull,
        "slow-downloads" => Work::SlowDownloads,
        "slow-uploads" => Work::SlowUploads,
        "start-up" => Work::StartUp,
        _ => match case::select_cases(&[name.to_owned()])?.pop() {
            Some(case) => Work::Case(case),
            None => bail!("there is no case {name:?}"),
        },
    })
}

impl Cell {
    /// Whether a server of this kind can be asked for it at all.
    pub(crate) fn suits(&self, kind: &Kind) -> bool {
        let pushes = ["push-", "manifest-put-", "slow-uploads"].iter().any(|start| self.name.starts_with(start));
        let lists = ["tags-", "catalog-"].iter().any(|start| self.name.starts_with(start));
        match kind {
            Kind::Registry => true,
            Kind::StaticFiles(_) => !pushes && !lists,
            Kind::Floor(_) => self.name.starts_with("push-64MiB-") || self.name.starts_with("push-1GiB-"),
        }
    }

    /// Whether it needs a process that can be ended and started again.
    pub(crate) fn needs_fresh_process(&self) -> bool {
        matches!(self.work, Work::SlowDownloads | Work::SlowUploads | Work::StartUp)
    }
}

/// The turns of one cell: every subject once, then every subject again. What drifts on the machine (its temperature,
/// its neighbours) then falls on all alike.
pub(crate) fn turns<S: Copy>(rounds: usize, subjects: &[S]) -> impl Iterator<Item = (usize, S)> {
    (0..rounds).flat_map(move |round| subjects.iter().map(move |subject| (round, *subject)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(cells: &[Cell]) -> Vec<String> {
        cells.iter().map(|cell| format!("{} {}", cell.name, cell.connections)).collect()
    }

    fn names(wanted: &[&str]) -> Vec<String> {
        wanted.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn subjects_take_turns() {
        let turns: Vec<_> = turns(2, &['A', 'B', 'C']).collect();
        assert_eq!(turns, [(0, 'A'), (0, 'B'), (0, 'C'), (1, 'A'), (1, 'B'), (1, 'C')]);
    }

    #[test]
    fn all_cases_can_be_made() {
        let usual = select(&[], &[], false).unwrap();
        let full = select(&[], &[], true).unwrap();
        assert!(usual.len() < full.len());
        let in_list = full.iter().filter(|cell| matches!(cell.work, Work::Case(_)));
        let mut names: Vec<&str> = in_list.map(|cell| cell.name).collect();
        names.dedup();
        assert_eq!(names.len(), case::all_cases().len(), "a case of `list` is not compared");
    }

    #[test]
    fn cells_are_selected_by_name_and_connections() {
        assert_eq!(shown(&select(&names(&["pull-1GiB"]), &[], false).unwrap()), ["pull-1GiB 1", "pull-1GiB 16"]);
        assert_eq!(shown(&select(&names(&["pull-1GiB"]), &[4], false).unwrap()), ["pull-1GiB 4"]);
        assert_eq!(shown(&select(&names(&["push-1GiB-patch"]), &[], false).unwrap()), ["push-1GiB-patch 1"]);
        assert_eq!(shown(&select(&names(&["push-1GiB-*"]), &[], false).unwrap()), ["push-1GiB-put 1"]);
        assert_eq!(
            shown(&select(&names(&["slow-*"]), &[4], false).unwrap()),
            ["slow-downloads 500", "slow-uploads 200"]
        );
        assert!(select(&names(&["pull"]), &[], false).is_err());
    }

    #[test]
    fn nobody_is_asked_for_what_it_cannot_do() {
        let floor = Kind::Floor(crate::floor_server::FloorMode::Store);
        let cells = select(&[], &[], false).unwrap();
        assert!(cells.iter().all(|cell| cell.suits(&Kind::Registry)));
        let by_floor: Vec<&Cell> = cells.iter().filter(|cell| cell.suits(&floor)).collect();
        assert!(!by_floor.is_empty() && by_floor.iter().all(|cell| cell.name.starts_with("push-")));
    }
}
