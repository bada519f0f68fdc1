//! `longshore scrub`: reads every object at once. The server reads them in the background.

use super::FOUND;
use crate::cli::{OutputFormat, ScrubOptions, SettingsSources};
use anyhow::{Context as _, Result};
use longshore_config::Settings;
use longshore_gc::{Damage, RoundFrom, ScrubReport, ScrubRules, Scrubber};
use longshore_metadata::{DamagedBlob, Metadata};
use std::process::ExitCode;

/// Rows that are read together.
const PAGE: u32 = 100;

pub(super) async fn run(sources: &SettingsSources, options: &ScrubOptions) -> Result<ExitCode> {
    super::on_database(sources, async |settings, metadata| act(settings, metadata, options).await).await
}

async fn act(settings: &Settings, metadata: &Metadata, options: &ScrubOptions) -> Result<ExitCode> {
    if options.list {
        return list(metadata, options.output).await;
    }
    let _alone =
        super::hold_database(settings).context("the server that has this database open reads its objects by itself")?;
    let storage = super::open_pair(settings, metadata).await?;
    let rate = options.rate.map_or(u64::MAX, longshore_config::ByteSize::bytes);
    let scrubber = Scrubber::new(metadata.clone(), storage, ScrubRules { rate, period: std::time::Duration::ZERO });
    let mut total = ScrubReport::default();
    let from = if options.anew { RoundFrom::Beginning } else { RoundFrom::WhereItIs };
    let read = scrubber.round_now(from, |report| total += report).await;
    read.context("not all objects were read: the next scrub goes on from there")?;
    // What was found before the reading that this one goes on with is damaged still.
    let damaged = metadata.count_damaged().await?;
    match options.output {
        OutputFormat::Text => print!("{}", text(&total, damaged)),
        OutputFormat::Json => println!("{}", json(&total, damaged)),
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

/// The rules by which the server reads them.
pub(super) fn rules(settings: &Settings) -> ScrubRules {
    ScrubRules { period: settings.gc.scrub_period, rate: settings.gc.scrub_rate.bytes() }
}

fn text(total: &ScrubReport, damaged_in_all: u64) -> String {
    let damaged = |damage: &Damage| format!("damaged    {} of blob {}: {}\n", damage.key, damage.digest, damage.reason);
    let mut lines: String = total.damaged.iter().map(damaged).collect();
    lines.extend(total.recovered.iter().map(|key| format!("recovered  {key}\n")));
    let (objects, bytes) = (total.objects, total.bytes);
    lines + &format!("{objects} objects of {bytes} bytes were read, {damaged_in_all} blobs are damaged\n")
}

fn json(total: &ScrubReport, damaged_in_all: u64) -> serde_json::Value {
    let damaged = |damage: &Damage| serde_json::json!({ "key": damage.key, "digest": damage.digest.to_string(), "reason": damage.reason });
    serde_json::json!({
        "objects": total.objects,
        "bytes": total.bytes,
        "damaged": total.damaged.iter().map(damaged).collect::<Vec<_>>(),
        "recovered": total.recovered,
        "damaged_in_all": damaged_in_all,
    })
}

/// What is damaged, as far as it is known.
async fn list(metadata: &Metadata, output: OutputFormat) -> Result<ExitCode> {
    let mut all: Vec<DamagedBlob> = Vec::new();
    loop {
        let after = all.last().map_or(0, |blob| blob.number);
        let page = metadata.damaged_blobs(after, PAGE).await?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    let mut rows = Vec::new();
    for blob in &all {
        let holders = metadata.repositories_holding(&blob.digest, PAGE).await?;
        let holders: Vec<String> = holders.iter().map(ToString::to_string).collect();
        let found_at = humantime::format_rfc3339_seconds(blob.found_at).to_string();
        match output {
            OutputFormat::Text => {
                println!("{} {found_at} in {}: {}", blob.digest, holders.join(", "), blob.reason);
            }
            OutputFormat::Json => rows.push(serde_json::json!({
                "digest": blob.digest.to_string(), "size": blob.size, "key": blob.key, "reason": blob.reason,
                "found_at": found_at, "repositories": holders,
            })),
        }
    }
    if output == OutputFormat::Json {
        println!("{}", serde_json::Value::from(rows));
    }
    Ok(if all.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}
