//! `longshore-loadtest`: puts a bounded load on a registry of this machine and tells what it did and what it cost.
//!
//! It owns no knowledge of one registry: pulls, pushes and manifests by the OCI protocol, and `/proc` of the pid that
//! it is given. It never leaves the loopback.

mod body;
mod case;
mod client;
mod compare;
mod figures;
mod floor_server;
mod gc;
mod growth;
mod launch;
mod listing;
mod load;
mod manifest;
mod markdown;
mod measure;
mod observed;
mod process;
mod proxy;
mod pull;
mod push;
mod reading;
mod report;
mod response;
mod scrape;
mod setup;
mod size;
mod stampede;
mod subject;
mod target;
mod trace;
mod upload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::case::Plan;
use crate::compare::{CompareArguments, FloorArguments};
use crate::floor_server::FloorServerArguments;
use crate::gc::GcArguments;
use crate::growth::GrowthArguments;
use crate::process::ServerProcesses;
use crate::report::Report;
use crate::stampede::StampedeArguments;
use crate::target::Target;
use crate::trace::TraceCommand;

/// A window that is bounded by operations ends after so long all the same.
const LONGEST_WINDOW: Duration = Duration::from_secs(600);

/// Bounded load on a registry, and what it cost the server.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run cases against a registry on this machine. It pushes gigabytes: give it a registry to throw away.
    Run(RunArguments),
    /// Compare servers on this machine, which it starts and stops itself, in turn.
    Compare(Box<CompareArguments>),
    /// Show what this machine allows for a push: receiving, hashing and writing alone.
    Floor(FloorArguments),
    /// Measure one registry while it grows: the same operations at 10^3, 10^4, ... manifests.
    Growth(GrowthArguments),
    /// Delete half of a registry while it is read, and watch its garbage being collected.
    Gc(GcArguments),
    /// Let many readers loose on one blob that nobody has read, and count what its object store is asked for.
    Stampede(StampedeArguments),
    /// Make, look at or replay what a registry was asked for.
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Be the server of the floor.
    #[command(hide = true)]
    FloorServer(FloorServerArguments),
    /// List the cases.
    List,
}

#[derive(Args)]
struct RunArguments {
    /// The registry, `http://HOST[:PORT]`; only loopback addresses are accepted
    #[arg(long)]
    url: String,
    /// The server's process, with its children; several for a registry and its database
    #[arg(long, required = true, value_delimiter = ',', value_name = "PID")]
    pid: Vec<u32>,
    /// Cases by name, or by its beginning and a `*` [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    cases: Vec<String>,
    /// Numbers of connections; every case runs once with each
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: Vec<u16>,
    /// Begin operations for so long
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// End after so many operations instead
    #[arg(long, conflicts_with = "seconds", value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    requests: Option<u64>,
    /// The most that one case may push within its window
    #[arg(long, default_value_t = 8, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1024))]
    push_budget_gib: u64,
    /// Basic credentials
    #[arg(long, value_name = "NAME:PASSWORD", env = "LONGSHORE_LOADTEST_USER", hide_env_values = true)]
    user: Option<String>,
    /// Write all figures into this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Floor(arguments) => compare::floor(arguments),
        Command::Gc(arguments) => gc::gc(&arguments),
        Command::Growth(arguments) => growth::growth(&arguments),
        Command::Stampede(arguments) => stampede::stampede(&arguments),
        Command::Trace(command) => trace::trace(&command),
        Command::FloorServer(arguments) => floor_server::serve(&arguments).map(|()| ExitCode::SUCCESS),
        Command::List => {
            list();
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("longshore-loadtest: {error:#}");
        ExitCode::FAILURE
    })
}

fn list() {
    for case in case::all_cases() {
        println!("{:<20}  {}", case.name(), case.summary());
    }
}

fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let target = Target::parse(&arguments.url, arguments.user.as_deref())?;
    let server = ServerProcesses::new(arguments.pid.clone()).context("cannot read the process given by --pid")?;
    let mut cases = Vec::new();
    for case in case::select_cases(&arguments.cases)? {
        for connections in &arguments.connections {
            eprintln!("{} c{connections}", case.name());
            cases.push(load::run_case(case.as_ref(), &target, &server, &plan(arguments, *connections)));
        }
    }
    let report = Report {
        target: arguments.url.clone(),
        pids: arguments.pid.clone(),
        processors: thread::available_parallelism().map_or(1, usize::from),
        cases,
    };
    print!("{}", report.to_table());
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", report.to_json());
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if report.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn plan(arguments: &RunArguments, connections: u16) -> Plan {
    let window = if arguments.requests.is_some() { LONGEST_WINDOW } else { Duration::from_secs(arguments.seconds) };
    Plan {
        connections: usize::from(connections),
        window,
        operations: arguments.requests,
        push_budget_bytes: arguments.push_budget_gib << 30,
    }
}
