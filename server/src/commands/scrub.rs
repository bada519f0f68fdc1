//! `longshore scrub`: reads every object at once. The server reads them in the background.

use super::{FOUND, output::say};
use crate::cli::{OutputFormat, ScrubOptions, SettingsSources};
use anyhow::{Context as _, Result};
use longshore_config::Settings;
use longshore_gc::{Damage, RoundFrom, ScrubReport, ScrubRules, Scrubber};
use longshore_metadata::{DamagedBlob, DamagedManifest, Metadata};
use longshore_oci::Digest;
use std::{process::ExitCode, time::SystemTime};

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
    let damaged = metadata.count_damaged().await? + metadata.count_damaged_manifests().await?;
    match options.output {
        OutputFormat::Text => say(&text(&total, damaged))?,
        OutputFormat::Json => say(&json(&total, damaged))?,
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

/// The rules by which the server reads them.
pub(super) fn rules(settings: &Settings) -> ScrubRules {
    ScrubRules { period: settings.gc.scrub_period, rate: settings.gc.scrub_rate.bytes() }
}

fn text(total: &ScrubReport, damaged_in_all: u64) -> String {
    let mut lines: String = total.damaged.iter().map(|damage| format!("damaged    {damage}\n")).collect();
    lines.extend(total.recovered.iter().map(|what| format!("recovered  {what}\n")));
    let ScrubReport { objects, rows, bytes, .. } = total;
    lines
        + &format!(
            "{objects} objects and {rows} rows of {bytes} bytes were read, {damaged_in_all} blobs and manifests are damaged"
        )
}

fn json(total: &ScrubReport, damaged_in_all: u64) -> serde_json::Value {
    let damaged = |damage: &Damage| {
        let repository = damage.repository.as_ref().map(ToString::to_string);
        let (key, digest, reason) = (&damage.key, damage.digest.to_string(), &damage.reason);
        serde_json::json!({ "key": key, "repository": repository, "digest": digest, "reason": reason })
    };
    serde_json::json!({
        "objects": total.objects,
        "rows": total.rows,
        "bytes": total.bytes,
        "damaged": total.damaged.iter().map(damaged).collect::<Vec<_>>(),
        "recovered": total.recovered,
        "damaged_in_all": damaged_in_all,
    })
}

/// What is damaged, as far as it is known.
async fn list(metadata: &Metadata, output: OutputFormat) -> Result<ExitCode> {
    let mut lines = Vec::new();
    for blob in blobs(metadata).await? {
        let holders = metadata.repositories_holding(&blob.digest, PAGE).await?;
        lines.push(Known {
            digest: blob.digest,
            what: "blob",
            size: blob.size,
            key: blob.key,
            reason: blob.reason,
            found_at: blob.found_at,
            repositories: holders.iter().map(ToString::to_string).collect(),
        });
    }
    for manifest in manifests(metadata).await? {
        lines.push(Known {
            digest: manifest.digest,
            what: "manifest",
            size: manifest.size,
            key: None,
            reason: manifest.reason,
            found_at: manifest.found_at,
            repositories: vec![manifest.repository.to_string()],
        });
    }
    match output {
        OutputFormat::Text => lines.iter().try_for_each(|known| say(&known.text()))?,
        OutputFormat::Json => say(&lines.iter().map(Known::json).collect::<serde_json::Value>())?,
    }
    Ok(if lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

/// Something that is known to be damaged.
struct Known {
    digest: Digest,
    what: &'static str,
    size: u64,
    key: Option<String>,
    reason: String,
    found_at: SystemTime,
    repositories: Vec<String>,
}

impl Known {
    fn found_at(&self) -> String {
        humantime::format_rfc3339_seconds(self.found_at).to_string()
    }

    fn text(&self) -> String {
        format!("{} {} in {}: {}", self.digest, self.found_at(), self.repositories.join(", "), self.reason)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "digest": self.digest.to_string(), "what": self.what, "size": self.size, "key": self.key,
            "reason": self.reason, "found_at": self.found_at(), "repositories": self.repositories,
        })
    }
}

async fn manifests(metadata: &Metadata) -> Result<Vec<DamagedManifest>> {
    let mut all: Vec<DamagedManifest> = Vec::new();
    loop {
        let after = all.last().map_or(0, |manifest| manifest.number);
        let page = metadata.damaged_manifests(after, PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

async fn blobs(metadata: &Metadata) -> Result<Vec<DamagedBlob>> {
    let mut all: Vec<DamagedBlob> = Vec::new();
    loop {
        let after = all.last().map_or(0, |blob| blob.number);
        let page = metadata.damaged_blobs(after, PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}
