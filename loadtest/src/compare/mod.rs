//! Owns `longshore-loadtest compare`: several servers on this machine, in turn, and one table of medians and ratios.

mod cell;
mod cold;
mod floor;
mod round;
mod slow;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::cell::StorageKind;
pub(crate) use self::floor::{FloorArguments, floor};
use self::round::{Comparison, Turn};
use self::table::Row;
use crate::figures::{FIGURES, Figures};
use crate::subject::{self, ObjectStore, Places, SUBJECTS, Started, Subject, WorkFolder};

/// What `compare` is told.
#[derive(Args)]
pub(crate) struct CompareArguments {
    /// What is compared, in this order [default: longshore-sqlite, longshore-postgres, nginx, docker-registry,
    /// distribution, floor; on S3 longshore-s3, distribution-s3, nginx]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    subjects: Vec<String>,
    /// Where blobs are kept: chooses the subjects and the cases
    #[arg(long, value_enum, default_value = "files", value_name = "KIND")]
    storage: StorageKind,
    /// A registry that runs already, on a loopback address; may be given many times
    #[arg(long, value_name = "NAME=URL,PID", value_parser = parse_foreign)]
    registry: Vec<ForeignRegistry>,
    #[command(flatten)]
    windows: WindowArguments,
    /// Cases by name, or by its beginning and a `*` [default: all but those that --full adds]
    #[arg(long, visible_alias = "only", value_delimiter = ',', value_name = "NAME")]
    cases: Vec<String>,
    /// Other numbers of connections than those that belong to the cases
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: Vec<u16>,
    /// Cases and numbers of connections that take long and tell little
    #[arg(long)]
    full: bool,
    /// How many blobs of 64 MiB are pulled cold in each turn
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    cold_blobs: u64,
    /// What the ratios are taken against, where it takes part [default: nginx, on S3 distribution-s3; else the best peer]
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
    #[command(flatten)]
    places: PlaceArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Where the figures go, beside the terminal.
#[derive(Args)]
pub(crate) struct OutputArguments {
    /// Write every single figure into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the table into this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

/// How long and how often.
#[derive(Args)]
pub(crate) struct WindowArguments {
    /// Begin operations for so long in each turn
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) seconds: u64,
    /// How many turns each subject has in each case
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=20))]
    pub(crate) rounds: u64,
    /// The most that one turn may push
    #[arg(long, default_value_t = 8, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=64))]
    push_budget_gib: u64,
}

/// Where things are.
#[derive(Args)]
pub(crate) struct PlaceArguments {
    /// The longshore binary [default: beside this program]
    #[arg(long, value_name = "PATH")]
    longshore: Option<PathBuf>,
    /// Where `install-peers` has put programs
    #[arg(long, value_name = "DIR", env = "LONGSHORE_LOADTEST_TOOLS", default_value = "target/peers")]
    tools: PathBuf,
    /// Where the states of the servers are put, in a folder of their own; some tens of GiB must be free
    #[arg(long, value_name = "DIR", default_value = "target/loadtest")]
    work: PathBuf,
    /// Leave that folder when all is done
    #[arg(long)]
    keep: bool,
    /// The `minio` binary [default: in --tools, in target/tools or in PATH]
    #[arg(long, value_name = "PATH")]
    minio: Option<PathBuf>,
    /// A setting of longshore beyond its address and its places; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// A registry that somebody else started.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ForeignRegistry {
    name: String,
    url: String,
    pids: Vec<u32>,
}

fn parse_foreign(text: &str) -> Result<ForeignRegistry> {
    let parts = text.split_once('=').and_then(|(name, rest)| Some((name, rest.split_once(',')?)));
    let (name, (url, pids)) = parts.context("NAME=URL,PID is wanted")?;
    ensure!(!name.is_empty() && !SUBJECTS.contains(&name), "{name:?} cannot be its name");
    let pids = pids.split(',').map(|pid| pid.parse().with_context(|| format!("{pid:?} is no pid")));
    Ok(ForeignRegistry { name: name.to_owned(), url: url.to_owned(), pids: pids.collect::<Result<_>>()? })
}

impl PlaceArguments {
    /// Makes the folder for the states. It goes when the guard is dropped.
    pub(crate) fn prepare(&self) -> Result<(Places, WorkFolder)> {
        let work = WorkFolder::create(&self.work, self.keep)?;
        let longshore = match &self.longshore {
            Some(path) => path.clone(),
            None => std::env::current_exe().context("cannot find this program")?.with_file_name("longshore"),
        };
        let places = Places {
            longshore,
            tools: self.tools.clone(),
            work: work.path().to_owned(),
            minio: self.minio.clone(),
            settings: self.settings.clone(),
        };
        Ok((places, work))
    }
}

/// What is compared where nothing else was asked for.
const ON_FILES: [&str; 6] =
    ["longshore-sqlite", "longshore-postgres", "nginx", "docker-registry", "distribution", "floor"];
const ON_S3: [&str; 3] = ["longshore-s3", "distribution-s3", "nginx"];

impl CompareArguments {
    fn subjects(&self) -> Vec<String> {
        let usual: &[&str] = match self.storage {
            StorageKind::Files => &ON_FILES,
            StorageKind::S3 => &ON_S3,
        };
        if self.subjects.is_empty() {
            usual.iter().copied().map(str::to_owned).collect()
        } else {
            self.subjects.clone()
        }
    }

    /// On S3 the peer on the same store: what nginx does from files is the floor there.
    fn base(&self) -> Option<&str> {
        let on_s3 = (self.storage == StorageKind::S3).then_some("distribution-s3");
        self.base.as_deref().or(on_s3)
    }
}

/// Runs it and prints the table.
pub(crate) fn compare(arguments: &CompareArguments) -> Result<ExitCode> {
    let cells = cell::select(&arguments.cases, &arguments.connections, arguments.full, arguments.storage)?;
    let names = arguments.subjects();
    for name in &names {
        ensure!(SUBJECTS.contains(&name.as_str()), "there is no subject {name:?}: there are {}", SUBJECTS.join(", "));
    }
    let began = Instant::now();
    // Dropped last: the servers end before their folders go.
    let (places, _work) = arguments.places.prepare()?;
    let mut remarks = Vec::new();
    let store = start_store(&names, &places, &mut remarks)?;
    let mut subjects = start_all(&names, &places, store.as_ref(), &mut remarks)?;
    for foreign in &arguments.registry {
        subjects.push(Subject::foreign(&foreign.name, &foreign.url, foreign.pids.clone())?);
    }
    let mut comparison = Comparison {
        subjects,
        store,
        seconds: arguments.windows.seconds,
        rounds: usize::try_from(arguments.windows.rounds).unwrap_or(usize::MAX),
        push_budget_bytes: arguments.windows.push_budget_gib << 30,
        cold_blobs: arguments.cold_blobs,
        processors: thread::available_parallelism().map_or(1, usize::from),
        turns: Vec::new(),
        remarks,
        incomparable: Vec::new(),
        failed: false,
    };
    ensure!(!comparison.subjects.is_empty(), "nothing is left to compare: {}", comparison.remarks.join("; "));
    for (index, cell) in cells.iter().enumerate() {
        let (place, passed) = (format!("{}/{}", index + 1, cells.len()), began.elapsed().as_secs());
        eprintln!("{place:>6}  {:>3}:{:02}  {} c{}", passed / 60, passed % 60, cell.name, cell.connections);
        comparison.run(cell);
    }
    tell(arguments, &comparison)
}

/// Starts the object store, if a subject needs it.
fn start_store(names: &[String], places: &Places, remarks: &mut Vec<String>) -> Result<Option<ObjectStore>> {
    if !names.iter().any(|name| subject::is_on_s3(name)) {
        return Ok(None);
    }
    match places.start_store()? {
        Ok(store) => Ok(Some(store)),
        Err(how) => {
            remarks.push(format!("all on S3 skipped: {how}"));
            Ok(None)
        }
    }
}

fn start_all(
    names: &[String],
    places: &Places,
    store: Option<&ObjectStore>,
    remarks: &mut Vec<String>,
) -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for name in names.iter().filter(|name| store.is_some() || !subject::is_on_s3(name)) {
        eprintln!("starting {name}");
        let store = store.filter(|_| subject::is_on_s3(name));
        let bucket = store.map(|store| store.bucket(name, store.address())).transpose()?;
        match subject::start(name, places, bucket.as_ref())? {
            Started::Running(subject) => subjects.push(*subject),
            Started::Missing(how) => remarks.push(format!("{name} skipped: {how}")),
        }
    }
    Ok(subjects)
}

fn tell(arguments: &CompareArguments, comparison: &Comparison) -> Result<ExitCode> {
    let mut rows = rows_of(&comparison.turns);
    for row in &mut rows {
        let is_it = |(case, subject): &(&str, String)| *case == row.case && *subject == row.subject;
        row.comparable = !comparison.incomparable.iter().any(is_it);
    }
    let mut text = table::whole(&rows, arguments.base());
    if rows.iter().any(|row| row.client_bound) {
        text.push_str("\n`*`: the client was the bottleneck, the server can do more than this row shows.\n");
    }
    if !comparison.remarks.is_empty() {
        text.push('\n');
    }
    for remark in &comparison.remarks {
        text.push_str(&format!("- {remark}\n"));
    }
    print!("{text}");
    for (path, content) in [
        (&arguments.output.markdown, text),
        (&arguments.output.json, format!("{:#}\n", json_of(arguments, comparison, &rows))),
    ] {
        if let Some(path) = path {
            std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    if rows.is_empty() {
        bail!("nothing could be measured");
    }
    Ok(if comparison.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Gathers the turns of each subject in each cell, in the order in which they first came.
fn rows_of(turns: &[Turn]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut bound: Vec<usize> = Vec::new();
    for turn in turns {
        let is_same =
            |row: &Row| row.case == turn.case && row.connections == turn.connections && row.subject == turn.subject;
        let index = rows.iter().position(is_same).unwrap_or_else(|| {
            let (case, subject) = (turn.case.to_owned(), turn.subject.clone());
            rows.push(Row {
                case,
                connections: turn.connections,
                subject,
                turns: Vec::new(),
                client_bound: false,
                comparable: true,
            });
            bound.push(0);
            rows.len() - 1
        });
        rows[index].turns.push(turn.figures);
        bound[index] += usize::from(turn.client_bound);
        rows[index].client_bound = 2 * bound[index] > rows[index].turns.len();
    }
    rows
}

fn json_of(arguments: &CompareArguments, comparison: &Comparison, rows: &[Row]) -> Value {
    let turns: Vec<Value> = comparison.turns.iter().map(Turn::to_json).collect();
    let medians = rows.iter().map(|row| {
        let median = Figures::median(&row.turns);
        let figures = FIGURES.iter().map(|(figure, heading)| ((*heading).to_owned(), json!(median.get(*figure))));
        let figures: serde_json::Map<String, Value> = figures.collect();
        json!({"case": row.case, "connections": row.connections, "subject": row.subject, "figures": figures})
    });
    json!({
        "processors": comparison.processors,
        "seconds": arguments.windows.seconds,
        "rounds": arguments.windows.rounds,
        "subjects": comparison.subjects.iter().map(|subject| subject.name.as_str()).collect::<Vec<_>>(),
        "turns": turns,
        "medians": medians.collect::<Vec<_>>(),
        "remarks": comparison.remarks,
    })
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
