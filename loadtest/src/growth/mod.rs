//! Owns `longshore-loadtest growth`: one registry, filled to a thousand, ten thousand, ... manifests, and the same
//! operations measured at each size. What matters is the ratio to the smallest size.

mod operations;
mod tell;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::operations::{Content, Growing, Put, RandomTag};
use self::tell::{Found, OPERATIONS};
use crate::case::{Operation, Plan};
use crate::client::Connection;
use crate::compare::{OutputArguments, PlaceArguments, WindowArguments};
use crate::figures::Figures;
use crate::load;
use crate::setup;
use crate::subject::{self, Kind, Started, Subject};

/// Filling goes on in steps of so many manifests, and looks at the clock between them.
const STEP: u64 = 5_000;
/// A step that was begun in time may end so much later.
const GRACE: Duration = Duration::from_secs(300);
/// The most new manifests that one window puts.
const MOST_PUTS: u64 = 20_000;
const SMALLEST: u64 = 1_000;

/// What `growth` is told.
#[derive(Args)]
pub(crate) struct GrowthArguments {
    /// Which registry is started for it
    #[arg(long, default_value = "longshore-sqlite", value_name = "NAME", conflicts_with = "url")]
    subject: String,
    /// A registry that runs already instead, on a loopback address
    #[arg(long, requires = "pid")]
    url: Option<String>,
    /// Its processes
    #[arg(long, value_delimiter = ',', value_name = "PID", requires = "url")]
    pid: Vec<u32>,
    /// The last size: measured are 1,000 and every power of ten up to this
    #[arg(long, default_value_t = 1_000_000, value_name = "N",
          value_parser = clap::value_parser!(u64).range(SMALLEST..=10_000_000))]
    up_to: u64,
    /// Begin no further step of filling after so long
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600))]
    max_minutes: u64,
    /// Connections in the measured windows
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    #[command(flatten)]
    windows: WindowArguments,
    #[command(flatten)]
    places: PlaceArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs it and prints the table.
pub(crate) fn growth(arguments: &GrowthArguments) -> Result<ExitCode> {
    // Dropped last: the server ends before its folder goes.
    let (places, _work) = arguments.places.prepare()?;
    let subject = match &arguments.url {
        Some(url) => Subject::foreign("registry", url, arguments.pid.clone())?,
        None => match subject::start(&arguments.subject, &places, None)? {
            Started::Running(subject) => *subject,
            Started::Missing(how) => bail!("{} cannot be started: {how}", arguments.subject),
        },
    };
    ensure!(matches!(subject.kind, Kind::Registry), "{} is no registry", subject.name);
    let growing = Growing::new();
    growing.prepare(&subject.target)?;
    let deadline = Instant::now() + Duration::from_secs(60 * arguments.max_minutes);
    let (mut found, mut filled, mut remark) = (Vec::new(), 0, None);
    for size in sizes(arguments.up_to) {
        let before_puts = size - arguments.windows.rounds * most_puts(size, arguments.windows.rounds);
        filled = fill(&subject, &growing, filled..before_puts, deadline)?;
        if filled < before_puts {
            remark = Some(format!("{size} manifests were not reached: {filled} were there when the time was up"));
            break;
        }
        eprintln!("measuring at {size}");
        filled = measure(arguments, &subject, &growing, (size, filled), &mut found)?;
    }
    tell(arguments, &subject.name, &found, remark.as_deref())
}

/// A thousand, and every power of ten up to the last size, which is measured whatever it is.
fn sizes(up_to: u64) -> Vec<u64> {
    let mut sizes: Vec<u64> =
        std::iter::successors(Some(SMALLEST), |size| Some(size * 10)).take_while(|size| *size < up_to).collect();
    sizes.push(up_to);
    sizes
}

/// How many manifests each window may put: no more than make half of the size, all rounds together.
fn most_puts(size: u64, rounds: u64) -> u64 {
    (size / (2 * rounds)).min(MOST_PUTS)
}

/// Puts the manifests of these numbers. Answers how many are there: fewer if the time was up.
fn fill(subject: &Subject, growing: &Growing, numbers: std::ops::Range<u64>, deadline: Instant) -> Result<u64> {
    let mut filled = numbers.start;
    while filled < numbers.end && Instant::now() < deadline {
        let step = filled..numbers.end.min((filled / STEP + 1) * STEP);
        filled = step.end;
        let put = |connection: &mut Connection<'_>, number| growing.put(connection, &Content::of(number));
        setup::in_parallel_until(&subject.target, step, deadline + GRACE, &put).context("cannot fill")?;
        if filled.is_multiple_of(10 * STEP) {
            eprintln!("filled to {filled}");
        }
    }
    Ok(filled)
}

/// Measures all operations in turn, some rounds. Answers how many manifests are there afterwards.
fn measure(
    arguments: &GrowthArguments,
    subject: &Subject,
    growing: &Growing,
    (size, mut filled): (u64, u64),
    found: &mut Vec<Found>,
) -> Result<u64> {
    let plan = Plan {
        connections: usize::from(arguments.connections),
        window: Duration::from_secs(arguments.windows.seconds),
        operations: None,
        push_budget_bytes: 0,
    };
    let rounds = arguments.windows.rounds;
    for round in 0..rounds {
        for name in OPERATIONS {
            let puts = Put { growing, first: filled, most: most_puts(size, rounds) };
            let operation: Box<dyn Operation + '_> = match name {
                "GET by tag" => Box::new(RandomTag { growing, filled }),
                "tags page" => Box::new(growing.middle_page(filled)),
                _ => Box::new(puts),
            };
            if round == 0 {
                let remark = load::rehearse(operation.as_ref(), &subject.target)?;
                remark.into_iter().for_each(|remark| eprintln!("{name}: {remark}"));
            }
            let window = load::run_window(operation.as_ref(), &subject.target, &subject.processes()?, &plan)?;
            if let Some(failure) = &window.first_failure {
                bail!("{name} at {size} manifests: {} failed: {failure}", window.failures);
            }
            if name == "PUT new" {
                filled += window.operations;
            }
            let (figures, detail) = (Figures::of_window(&window), window.to_json());
            found.push(Found { size, operation: name, round, figures, detail });
        }
    }
    Ok(filled)
}

fn tell(arguments: &GrowthArguments, name: &str, found: &[Found], remark: Option<&str>) -> Result<ExitCode> {
    let mut text = tell::table(name, found);
    if let Some(remark) = remark {
        text.push_str(&format!("\n- {remark}\n"));
    }
    print!("{text}");
    let json = format!("{:#}\n", tell::json(name, found, remark));
    for (path, content) in [(&arguments.output.markdown, text), (&arguments.output.json, json)] {
        if let Some(path) = path {
            std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(if remark.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_ten_and_the_last() {
        assert_eq!(sizes(1_000), [1_000]);
        assert_eq!(sizes(1_000_000), [1_000, 10_000, 100_000, 1_000_000]);
        assert_eq!(sizes(30_000), [1_000, 10_000, 30_000]);
    }

    #[test]
    fn puts_leave_room_below_the_size() {
        for rounds in 1..=20 {
            for size in sizes(10_000_000) {
                let puts = rounds * most_puts(size, rounds);
                assert!(puts > 0 && puts <= size / 2);
            }
            // Filling never goes back: the next size begins above the last.
            assert!(10_000 - rounds * most_puts(10_000, rounds) >= 1_000);
        }
    }
}
