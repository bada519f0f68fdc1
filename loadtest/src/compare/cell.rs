//! Owns what is compared: which cases, on how many connections, by which subjects and in which order.

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::case::{self, Case};
use crate::subject::Kind;

/// How many clients download slowly at once, and how many upload.
pub(crate) const SLOW_DOWNLOADS: usize = 500;
pub(crate) const SLOW_UPLOADS: usize = 200;

/// What the subjects under comparison keep blobs in: it decides which cases are worth their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StorageKind {
    /// Files of the server's own
    Files,
    /// One object store that all share
    S3,
}

/// A case and its numbers of connections.
struct Line {
    name: &'static str,
    /// Those that are always taken on files.
    usual: &'static [usize],
    /// Those that `--full` adds because they take long and tell little.
    further: &'static [usize],
    /// Those that are always taken on S3.
    on_s3: &'static [usize],
}

const fn line(name: &'static str, usual: &'static [usize], further: &'static [usize], on_s3: &'static [usize]) -> Line {
    Line { name, usual, further, on_s3 }
}

/// The cases in the order in which they run.
const CASES: [Line; 34] = [
    line("pull-1KiB", &[1, 16, 64], &[], &[1, 16]),
    line("pull-32KiB", &[], &[1, 16], &[1, 16]),
    line("pull-1MiB", &[1, 16, 64], &[], &[]),
    line("pull-64MiB", &[1, 16, 64], &[], &[1, 16]),
    line("pull-256MiB", &[], &[1, 16], &[1, 16]),
    line("pull-1GiB", &[1, 16], &[64], &[]),
    line("pull-cold-1MiB", &[], &[1], &[1]),
    line("pull-cold-64MiB", &[1, 16], &[], &[1]),
    line("api-version", &[1, 16], &[], &[]),
    line("blob-head", &[1, 16], &[], &[]),
    line("manifest-get-tag", &[1, 16], &[], &[1, 16]),
    line("manifest-get-digest", &[1, 16], &[], &[]),
    line("manifest-head-tag", &[16], &[1], &[]),
    line("manifest-head-digest", &[16], &[1], &[]),
    line("push-10KiB", &[1, 16], &[], &[1, 16]),
    line("push-32KiB", &[], &[1, 16], &[1, 16]),
    line("push-64MiB-put", &[1, 8], &[], &[]),
    line("push-64MiB-patch", &[1, 8], &[], &[]),
    line("push-64MiB-chunks", &[1, 8], &[], &[]),
    line("push-256MiB-put", &[], &[1, 4], &[1, 4]),
    line("push-256MiB-patch", &[], &[1, 4], &[1, 4]),
    line("push-1GiB-put", &[1], &[8], &[]),
    line("push-1GiB-patch", &[], &[1], &[]),
    line("push-1GiB-chunks", &[], &[1], &[]),
    line("manifest-put-tag", &[1, 16], &[], &[1, 16]),
    line("manifest-put-digest", &[], &[1, 16], &[]),
    line("tag-of-10000", &[1], &[16], &[]),
    line("tags-first", &[1], &[16], &[]),
    line("tags-middle", &[1], &[16], &[]),
    line("catalog-first", &[1], &[16], &[]),
    line("catalog-middle", &[1], &[16], &[]),
    line("slow-downloads", &[SLOW_DOWNLOADS], &[], &[]),
    line("slow-uploads", &[SLOW_UPLOADS], &[], &[]),
    line("start-up", &[0], &[], &[]),
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
    /// Blobs of this size that were pushed just before are pulled once each.
    ColdPull { size: u64 },
    /// Many clients that read slowly, from a fresh process.
    SlowDownloads,
    /// Many clients that send slowly, to a fresh process.
    SlowUploads,
    /// The time from a start to the first answer, and the memory then.
    StartUp,
}

/// The cells that were asked for. A name ending in `*` stands for all that begin so.
pub(crate) fn select(wanted: &[String], connections: &[u16], full: bool, storage: StorageKind) -> Result<Vec<Cell>> {
    for name in wanted {
        if !CASES.iter().any(|line| case::matches(name, line.name)) {
            let known: Vec<&str> = CASES.iter().map(|line| line.name).collect();
            bail!("there is no case {name:?} to compare: there are {}", known.join(", "));
        }
    }
    let mut cells = Vec::new();
    for line in CASES {
        let name = line.name;
        let by_name = wanted.iter().any(|wanted| case::matches(wanted, name));
        if !wanted.is_empty() && !by_name {
            continue;
        }
        for connections in counts_of(&line, wanted, by_name, connections, full, storage) {
            cells.push(Cell { name, connections, work: work_of(name)? });
        }
    }
    Ok(cells)
}

fn counts_of(
    line: &Line,
    wanted: &[String],
    by_name: bool,
    connections: &[u16],
    full: bool,
    storage: StorageKind,
) -> Vec<usize> {
    let usual = match storage {
        StorageKind::Files => line.usual,
        StorageKind::S3 => line.on_s3,
    };
    // A case that was asked for by its whole name is wanted even if it is none of the usual.
    let all = full || (usual.is_empty() && wanted.iter().any(|wanted| wanted == line.name));
    let mut counts: Vec<usize> = usual.to_vec();
    if all {
        counts.extend(line.usual.iter().chain(line.further));
    }
    counts.sort_unstable();
    counts.dedup();
    let has_own_count = matches!(line.name, "slow-downloads" | "slow-uploads" | "start-up");
    if !connections.is_empty() && !has_own_count && (by_name || !counts.is_empty()) {
        counts = connections.iter().copied().map(usize::from).collect();
    }
    counts
}

fn work_of(name: &'static str) -> Result<Work> {
    Ok(match name {
        "pull-cold-1MiB" => Work::ColdPull { size: 1 << 20 },
        "pull-cold-64MiB" => Work::ColdPull { size: 64 << 20 },
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
        let usual = select(&[], &[], false, StorageKind::Files).unwrap();
        let full = select(&[], &[], true, StorageKind::Files).unwrap();
        assert!(usual.len() < full.len());
        let in_list = full.iter().filter(|cell| matches!(cell.work, Work::Case(_)));
        let mut names: Vec<&str> = in_list.map(|cell| cell.name).collect();
        names.dedup();
        assert_eq!(names.len(), case::all_cases().len(), "a case of `list` is not compared");
    }

    #[test]
    fn cells_are_selected_by_name_and_connections() {
        assert_eq!(
            shown(&select(&names(&["pull-1GiB"]), &[], false, StorageKind::Files).unwrap()),
            ["pull-1GiB 1", "pull-1GiB 16"]
        );
        assert_eq!(shown(&select(&names(&["pull-1GiB"]), &[4], false, StorageKind::Files).unwrap()), ["pull-1GiB 4"]);
        assert_eq!(
            shown(&select(&names(&["push-1GiB-patch"]), &[], false, StorageKind::Files).unwrap()),
            ["push-1GiB-patch 1"]
        );
        assert_eq!(
            shown(&select(&names(&["push-1GiB-*"]), &[], false, StorageKind::Files).unwrap()),
            ["push-1GiB-put 1"]
        );
        assert_eq!(
            shown(&select(&names(&["slow-*"]), &[4], false, StorageKind::Files).unwrap()),
            ["slow-downloads 500", "slow-uploads 200"]
        );
        assert!(select(&names(&["pull"]), &[], false, StorageKind::Files).is_err());
    }

    #[test]
    fn an_object_store_has_cases_of_its_own() {
        let on_s3 = |wanted: &[&str]| shown(&select(&names(wanted), &[], false, StorageKind::S3).unwrap());
        let usual = on_s3(&[]);
        assert!(usual.contains(&"push-256MiB-put 4".to_owned()) && !usual.contains(&"push-64MiB-put 1".to_owned()));
        assert_eq!(on_s3(&["pull-64MiB"]), ["pull-64MiB 1", "pull-64MiB 16"]);
        assert_eq!(on_s3(&["push-64MiB-put"]), ["push-64MiB-put 1", "push-64MiB-put 8"]);
    }

    #[test]
    fn nobody_is_asked_for_what_it_cannot_do() {
        let floor = Kind::Floor(crate::floor_server::FloorMode::Store);
        let cells = select(&[], &[], false, StorageKind::Files).unwrap();
        assert!(cells.iter().all(|cell| cell.suits(&Kind::Registry)));
        let by_floor: Vec<&Cell> = cells.iter().filter(|cell| cell.suits(&floor)).collect();
        assert!(!by_floor.is_empty() && by_floor.iter().all(|cell| cell.name.starts_with("push-")));
    }
}
