//! Owns `longshore-loadtest stampede`: many readers of one blob that nobody has read before, all at once.
//!
//! What its object store is asked for meanwhile tells whether the server reads a blob once or for each reader; its peak
//! memory, whether it remembers the readers or the blob.

mod memory;
mod readers;
mod tell;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use self::memory::MemorySampler;
use self::readers::{Blob, Crowd};
use self::tell::Stampede;
use crate::body::{self, Body, Segment, Sha256Digest, UniqueBodies};
use crate::compare::{OutputArguments, PlaceArguments};
use crate::observed::Observed;
use crate::process::Usage;
use crate::proxy::Passed;
use crate::scrape;
use crate::setup;
use crate::size::parse_size;
use crate::upload::{self, PushMethod};

const REPOSITORY: &str = "longshore-loadtest/stampede";
/// A server that was just started is given so long to come to rest before its memory counts as idle.
const SETTLE: Duration = Duration::from_secs(1);

/// What `stampede` is told.
#[derive(Args)]
pub(crate) struct StampedeArguments {
    /// The server: longshore-s3 or distribution-s3
    #[arg(long, default_value = "longshore-s3", value_name = "NAME")]
    subject: String,
    /// How many readers come at once
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=8000))]
    readers: u16,
    /// The size of the blob
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = parse_size)]
    size: u64,
    /// How many blobs of that size they read, each reader one
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=8000))]
    blobs: u16,
    /// How many of a hundred readers are slow. The others are measured without them too
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u16).range(0..=90))]
    slow_percent: u16,
    /// What each slow reader takes in a second
    #[arg(long, default_value = "1MiB", value_name = "SIZE", value_parser = parse_size)]
    slow_rate: u64,
    /// How often, each time with a new blob and a fresh process
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=20))]
    rounds: u16,
    /// How many readers verify every byte. Their times are not counted
    #[arg(long, default_value_t = 1, value_name = "N")]
    verified: u16,
    /// What the server was told to keep within, to compare its memory with [default: the capacity of its hot cache]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    budget: Option<u64>,
    /// The kernel's receive buffer of each reader
    #[arg(long, default_value = "256KiB", value_name = "SIZE", value_parser = parse_size)]
    receive_buffer: u64,
    /// Readers that have not come to their end by then have failed
    #[arg(long, default_value_t = 1800, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=7200))]
    limit: u64,
    #[command(flatten)]
    places: PlaceArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl StampedeArguments {
    /// Who comes, one crowd after the other.
    fn crowds(&self) -> Vec<Crowd> {
        let slow = u32::from(self.readers) * u32::from(self.slow_percent) / 100;
        let slow = usize::try_from(slow).unwrap_or(usize::MAX);
        let fast = usize::from(self.readers) - slow;
        let crowd = |slow| Crowd {
            fast,
            slow,
            slow_bytes_per_second: self.slow_rate,
            verified: usize::from(self.verified),
            receive_buffer: usize::try_from(self.receive_buffer).unwrap_or(usize::MAX),
        };
        if slow == 0 { vec![crowd(0)] } else { vec![crowd(0), crowd(slow)] }
    }
}

/// Runs it and prints the table.
pub(crate) fn stampede(arguments: &StampedeArguments) -> Result<ExitCode> {
    // Dropped last: the servers end before their folders go.
    let (places, _work) = arguments.places.prepare()?;
    eprintln!("starting {}", arguments.subject);
    let mut observed = Observed::start(&arguments.subject, &places)?;
    let unique = UniqueBodies::from_clock();
    let mut found = Vec::new();
    for round in 0..arguments.rounds {
        for crowd in arguments.crowds() {
            eprintln!("round {}: {} fast and {} slow readers", round + 1, crowd.fast, crowd.slow);
            let bodies: Vec<Body> = (0..arguments.blobs).map(|_| unique.take(arguments.size)).collect();
            found.push(let_loose(arguments, &mut observed, &bodies, round, &crowd)?);
        }
    }
    let text = tell::table(&arguments.subject, &found);
    print!("{text}");
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let json = format!("{:#}\n", tell::json(&arguments.subject, processors, &found));
    for (path, content) in [(&arguments.output.markdown, text), (&arguments.output.json, json)] {
        if let Some(path) = path {
            std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    let failed = found.iter().any(|stampede| stampede.outcome.failures > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Pushes new blobs, starts the server anew, so that it knows nothing of them, and lets the crowd loose.
fn let_loose(
    arguments: &StampedeArguments,
    observed: &mut Observed,
    bodies: &[Body],
    round: u16,
    crowd: &Crowd,
) -> Result<Stampede> {
    let blobs = push(observed, bodies)?;
    observed.subject.restart()?;
    thread::sleep(SETTLE);
    let server = observed.subject.server_alone()?;
    let peak_was_reset = server.reset_peak()?;
    let (idle, all) = (server.usage()?, observed.subject.processes()?);
    let (cpu_before, passed_before) = (all.usage()?.cpu, observed.proxy.passed());
    let sampler = MemorySampler::start(observed.subject.server_alone()?)?;
    let deadline = Instant::now() + Duration::from_secs(arguments.limit);
    let outcome = readers::read_all(&observed.subject.target, &blobs, crowd, deadline)?;
    let (passed, after, cpu) = (observed.proxy.passed(), server.usage()?, all.usage()?.cpu);
    let samples = sampler.stop()?;
    let capacity = scrape::hot_cache(&observed.subject.target).map(|cache| cache.capacity_bytes);
    Ok(Stampede {
        round,
        blobs: blobs.len() as u64,
        blob_bytes: arguments.size,
        crowd: crowd.clone(),
        outcome,
        passed: passed.since(passed_before),
        memory: (idle, after),
        samples,
        budget_bytes: arguments.budget.or(capacity),
        peak_was_reset,
        server_cpu: cpu.saturating_sub(cpu_before),
    })
}

fn push(observed: &Observed, bodies: &[Body]) -> Result<Vec<Blob>> {
    let blobs = body::digests(bodies);
    setup::in_parallel(&observed.subject.target, blobs.len() as u64, &|connection, index| {
        let (body, digest) = blobs[index as usize];
        upload::push_body(connection, REPOSITORY, PushMethod::Monolithic, body, digest, &mut Segment::new())
    })
    .context("cannot push the blobs")?;
    let blob = |(body, digest): (Body, Sha256Digest)| {
        let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
        Blob { path, size: body.size, digest }
    };
    Ok(blobs.into_iter().map(blob).collect())
}
