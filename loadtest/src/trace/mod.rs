//! Owns `longshore-loadtest trace`: what registries were really asked for, made up or read from a file, and replayed.
//!
//! Traces are in the schema of those of the IBM registries (Anwar et al., FAST'18), which are gigabytes of JSON: they
//! are read as streams, once to learn what is in them, once to replay them.

mod cache;
mod catalog;
mod entry;
mod generate;
mod images;
mod random;
mod replay;
mod stream;
mod tell;
mod timestamp;
mod warm_up;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use self::cache::{EndlessCache, LruCache};
use self::catalog::Catalog;
use self::entry::{Action, Kind};
use self::generate::Recipe;
use self::replay::Pace;
use self::tell::Report;
use self::warm_up::{Scale, Stock};
use crate::compare::{OutputArguments, PlaceArguments};
use crate::observed::Observed;
use crate::report::{ratio, three_digits};
use crate::scrape;
use crate::size::parse_size;

/// Where a server does not tell the size of its cache, one is taken to compare with.
const ASSUMED_CACHE_BYTES: u64 = 512 << 20;

/// What is done with traces.
#[derive(Subcommand)]
pub(crate) enum TraceCommand {
    /// Write a trace that is like those of real registries.
    Generate(GenerateArguments),
    /// Put a server where a trace begins, then do what it says.
    Replay(Box<ReplayArguments>),
    /// Tell what caches would make of a trace, without any server.
    Simulate(SimulateArguments),
}

/// What `trace generate` is told.
#[derive(Args)]
pub(crate) struct GenerateArguments {
    /// The file to write [default: the terminal]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Another seed makes another trace; the same seed the same one
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// How many requests
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    requests: u64,
    /// How many images, in a repository each
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    images: u32,
    /// How many clients
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// The exponent of their popularity: 0.9 to 1.1 was seen
    #[arg(long, default_value_t = 1.0, value_name = "S", value_parser = parse_factor)]
    zipf: f64,
    /// How many of a hundred requests push: 5 to 10 were seen
    #[arg(long, default_value_t = 7, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    push_percent: u8,
    /// How long it lasts
    #[arg(long, default_value_t = 24.0, value_name = "HOURS", value_parser = parse_factor)]
    hours: f64,
    /// No layer is larger
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = parse_size)]
    largest: u64,
}

/// How the sizes of a trace are made to fit, and how much of it is taken.
#[derive(Args)]
struct ExtentArguments {
    /// A trace: a JSON array of requests
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// So many of its requests at most
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_name = "N")]
    limit: u64,
    /// What sizes of blobs are multiplied with
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = parse_factor)]
    scale: f64,
    /// No blob is larger, after that
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = parse_size)]
    largest: u64,
    /// Blobs up to this size count for no cache, for they are in the database [default: 16KiB; of distribution 0]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    inline_max: Option<u64>,
}

/// What is in the database by default.
const INLINE_MAX: u64 = 16 << 10;

/// What `trace replay` is told.
#[derive(Args)]
pub(crate) struct ReplayArguments {
    #[command(flatten)]
    extent: ExtentArguments,
    /// The server: longshore-s3 or distribution-s3
    #[arg(long, default_value = "longshore-s3", value_name = "NAME")]
    subject: String,
    /// How many connections; a client always has the same one
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// So many seconds of the trace pass in one [default: as fast as it goes]
    #[arg(long, value_name = "FACTOR", value_parser = parse_factor)]
    speed: Option<f64>,
    /// The size of the cache to compare with [default: that of the server's hot cache]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    lru: Option<u64>,
    /// Warming up and the replay may take so long each
    #[arg(long, default_value_t = 7200, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    time_limit: u64,
    #[command(flatten)]
    places: PlaceArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What `trace simulate` is told.
#[derive(Args)]
pub(crate) struct SimulateArguments {
    #[command(flatten)]
    extent: ExtentArguments,
    /// The sizes of the caches
    #[arg(long, value_delimiter = ',', default_value = "64MiB,256MiB,512MiB,1GiB,4GiB", value_name = "SIZE", value_parser = parse_size)]
    lru: Vec<u64>,
}

fn parse_factor(text: &str) -> Result<f64> {
    let factor: f64 = text.parse().with_context(|| format!("{text:?} is no number"))?;
    anyhow::ensure!(factor.is_finite() && factor > 0.0, "a number above 0 is wanted");
    Ok(factor)
}

impl ExtentArguments {
    fn scale(&self) -> Scale {
        Scale { factor: self.scale, largest: self.largest }
    }

    /// Reads the whole file once.
    fn catalog(&self) -> Result<Catalog> {
        let mut catalog = Catalog::default();
        stream::read_file(&self.file, self.limit, &mut |request| {
            catalog.add(request);
            Ok(())
        })?;
        Ok(catalog)
    }
}

/// Runs what was asked for.
pub(crate) fn trace(command: &TraceCommand) -> Result<ExitCode> {
    match command {
        TraceCommand::Generate(arguments) => generate(arguments),
        TraceCommand::Replay(arguments) => replay(arguments),
        TraceCommand::Simulate(arguments) => simulate(arguments),
    }
}

fn generate(arguments: &GenerateArguments) -> Result<ExitCode> {
    let recipe = Recipe {
        seed: arguments.seed,
        requests: arguments.requests,
        images: arguments.images as usize,
        clients: arguments.clients as usize,
        zipf: arguments.zipf,
        push_percent: f64::from(arguments.push_percent),
        hours: arguments.hours,
        largest_layer: arguments.largest,
    };
    let out: Box<dyn Write> = match &arguments.output {
        Some(path) => Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => Box::new(io::stdout()),
    };
    generate::write(&recipe, &mut BufWriter::new(out))?;
    Ok(ExitCode::SUCCESS)
}

fn simulate(arguments: &SimulateArguments) -> Result<ExitCode> {
    // Sizes are known when the whole file was read: transfers that were cut off moved less.
    let (catalog, scale) = (arguments.extent.catalog()?, arguments.extent.scale());
    let sizes: Vec<u64> = catalog.blob_sizes();
    let inline_max = arguments.extent.inline_max.unwrap_or(INLINE_MAX);
    let mut caches: Vec<LruCache> = arguments.lru.iter().map(|bytes| LruCache::new(*bytes)).collect();
    let mut endless = EndlessCache::new();
    stream::read_file(&arguments.extent.file, arguments.extent.limit, &mut |request| {
        if request.action == Action::Get && request.kind == Kind::Blob {
            let (place, _) = catalog.find(&request).context("the file has changed since it was looked through")?;
            let content = catalog.places()[place as usize].content;
            let bytes = scale.of(sizes[content as usize]);
            if bytes > inline_max {
                caches.iter_mut().for_each(|cache| cache.get(content, bytes));
                endless.get(content, bytes);
            }
        }
        Ok(())
    })?;
    let rows = caches.iter().map(|cache| (format!("LRU of {} MiB", cache.capacity >> 20), cache.hits));
    for (name, hits) in rows.chain([("endless".to_owned(), endless.hits())]) {
        let bytes = three_digits(ratio(hits.hit_bytes as f64 * 100.0, hits.bytes as f64));
        let requests = three_digits(ratio(hits.hit_requests as f64 * 100.0, hits.requests as f64));
        println!("{name:<18} hits {bytes:>5} % of bytes, {requests:>5} % of {} GETs of blobs", hits.requests);
    }
    Ok(ExitCode::SUCCESS)
}

fn replay(arguments: &ReplayArguments) -> Result<ExitCode> {
    eprintln!("looking through {}", arguments.extent.file.display());
    let catalog = arguments.extent.catalog()?;
    let (places, repositories, clients) = (catalog.places().len(), catalog.repositories(), catalog.clients());
    eprintln!("{places} blobs and manifests in {repositories} repositories, {clients} clients; hashing");
    let stock = Stock::new(catalog, arguments.extent.scale());
    // Dropped last: the servers end before their folders go.
    let (places, _work) = arguments.places.prepare()?;
    eprintln!("starting {}", arguments.subject);
    let mut observed = Observed::start(&arguments.subject, &places)?;
    eprintln!("pushing {:.1} MB", stock.warm_up_bytes() as f64 / 1e6);
    let time_limit = Duration::from_secs(arguments.time_limit);
    stock.warm_up(&observed.subject.target, Instant::now() + time_limit)?;
    // So that nothing of what was pushed is in its memory.
    observed.subject.restart()?;
    eprintln!("replaying");
    let report = replay_on(arguments, &observed, &stock, Instant::now() + time_limit)?;
    let text = tell::text(&report);
    print!("{text}");
    write_out(&arguments.output.markdown, &text)?;
    write_out(&arguments.output.json, &format!("{:#}\n", tell::json(&report)))?;
    Ok(if report.replayed.failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write_out(path: &Option<PathBuf>, content: &str) -> Result<()> {
    let write = |path: &Path| std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()));
    path.as_deref().map_or(Ok(()), write)
}

fn replay_on(arguments: &ReplayArguments, observed: &Observed, stock: &Stock, deadline: Instant) -> Result<Report> {
    let target = &observed.subject.target;
    let hot_before = scrape::hot_cache(target);
    let capacity = hot_before.map_or(ASSUMED_CACHE_BYTES, |cache| cache.capacity_bytes);
    let usual_inline_max = if arguments.subject.starts_with("longshore") { INLINE_MAX } else { 0 };
    let pace = Pace {
        connections: usize::from(arguments.connections),
        speed: arguments.speed,
        limit: arguments.extent.limit,
        deadline,
        lru_bytes: arguments.lru.unwrap_or(capacity),
        inline_max: arguments.extent.inline_max.unwrap_or(usual_inline_max),
    };
    let (server, all) = (observed.subject.server_alone()?, observed.subject.processes()?);
    server.reset_peak()?;
    let (cpu_before, passed_before) = (all.usage()?.cpu, observed.proxy.passed());
    let replayed = replay::replay(&arguments.extent.file, stock, target, &pace)?;
    let (passed, cpu) = (observed.proxy.passed(), all.usage()?.cpu);
    Ok(Report {
        subject: arguments.subject.clone(),
        replayed,
        passed: passed.since(passed_before),
        hot_cache: hot_before.zip(scrape::hot_cache(target)),
        server_cpu: cpu.saturating_sub(cpu_before),
        peak_bytes: server.usage()?.peak_bytes,
        inline_max: pace.inline_max,
    })
}
