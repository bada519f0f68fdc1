//! `longshore gc`: a pass of garbage collection at once, what it would do, or leave for it to go on. The server runs the same
//! passes.

mod preview;
mod progress;
mod why;

use super::{FOUND, output::say, serve::lifetimes, tags};
use crate::cli::{GcAction, GcOptions, OutputFormat, SettingsSources};
use anyhow::{Context as _, Result, ensure};
use longshore_config::Settings;
use longshore_gc::{Collected, Collector, Error as GcError, Halt, Retention, Rules};
use longshore_metadata::{Breaker, Deleted, Metadata};
use std::{
    cell::RefCell,
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// So many manifests, and so many blobs, are never too many to delete in a day.
const FLOOR: u64 = 1000;

pub(super) async fn run(sources: &SettingsSources, options: &GcOptions) -> Result<ExitCode> {
    let command = async |settings: &Settings, metadata: &Metadata| {
        refuse_what_has_no_say(sources, settings, metadata).await?;
        act(settings, metadata, options).await
    };
    super::on_database(sources, command).await
}

/// Refuses what somebody says for this command alone and what it could not go by: how long something stays is written down when
/// that is promised, or condemned, and by what the servers say.
async fn refuse_what_has_no_say(sources: &SettingsSources, settings: &Settings, metadata: &Metadata) -> Result<()> {
    let is_said = |key: &str| sources.set.iter().any(|(set, _)| set == key);
    if !["gc.promise", "gc.object_delay"].into_iter().any(is_said) {
        return Ok(());
    }
    let (said, known) = (lifetimes(settings), metadata.lifetimes().await?);
    let times =
        [("gc.promise", said.promise, known.promise), ("gc.object_delay", said.object_delay, known.object_delay)];
    for (key, said, known) in times {
        ensure!(
            !is_said(key) || said == known,
            "{key}={} would change nothing here: it is {} as the server has it that started last, and what is promised or \
             condemned already keeps the time that it was given. Start the servers with it instead",
            humantime::format_duration(said),
            humantime::format_duration(known),
        );
    }
    Ok(())
}

async fn act(settings: &Settings, metadata: &Metadata, options: &GcOptions) -> Result<ExitCode> {
    let rules = rules(settings);
    if let Some(GcAction::Why { name }) = &options.action {
        return why::why(metadata, &rules, name, options.output).await;
    }
    if options.dry_run {
        preview::preview(metadata, &rules, options).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let alone = super::hold_database(settings);
    if options.resume {
        metadata.resume_collection().await?;
        if alone.is_err() {
            say("garbage collection goes on: the server that runs begins its next pass by itself")?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let _alone = alone.context("the server that has this database open collects its garbage by itself")?;
    let storage = super::open_pair(settings, metadata).await?;
    let collector = Collector::new(metadata.clone(), storage, at_once(rules));
    let (collected, passed) = pass(&collector, options.output).await;
    let said = match options.output {
        OutputFormat::Text => say(&text(&collected)),
        OutputFormat::Json => say(&json(&collected)),
    };
    passed.context("the pass did not come to its end: what is told above is done, and the next one goes on")?;
    said?;
    Ok(if collected.halt.is_some() { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

/// Runs a pass: what it did, and how it ended. People are told meanwhile how far it is.
async fn pass(collector: &Collector, output: OutputFormat) -> (Collected, Result<(), GcError>) {
    let collected = RefCell::new(Collected::default());
    let work = collector.pass(|event| *collected.borrow_mut() += event);
    let passed = match output {
        OutputFormat::Text => progress::told(work, || progress::say_so_far(&collected.borrow())).await,
        OutputFormat::Json => work.await,
    };
    (collected.into_inner(), passed)
}

/// What the operator decides, as the settings say it.
pub(super) fn rules(settings: &Settings) -> Rules {
    let gc = &settings.gc;
    // A pull is written down a while after it happened: what is pulled at the last moment is not to go before that.
    let unwritten = (2 * settings.database.pull_statistics).min(gc.undo / 10);
    Rules {
        undo: gc.undo + unwritten,
        tag_history: gc.tag_history,
        breaker: Breaker { percent: gc.breaker, floor: FLOOR },
        share: gc.share,
        retention: tags::retention(settings),
    }
}

/// Without rests, and whenever repositories were looked through last.
fn at_once(rules: Rules) -> Rules {
    let retention = Retention { interval: Duration::ZERO, ..rules.retention };
    Rules { share: 100, retention, ..rules }
}

fn time(time: SystemTime) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(time)
}

fn steps(collected: &Collected) -> [(&'static str, Deleted); 5] {
    let Collected { manifests, grants, blobs, objects, retained, .. } = collected;
    [
        ("caches", retained.build_caches),
        ("manifests", *manifests),
        ("grants", *grants),
        ("blobs", *blobs),
        ("objects", *objects),
    ]
}

fn halt(halt: &Halt) -> String {
    match halt {
        Halt::Until(until) => {
            format!("the clock was moved: garbage collection waits until {} (--resume goes on at once)", time(*until))
        }
        Halt::Stopped(why) => format!("garbage collection was stopped: {why} (--resume lets it)"),
    }
}

fn text(collected: &Collected) -> String {
    let mut lines = vec![
        format!("{:<10} {:>9} expired", "uploads", collected.uploads),
        format!("{:<10} {:>9} deleted by rules", "tags", collected.retained.tags),
    ];
    if collected.retained.reported > 0 {
        lines.push(format!("{:<10} {:>9} would go by rules that only report", "tags", collected.retained.reported));
    }
    let deleted = |(name, deleted): (&str, Deleted)| {
        format!("{name:<10} {:>9} deleted {:>16} bytes", deleted.count, deleted.bytes)
    };
    lines.extend(steps(collected).map(deleted));
    lines.extend(collected.halt.as_ref().map(halt));
    lines.join("\n")
}

fn json(collected: &Collected) -> serde_json::Value {
    let deleted = |deleted: Deleted| serde_json::json!({ "count": deleted.count, "bytes": deleted.bytes });
    let mut answer = serde_json::json!({
        "uploads": { "count": collected.uploads },
        "tags": { "count": collected.retained.tags, "reported": collected.retained.reported },
    });
    for (name, step) in steps(collected) {
        answer[name] = deleted(step);
    }
    answer["halt"] = collected.halt.as_ref().map(halt).into();
    answer
}
