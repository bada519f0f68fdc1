//! Owns `longshore-loadtest gc`: a registry that is read all the time while half of it is deleted, and while what was
//! deleted is collected; and for how long a peer is away that can collect only while it is stopped.

mod content;
mod large;
mod readers;
mod tell;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::content::{BLOBS, Images};
use self::readers::{Phase, while_reading};
use self::tell::Found;
use crate::client::Connection;
use crate::compare::{OutputArguments, PlaceArguments};
use crate::measure::Histogram;
use crate::scrape;
use crate::setup;
use crate::size::parse_size;
use crate::subject::{self, Places, Started, Subject};
use crate::target::Target;

/// What blobs are promised for while they are pushed (`gc.promise`); a deleted manifest's stay for twice as long.
const PROMISE: Duration = Duration::from_secs(2);
/// So long readers are alone, so that there is something to compare with.
const ALONE: Duration = Duration::from_secs(5);
/// Collection that has not come to its end after so long has failed.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// How often is looked whether all has been collected.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// One image in so many is verified in the end.
const VERIFIED_EVERY: u64 = 20;

/// What readers are beside, in this order.
const PHASES: [&str; 3] = ["alone", "deleting", "collecting"];

/// What `gc` is told.
#[derive(Args)]
pub(crate) struct GcArguments {
    /// The registries, one after the other
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "longshore-sqlite,longshore-postgres,distribution",
        value_name = "NAME",
        conflicts_with = "large"
    )]
    subjects: Vec<String>,
    /// How many manifests there are, each with three blobs of its own. Every second one is deleted
    #[arg(long, default_value_t = 5_000, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    manifests: u64,
    /// The size of each blob. Ours keeps those up to 16 KiB in its database, and larger ones as objects
    #[arg(long, default_value = "20KiB", value_name = "SIZE", value_parser = parse_size)]
    blob_size: u64,
    /// How many clients read meanwhile
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    readers: u16,
    /// Instead: a million blobs and 200,000 manifests in Postgres, all of which are to be reviewed while readers read
    #[arg(long)]
    large: bool,
    /// For how long readers of the large registry are measured, without and with collection
    #[arg(long, default_value_t = 30, value_name = "N", requires = "large",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    #[command(flatten)]
    places: PlaceArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs it and prints the table.
pub(crate) fn gc(arguments: &GcArguments) -> Result<ExitCode> {
    // Dropped last: the servers end before their folders go.
    let (mut places, _work) = arguments.places.prepare()?;
    places.settings = settings(&places.settings);
    if arguments.large {
        let window = Duration::from_secs(arguments.seconds);
        let subject = start("longshore-postgres", &places)?.map_err(anyhow::Error::msg)?;
        return tell(&arguments.output, &large::measure(&subject, arguments.readers, window)?);
    }
    let images = Images::new(arguments.manifests, arguments.blob_size);
    let (mut found, mut remarks) = (Vec::new(), Vec::new());
    for name in &arguments.subjects {
        match start(name, &places)? {
            Ok(mut subject) => {
                let measured = measure(&mut subject, &images, arguments.readers);
                found.push(measured.with_context(|| format!("{name} failed"))?);
            }
            Err(how) => remarks.push(format!("{name} was skipped: {how}")),
        }
    }
    ensure!(!found.is_empty(), "nothing was measured: {}", remarks.join("; "));
    tell(&arguments.output, &tell::Told::of_all(&found, &remarks))
}

/// Settings of ours by which garbage goes within seconds, and all of it, unless they were given otherwise.
fn settings(given: &[String]) -> Vec<String> {
    let promise = format!("gc.promise={}s", PROMISE.as_secs());
    let ours = [promise.as_str(), "gc.undo=0s", "gc.object_delay=0s", "gc.interval=100ms", "gc.breaker=100"];
    let key = |setting: &str| setting.split('=').next().unwrap_or_default().to_owned();
    let is_open = |setting: &&str| given.iter().all(|given| key(given) != key(setting));
    ours.into_iter().filter(is_open).map(str::to_owned).chain(given.iter().cloned()).collect()
}

/// The server, or how to get it.
fn start(name: &str, places: &Places) -> Result<Result<Subject, String>> {
    ensure!(!subject::is_on_s3(name), "{name} cannot be measured: its garbage lies in an object store");
    Ok(match subject::start(name, places, None)? {
        Started::Running(subject) => Ok(*subject),
        Started::Missing(how) => Err(how),
    })
}

/// Everything about one registry.
fn measure(subject: &mut Subject, images: &Images, readers: u16) -> Result<Found> {
    let name = subject.name.clone();
    eprintln!("{name}: pushing {} images", images.count());
    setup::in_parallel_until(&subject.target, 0..images.count(), deadline(), &|connection, number| {
        images.push(connection, number)
    })
    .context("cannot fill")?;
    let target = subject.target.clone();
    let reading = (readers, PHASES.len());
    let (done, latencies) =
        while_reading(&target, images, reading, |phase| delete_and_collect(&target, images, phase))?;
    // Ours has done that while it was read.
    let downtime = if done.collected_after.is_none() { subject.collect_stopped()? } else { None };
    if done.collected_after.is_none() && downtime.is_none() {
        bail!("it neither collects by itself nor has a command for it");
    }
    let mut connection = Connection::new(&target, deadline());
    images.verify(&mut connection, VERIFIED_EVERY).context("what was kept is not all there")?;
    let deletes_per_second = images.doomed() as f64 / done.deleting.as_secs_f64();
    Ok(Found { name, deletes_per_second, latencies, collected_after: done.collected_after, downtime })
}

/// What came of it.
struct Done {
    deleting: Duration,
    /// From the last delete until nothing was left; none where that does not happen by itself.
    collected_after: Option<Duration>,
}

fn delete_and_collect(target: &Target, images: &Images, phase: &Phase) -> Result<Done> {
    thread::sleep(ALONE); // readers read meanwhile
    eprintln!("deleting {} manifests", images.doomed());
    phase.begin(1);
    let began = Instant::now();
    let delete = |connection: &mut Connection<'_>, index| images.delete(connection, index);
    setup::in_parallel_until(target, 0..images.doomed(), deadline(), &delete).context("cannot delete")?;
    let deleting = began.elapsed();
    let collected_after = wait_until_collected(target, images, phase)?;
    Ok(Done { deleting, collected_after })
}

fn wait_until_collected(target: &Target, images: &Images, phase: &Phase) -> Result<Option<Duration>> {
    let began = Instant::now();
    let blobs = BLOBS * images.doomed();
    let objects = if images.has_blobs_above(INLINE_MAX) { blobs } else { 0 };
    while let Some((gone, deleted)) = collected(target) {
        phase.begin(2);
        if gone >= blobs && deleted >= objects {
            return Ok(Some(began.elapsed()));
        }
        ensure!(began.elapsed() < LIMIT, "{gone} of {blobs} blobs were collected after {LIMIT:?}");
        thread::sleep(LOOK_EVERY); // nobody tells when all is gone but the metrics
    }
    Ok(None)
}

/// What ours keeps in its database.
const INLINE_MAX: u64 = 16 << 10;

/// Blobs and objects that were collected so far; none where a server does not tell.
fn collected(target: &Target) -> Option<(u64, u64)> {
    let counter = |name| scrape::counter(target, name);
    Some((counter("longshore_gc_blobs_deleted_total")?, counter("longshore_gc_objects_deleted_total")?))
}

fn deadline() -> Instant {
    Instant::now() + LIMIT
}

fn tell(output: &OutputArguments, told: &tell::Told) -> Result<ExitCode> {
    print!("{}", told.text);
    let json = format!("{:#}\n", told.json);
    for (path, content) in [(&output.markdown, &told.text), (&output.json, &json)] {
        if let Some(path) = path {
            std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A percentile of some latencies, in milliseconds.
fn milliseconds(latencies: &Histogram, percent: f64) -> f64 {
    latencies.percentile(percent).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_wins() {
        let given = ["gc.undo=1h".to_owned(), "log.level=warn".to_owned()];
        let settings = settings(&given);
        assert!(settings.contains(&"gc.undo=1h".to_owned()) && settings.contains(&"log.level=warn".to_owned()));
        assert!(settings.contains(&"gc.promise=2s".to_owned()) && !settings.contains(&"gc.undo=0s".to_owned()));
    }
}
