//! `longshore gc --dry-run` and `longshore gc why`: what would go, and why the rest stays.

use crate::cli::OutputFormat;
use crate::commands::split_name;
use anyhow::{Result, bail};
use longshore_gc::{Going, GoingTag, Preview, Rules, Share, Staying, TagVerdict, Verdict};
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

/// Says why a manifest stays, given as `NAME:TAG` or `NAME@DIGEST`, and what rules say of the tag.
pub(super) async fn why(metadata: &Metadata, rules: &Rules, name: &str, output: OutputFormat) -> Result<ExitCode> {
    let (repository, reference) = split_name(name)?;
    let (digest, tag) = match reference {
        Reference::Digest(digest) => (Some(digest), None),
        Reference::Tag(tag) => {
            let digest = metadata.find_tag(&repository, &tag).await?.map(|record| record.digest);
            (digest, longshore_gc::why_tag(metadata, rules, &repository, &tag).await?)
        }
    };
    let verdict = match digest {
        Some(digest) => longshore_gc::why(metadata, rules, &repository, &digest).await?,
        None => None,
    };
    let (Some(digest), Some(verdict)) = (digest, verdict) else { bail!("{name} is not here") };
    match output {
        OutputFormat::Text => {
            println!("{repository}@{digest} {}", said(&verdict));
            if let Some(verdict) = tag {
                println!("{name} {}", said_of_tag(&verdict));
            }
        }
        OutputFormat::Json => println!(
            "{}",
            json!({
                "repository": repository.as_str(), "digest": digest.to_string(), "goes": verdict == Verdict::Goes,
                "why": said(&verdict),
                "tag": tag.map(|verdict| json!({
                    "goes": verdict.goes_by().is_some(), "rule": rule_of(&verdict), "why": said_of_tag(&verdict),
                })),
            })
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn said_of_tag(verdict: &TagVerdict<'_>) -> String {
    let only_reports = verdict.goes_by().is_some_and(|rule| rule.dry_run);
    let goes = if only_reports { "would go, but its rule only reports" } else { "goes" };
    match verdict {
        TagVerdict::NoRule => "stays: no rule of retention is for it".to_owned(),
        TagVerdict::Immutable(rule) => format!("stays: immutable by the rule {rule:?}"),
        TagVerdict::Kept(rule, by) => format!("stays: {by}, by the rule {:?}", rule.name),
        TagVerdict::Until(rule, until, by) => {
            format!("stays until {}: {by}, by the rule {:?}", time(*until), rule.name)
        }
        TagVerdict::Goes(rule) => format!("{goes}: nothing keeps it that the rule {:?} names", rule.name),
        TagVerdict::Expired(rule, _) => format!("{goes}: its annotation says so, by the rule {:?}", rule.name),
    }
}

fn rule_of<'rules>(verdict: &TagVerdict<'rules>) -> Option<&'rules str> {
    match verdict {
        TagVerdict::NoRule => None,
        TagVerdict::Immutable(rule) => Some(rule),
        TagVerdict::Kept(rule, _)
        | TagVerdict::Until(rule, ..)
        | TagVerdict::Goes(rule)
        | TagVerdict::Expired(rule, _) => Some(&rule.name),
    }
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
    for GoingTag { repository, tag, digest, rule, is_only_reported } in &preview.tags {
        let only = if *is_only_reported { " (which only reports)" } else { "" };
        let _ = writeln!(text, "goes   {repository}:{tag}  {digest}  by the rule {rule:?}{only}");
    }
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
    let tags = preview.tags.iter().map(|tag| {
        json!({
            "repository": tag.repository.as_str(), "tag": tag.tag.as_str(), "digest": tag.digest.to_string(),
            "rule": tag.rule, "only_reported": tag.is_only_reported,
        })
    });
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
        "tags": tags.collect::<Vec<_>>(),
        "going": going.collect::<Vec<_>>(),
        "staying": staying.collect::<Vec<_>>(),
        "repositories": repositories.collect::<serde_json::Map<_, _>>(),
        "freed": share(&preview.freed),
        "condemned": { "objects": preview.waiting.count, "bytes": preview.waiting.bytes },
    })
}
