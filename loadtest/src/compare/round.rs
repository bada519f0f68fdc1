//! Owns the running of one cell: the verification first, then the rounds, every subject in turn.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::cell::{Cell, Work, turns};
use super::cold::ColdPull;
use super::slow::{self, SlowFigures};
use crate::case::{Operation, Plan, Prepared};
use crate::figures::{Figure, Figures, mebibytes, median};
use crate::floor_server::FloorMode;
use crate::load;
use crate::process::ServerProcesses;
use crate::pull;
use crate::report::Measurement;
use crate::setup;
use crate::subject::{self, Kind, ObjectStore, Subject};

/// How often a server is started in one turn of the start-up case.
const STARTS: usize = 5;
/// All cold blobs are pulled, however long that takes, up to this.
const COLD_LIMIT: Duration = Duration::from_secs(120);
const SLOW_BLOB_BYTES: u64 = 64 << 20;
/// When a server that was just started is taken for idle.
const SETTLE: Duration = Duration::from_secs(1);

/// One subject's turn in one round of one cell.
pub(super) struct Turn {
    pub(super) case: &'static str,
    pub(super) connections: usize,
    pub(super) subject: String,
    pub(super) round: usize,
    pub(super) figures: Figures,
    pub(super) client_bound: bool,
    /// Every figure, in base units.
    pub(super) detail: Value,
}

impl Turn {
    pub(super) fn to_json(&self) -> Value {
        let mut object = self.detail.clone();
        object["case"] = self.case.into();
        object["connections"] = self.connections.into();
        object["subject"] = self.subject.as_str().into();
        object["round"] = self.round.into();
        object["client_bound"] = self.client_bound.into();
        object
    }
}

/// What all subjects do in one round.
enum Shared {
    /// The operation, and the size of the blobs that it leaves behind.
    Load(Box<dyn Operation>, Option<u64>),
    Cold(ColdPull),
    Nothing,
}

/// What was found of one turn.
struct Found {
    figures: Figures,
    client_bound: bool,
    detail: Value,
}

/// What was used beside the accounts of the window, which add up a server and its database.
struct Aside {
    alone_cpu: Duration,
    alone_peak_bytes: u64,
    /// Of the object store, whose only user a subject is in its turn.
    store_cpu: Option<Duration>,
}

/// The subjects, running, and what was found so far.
pub(super) struct Comparison {
    pub(super) subjects: Vec<Subject>,
    /// What those on S3 share. After them, so that it ends after them.
    pub(super) store: Option<ObjectStore>,
    pub(super) seconds: u64,
    pub(super) rounds: usize,
    pub(super) push_budget_bytes: u64,
    pub(super) cold_blobs: u64,
    pub(super) processors: usize,
    pub(super) turns: Vec<Turn>,
    pub(super) remarks: Vec<String>,
    /// Cases in which a subject does something else than was asked for. It cannot be the base there.
    pub(super) incomparable: Vec<(&'static str, String)>,
    pub(super) failed: bool,
}

impl Comparison {
    /// Runs one cell. What goes wrong becomes a remark, so that the others still run.
    pub(super) fn run(&mut self, cell: &Cell) {
        let mut able = self.verified(cell);
        let mut shared = Shared::Nothing;
        let mut prepared_for = None;
        for (round, index) in turns(self.rounds, &able.clone()) {
            if !able.contains(&index) {
                continue;
            }
            if prepared_for != Some(round) {
                prepared_for = Some(round);
                shared = match self.prepare_round(cell, index) {
                    Ok(shared) => shared,
                    Err(error) => return self.fail(cell, "preparing", &error),
                };
            }
            match self.turn(cell, &shared, index, round) {
                Ok(found) => self.note(cell, index, round, found),
                Err(error) => {
                    let name = self.subjects[index].name.clone();
                    self.fail(cell, &name, &error);
                    able.retain(|other| *other != index);
                }
            }
        }
    }

    /// Brings every subject to the state of the cell and has it do the operation once, every byte verified. Answers
    /// those that can take part.
    fn verified(&mut self, cell: &Cell) -> Vec<usize> {
        let mut able = Vec::new();
        for index in 0..self.subjects.len() {
            let subject = &self.subjects[index];
            if !cell.suits(&subject.kind) {
                continue;
            }
            if cell.needs_fresh_process() && !subject.can_restart() {
                self.remark(cell, &subject.name.clone(), "skipped: only a server that we started can be started anew");
                continue;
            }
            let name = subject.name.clone();
            match verify(cell, subject, &self.plan(cell, Some(1))) {
                Ok(Verified::Able(None)) => able.push(index),
                Ok(Verified::Able(Some(remark))) => {
                    self.remark(cell, &name, &remark);
                    self.incomparable.push((cell.name, name));
                    able.push(index);
                }
                Ok(Verified::Skipped(reason)) => self.remark(cell, &name, &format!("skipped: {reason}")),
                Err(error) => self.fail(cell, &name, &error),
            }
        }
        able
    }

    /// What all subjects do in one round: the same bytes, hashed once. It finds what it needs on each of them, for
    /// each has been verified.
    fn prepare_round(&self, cell: &Cell, index: usize) -> Result<Shared> {
        let case = match &cell.work {
            Work::Case(case) => case,
            Work::ColdPull { size } => return Ok(Shared::Cold(ColdPull::new(*size, self.cold_blobs))),
            Work::SlowDownloads | Work::SlowUploads | Work::StartUp => return Ok(Shared::Nothing),
        };
        match load::prepare(case.as_ref(), &self.subjects[index].target, &self.plan(cell, None))? {
            Prepared::Ready(operation) => Ok(Shared::Load(operation, case.pushed_blob_size())),
            Prepared::Skipped(reason) => bail!("skipped: {reason}"),
        }
    }

    fn turn(&mut self, cell: &Cell, shared: &Shared, index: usize, round: usize) -> Result<Found> {
        let is_last = round + 1 == self.rounds;
        let plan = self.plan(cell, None);
        match (shared, &cell.work) {
            (Shared::Load(operation, size), _) => self.load_turn(operation.as_ref(), *size, &plan, index, is_last),
            (Shared::Cold(blobs), _) => self.cold_turn(blobs, &plan, index),
            (Shared::Nothing, Work::StartUp) => start_turn(&mut self.subjects[index]),
            (Shared::Nothing, _) => slow_turn(cell, &mut self.subjects[index]),
        }
    }

    fn load_turn(
        &self,
        operation: &dyn Operation,
        pushed_blob_size: Option<u64>,
        plan: &Plan,
        index: usize,
        is_last: bool,
    ) -> Result<Found> {
        let subject = &self.subjects[index];
        let began = SystemTime::now();
        let (window, aside) = self.window(operation, subject, plan)?;
        if is_last && keeps_content(&subject.kind) {
            load::audit(operation, &subject.target, &window)?;
        }
        if let Some(size) = pushed_blob_size {
            subject.discard_blobs(size, began)?;
        }
        Ok(self.found_in_window(&window, &aside, plan.connections))
    }

    /// Runs a window, with an eye on the object store and on the server without its database.
    fn window(&self, operation: &dyn Operation, subject: &Subject, plan: &Plan) -> Result<(Measurement, Aside)> {
        let store = self.store.as_ref().filter(|_| subject::is_on_s3(&subject.name));
        let store = store.map(ObjectStore::processes).transpose()?;
        let alone = subject.server_alone()?;
        let cpu_of = |processes: &ServerProcesses| processes.usage().map(|usage| usage.cpu);
        let store_before = store.as_ref().map(cpu_of).transpose()?;
        let before = alone.usage()?.cpu;
        let window = load::run_window(operation, &subject.target, &subject.processes()?, plan)?;
        // Without its database, whose processes share most of their pages. It has been reset before the window.
        let after = alone.usage()?;
        let store_after = store.as_ref().map(cpu_of).transpose()?;
        let store_cpu = store_after.zip(store_before).map(|(after, before)| after.saturating_sub(before));
        let alone_cpu = after.cpu.saturating_sub(before);
        Ok((window, Aside { alone_cpu, alone_peak_bytes: after.peak_bytes, store_cpu }))
    }

    fn cold_turn(&self, blobs: &ColdPull, plan: &Plan, index: usize) -> Result<Found> {
        let subject = &self.subjects[index];
        let began = SystemTime::now();
        blobs.push_to(subject).context("cannot push the blobs")?;
        let plan = Plan { window: COLD_LIMIT, ..*plan };
        let (window, aside) = self.window(blobs, subject, &plan)?;
        subject.discard_blobs(blobs.blob_size(), began)?;
        Ok(self.found_in_window(&window, &aside, plan.connections))
    }

    fn found_in_window(&self, window: &Measurement, aside: &Aside, connections: usize) -> Found {
        let mut detail = window.to_json();
        detail["server_alone_peak_bytes"] = aside.alone_peak_bytes.into();
        detail["server_alone_cpu_seconds"] = aside.alone_cpu.as_secs_f64().into();
        let mut figures = Figures::of_window(window).with(Figure::Mebibytes, Some(mebibytes(aside.alone_peak_bytes)));
        if let Some(store_cpu) = aside.store_cpu {
            detail["store_cpu_seconds"] = store_cpu.as_secs_f64().into();
            figures = figures.with_store(window, store_cpu);
        }
        Found { figures, client_bound: window.is_client_bound(connections, self.processors), detail }
    }

    fn plan(&self, cell: &Cell, operations: Option<u64>) -> Plan {
        Plan {
            connections: cell.connections,
            window: Duration::from_secs(self.seconds),
            operations,
            push_budget_bytes: self.push_budget_bytes,
        }
    }

    fn note(&mut self, cell: &Cell, index: usize, round: usize, found: Found) {
        let subject = self.subjects[index].name.clone();
        let failures = found.detail["failures"].as_u64().unwrap_or(0);
        if failures > 0 {
            self.failed = true;
            let first = found.detail["first_failure"].as_str().unwrap_or_default().to_owned();
            self.remark(cell, &subject, &format!("round {}: {failures} operations failed: {first}", round + 1));
        }
        if found.detail["ended_by"] == "prepared bodies used up" && !matches!(cell.work, Work::ColdPull { .. }) {
            self.remark(cell, &subject, &format!("round {} ended early: its bodies were used up", round + 1));
        }
        let Found { figures, client_bound, detail } = found;
        let (case, connections) = (cell.name, cell.connections);
        self.turns.push(Turn { case, connections, subject, round, figures, client_bound, detail });
    }

    fn fail(&mut self, cell: &Cell, name: &str, error: &anyhow::Error) {
        self.failed = true;
        self.remark(cell, name, &format!("FAILED: {error:#}"));
    }

    fn remark(&mut self, cell: &Cell, name: &str, text: &str) {
        self.remarks.push(format!("{} c{}, {name}: {text}", cell.name, cell.connections));
    }
}

enum Verified {
    /// It can take part, and what the reader of its figures should know.
    Able(Option<String>),
    Skipped(String),
}

fn verify(cell: &Cell, subject: &Subject, plan: &Plan) -> Result<Verified> {
    let Work::Case(case) = &cell.work else {
        return Ok(Verified::Able(None));
    };
    match load::prepare(case.as_ref(), &subject.target, plan)? {
        Prepared::Skipped(reason) => Ok(Verified::Skipped(reason)),
        Prepared::Ready(_) if !keeps_content(&subject.kind) => Ok(Verified::Able(None)),
        Prepared::Ready(operation) => {
            let began = SystemTime::now();
            let remark = load::rehearse(operation.as_ref(), &subject.target)?;
            if let Some(size) = case.pushed_blob_size() {
                subject.discard_blobs(size, began)?;
            }
            Ok(Verified::Able(remark))
        }
    }
}

fn keeps_content(kind: &Kind) -> bool {
    !matches!(kind, Kind::Floor(FloorMode::Receive | FloorMode::Hash))
}

fn slow_turn(cell: &Cell, subject: &mut Subject) -> Result<Found> {
    let digest = setup::fixed_digest(SLOW_BLOB_BYTES);
    let mut connection = crate::client::Connection::new(&subject.target, setup::setup_deadline());
    let is_download = matches!(cell.work, Work::SlowDownloads);
    if is_download {
        setup::ensure_blob(&mut connection, pull::REPOSITORY, SLOW_BLOB_BYTES)?;
    }
    drop(connection);
    subject.restart()?;
    let (target, server) = (&subject.target, subject.server_alone()?);
    let figures = if is_download {
        let path = format!("/v2/{}/blobs/{digest}", pull::REPOSITORY);
        slow::download(target, &server, &path, cell.connections)?
    } else {
        slow::upload(target, &server, cell.connections)?
    };
    Ok(found_of_slow(&figures))
}

fn found_of_slow(slow: &SlowFigures) -> Found {
    let figures = Figures::default()
        .with(Figure::Mebibytes, Some(mebibytes(slow.peak_bytes)))
        .with(Figure::KibibytesPerConnection, Some(slow.bytes_per_connection() / 1024.0));
    let first_failure = (slow.lost > 0).then_some("its connection ended before its time");
    let detail = json!({
        "server_idle_bytes": slow.idle_bytes,
        "server_peak_bytes": slow.peak_bytes,
        "server_bytes_per_connection": slow.bytes_per_connection(),
        "server_cpu_seconds": slow.server_cpu.as_secs_f64(),
        "bytes": slow.moved_bytes,
        "failures": slow.lost,
        "first_failure": first_failure,
    });
    Found { figures, client_bound: false, detail }
}

/// Starts it several times on the state that it has, and looks at its memory when it has come to rest.
fn start_turn(subject: &mut Subject) -> Result<Found> {
    let mut seconds = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        seconds.push(subject.restart()?.as_secs_f64());
    }
    std::thread::sleep(SETTLE);
    let idle = subject.server_alone()?.usage()?.resident_bytes;
    let figures = Figures::default()
        .with(Figure::MedianMilliseconds, median(seconds.clone()).map(|seconds| seconds * 1e3))
        .with(Figure::Mebibytes, Some(mebibytes(idle)));
    let detail = json!({"start_seconds": seconds, "server_idle_bytes": idle});
    Ok(Found { figures, client_bound: false, detail })
}
