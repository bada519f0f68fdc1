//! `longshore gc --dry-run` and `longshore gc why`: what would go, and why the rest stays.

use crate::cli::OutputFormat;
use crate::commands::split_name;
use anyhow::{Result, bail};
use longshore_gc::{Going, Preview, Rules, Share, Staying, Verdict};
use longshore_metadata::Metadata;
use longshore_oci::Reference;
use serde_json::{Value, json};
use std::{fmt::Write as _, process::ExitCode, time::SystemTime};

pub(super) async fn preview(metadata: &Metadata, rules: &Rules, output: OutputFormat) -> Result<()> {
    let preview = longshore_gc::preview(metadata, rules).await?;
    match output {
        OutputFormat::Text => print!("{}", text(&preview)),
        OutputFormat::Json => println!("{}", as_json(&preview)),
    }
    Ok(())
}

/// Says why a manifest stays, given as `NAME:TAG` or `NAME@DIGEST`.
pub(super) async fn why(metadata: &Metadata, rules: &Rules, name: &str, output: OutputFormat) -> Result<ExitCode> {
    let (repository, reference) = split_name(name)?;
    let digest = match reference {
        Reference::Digest(digest) => Some(digest),
        Reference::Tag(tag) => metadata.find_tag(&repository, &tag).await?.map(|record| record.digest),
    };
    let verdict = match digest {
        Some(digest) => longshore_gc::why(metadata, rules, &repository, &digest).await?,
        None => None,
    };
    let (Some(digest), Some(verdict)) = (digest, verdict) else { bail!("{name} is not here") };
    match output {
        OutputFormat::Text => println!("{repository}@{digest} {}", said(&verdict)),
        OutputFormat::Json => println!(
            "{}",
            json!({
                "repository": repository.as_str(), "digest": digest.to_string(), "goes": verdict == Verdict::Goes,
                "why": said(&verdict),
            })
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn said(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Kept(reason) => format!("stays: {reason}"),
        Verdict::Until(until, reason) => format!("stays until {}: {reason}", time(*until)),
        Verdict::Goes => "goes: nothing keeps it".to_owned(),
    }
}

fn time(time: SystemTime) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(time)
}

fn text(preview: &Preview) -> String {
    let mut text = String::new();
    for Going { repository, digest, since } in &preview.going {
        let why =
            since.map_or("with the last that keeps it".to_owned(), |since| format!("unkept since {}", time(since)));
        let _ = writeln!(text, "goes   {repository}@{digest}  {why}");
    }
    for Staying { repository, digest, until, reason } in &preview.staying {
        let _ = writeln!(text, "stays  {repository}@{digest}  until {}: {reason}", time(*until));
    }
    for (repository, share) in &preview.repositories {
        let _ = writeln!(text, "{repository}: {}", of(share));
    }
    let _ = writeln!(text, "freed in the end: {}", of(&preview.freed));
    let waiting = &preview.waiting;
    let _ = writeln!(text, "condemned already: {} objects, {} bytes", waiting.count, waiting.bytes);
    text
}

fn of(share: &Share) -> String {
    format!("{} manifests, {} blobs, {} bytes", share.manifests, share.blobs, share.bytes)
}

fn as_json(preview: &Preview) -> Value {
    let share = |share: &Share| json!({ "manifests": share.manifests, "blobs": share.blobs, "bytes": share.bytes });
    let going = preview.going.iter().map(|going| {
        json!({
            "repository": going.repository.as_str(), "digest": going.digest.to_string(),
            "unkept_since": going.since.map(|since| time(since).to_string()),
        })
    });
    let staying = preview.staying.iter().map(|staying| {
        json!({
            "repository": staying.repository.as_str(), "digest": staying.digest.to_string(),
            "until": time(staying.until).to_string(), "why": staying.reason.to_string(),
        })
    });
    let repositories = preview.repositories.iter().map(|(name, lost)| (name.to_string(), share(lost)));
    json!({
        "going": going.collect::<Vec<_>>(),
        "staying": staying.collect::<Vec<_>>(),
        "repositories": repositories.collect::<serde_json::Map<_, _>>(),
        "freed": share(&preview.freed),
        "condemned": { "objects": preview.waiting.count, "bytes": preview.waiting.bytes },
    })
}
