//! `longshore gc --dry-run`: what would go, and what stays until when and why, told while it is found.

use super::time;
use crate::cli::{GcOptions, OutputFormat};
use crate::commands::output::{Teller, say};
use anyhow::Result;
use longshore_gc::{
    BlobEnd, Foreseen, GoingBlob, GoingManifest, GoingTag, Kept, KeptCounts, Preview, Reason, Rules, Share,
    StayingManifest,
};
use longshore_metadata::{Metadata, OpenSession};
use longshore_oci::RepositoryName;
use serde_json::{Value, json};
use std::time::SystemTime;

/// So many blobs, and so many sessions, are named to people; to programs all are.
const NAMED: u64 = 100;

pub(super) async fn preview(metadata: &Metadata, rules: &Rules, options: &GcOptions) -> Result<()> {
    let (teller, mut names) = (Teller::default(), Names::default());
    let told = |foreseen: Foreseen| match (&foreseen, options.output) {
        (Foreseen::Kept(_), _) if !options.kept => {}
        (_, OutputFormat::Text) => names.tell(&foreseen, &teller),
        (_, OutputFormat::Json) => teller.tell(&as_json(&foreseen)),
    };
    let preview = teller.hear(longshore_gc::preview(metadata, rules, told)).await?;
    match options.output {
        OutputFormat::Text => {
            names.say_rest()?;
            say_sums(&preview)
        }
        OutputFormat::Json => say_json_sums(&preview),
    }
}

/// How many were told.
#[derive(Debug, Default)]
struct Names {
    blobs: u64,
    sessions: u64,
}

impl Names {
    fn tell(&mut self, foreseen: &Foreseen, teller: &Teller) {
        let count = match foreseen {
            Foreseen::Blob(_) => &mut self.blobs,
            Foreseen::Session { .. } => &mut self.sessions,
            Foreseen::Tag(_) | Foreseen::Manifest(_) | Foreseen::StayingManifest(_) | Foreseen::Kept(_) => {
                return teller.tell(&line(foreseen));
            }
        };
        *count += 1;
        if *count <= NAMED {
            teller.tell(&line(foreseen));
        }
    }

    fn say_rest(&self) -> Result<()> {
        for (count, what) in [(self.sessions, "uploads"), (self.blobs, "blobs")] {
            if count > NAMED {
                say(&format!("and {} more {what}: --output json names each", count - NAMED))?;
            }
        }
        Ok(())
    }
}

fn line(foreseen: &Foreseen) -> String {
    match foreseen {
        Foreseen::Tag(GoingTag { repository, tag, digest, rule, is_only_reported }) => {
            let only = if *is_only_reported { " (which only reports)" } else { "" };
            format!("goes   {repository}:{tag}  {digest}  by the rule {rule:?}{only}")
        }
        Foreseen::Manifest(GoingManifest { repository, digest, since, .. }) => {
            let why =
                since.map_or("with the last that keeps it".to_owned(), |since| format!("unkept since {}", time(since)));
            format!("goes   {repository}@{digest}  {why}")
        }
        Foreseen::StayingManifest(StayingManifest { repository, digest, until, reason, .. }) => {
            format!("stays  {repository}@{digest}  until {}: {reason}", time(*until))
        }
        Foreseen::Kept(Kept { repository, digest, reason, .. }) => {
            format!("kept   {repository}@{digest}  {}", why_kept(reason.as_ref()))
        }
        Foreseen::Blob(blob) => blob_line(blob),
        Foreseen::Session { session: OpenSession { id, repository, received, expires_at }, is_expired } => {
            let (what, when) = if *is_expired { ("goes ", "expired") } else { ("stays", "until") };
            format!("{what}  upload {id} to {repository}  {received} bytes  {when} {}", time(*expires_at))
        }
    }
}

fn why_kept(reason: Option<&Reason>) -> String {
    reason.map_or_else(|| "more than what goes".to_owned(), Reason::to_string)
}

fn blob_line(blob: &GoingBlob) -> String {
    let GoingBlob { repository, digest, size, when, .. } = blob;
    let name = repository.as_ref().map_or_else(|| digest.to_string(), |repository| format!("{repository}@{digest}"));
    let (what, when) = match when {
        BlobEnd::Unheld => ("goes ", "no repository holds it".to_owned()),
        BlobEnd::LeaseEnded(ended) => ("goes ", format!("lease until {}, and no manifest needs it", time(*ended))),
        BlobEnd::LeaseEnds(until) => ("stays", format!("lease until {}", time(*until))),
        BlobEnd::WithManifests => ("goes ", "with the last manifest that needs it".to_owned()),
    };
    format!("{what}  blob {name}  {size} bytes  {when}")
}

fn say_sums(preview: &Preview) -> Result<()> {
    let Preview { repositories, freed, staying, leased, open, waiting, kept } = preview;
    if let Some(kept) = kept_line(kept) {
        say(&kept)?;
    }
    for (repository, share) in repositories {
        say(&format!("{repository}: {}", of(share)))?;
    }
    say(&format!("freed in the end: {}", of(freed)))?;
    if staying.manifests > 0 {
        let Share { manifests, bytes, .. } = staying;
        say(&format!("of these in manifests that stay for now: {manifests} manifests, {bytes} bytes"))?;
    }
    if leased.blobs > 0 {
        say(&format!("of these held by a lease for now: {} blobs, {} bytes", leased.blobs, leased.bytes))?;
    }
    if open.sessions > 0 {
        say(&format!("beside these, in uploads that have time: {} uploads, {} bytes", open.sessions, open.bytes))?;
    }
    say(&format!("condemned already: {} objects, {} bytes", waiting.count, waiting.bytes))
}

/// How many are kept by what, if any are.
fn kept_line(kept: &KeptCounts) -> Option<String> {
    let KeptCounts { by_tag, by_index, by_subject, by_rest } = kept;
    let counts =
        [(by_tag, "a tag"), (by_index, "an index"), (by_subject, "a subject"), (by_rest, "more than what goes")];
    let parts = counts.into_iter().filter(|(count, _)| **count > 0).map(|(count, what)| format!("{count} by {what}"));
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| format!("kept: {}", parts.join(", ")))
}

fn of(share: &Share) -> String {
    let Share { manifests, blobs, sessions, bytes } = share;
    format!("{manifests} manifests, {blobs} blobs, {sessions} uploads, {bytes} bytes")
}

fn as_json(foreseen: &Foreseen) -> Value {
    let text = |time_of: SystemTime| time(time_of).to_string();
    match foreseen {
        Foreseen::Tag(GoingTag { repository, tag, digest, rule, is_only_reported }) => json!({
            "kind": "tag", "goes": true, "repository": repository.as_str(), "tag": tag.as_str(),
            "digest": digest.to_string(), "rule": rule, "only_reported": is_only_reported,
        }),
        Foreseen::Manifest(GoingManifest { repository, digest, size, since }) => json!({
            "kind": "manifest", "goes": true, "repository": repository.as_str(), "digest": digest.to_string(),
            "bytes": size, "unkept_since": since.map(text),
        }),
        Foreseen::StayingManifest(StayingManifest { repository, digest, size, until, reason }) => json!({
            "kind": "manifest", "goes": false, "repository": repository.as_str(), "digest": digest.to_string(),
            "bytes": size, "until": text(*until), "why": reason.to_string(), "rule": reason.rule(),
        }),
        Foreseen::Kept(Kept { repository, digest, size, reason }) => json!({
            "kind": "kept", "goes": false, "repository": repository.as_str(), "digest": digest.to_string(),
            "bytes": size, "why": why_kept(reason.as_ref()),
        }),
        Foreseen::Blob(blob) => blob_as_json(blob),
        Foreseen::Session { session: OpenSession { id, repository, received, expires_at }, is_expired } => json!({
            "kind": "upload", "goes": is_expired, "repository": repository.as_str(), "upload": id.to_string(),
            "bytes": received, "expires_at": text(*expires_at),
        }),
    }
}

fn blob_as_json(blob: &GoingBlob) -> Value {
    let GoingBlob { repository, digest, size, when, is_freed } = blob;
    let (goes, why, lease) = match when {
        BlobEnd::Unheld => (true, "unheld", None),
        BlobEnd::LeaseEnded(ended) => (true, "unneeded", Some(*ended)),
        BlobEnd::LeaseEnds(until) => (false, "lease", Some(*until)),
        BlobEnd::WithManifests => (true, "with its manifests", None),
    };
    json!({
        "kind": "blob", "goes": goes, "repository": repository.as_ref().map(RepositoryName::as_str),
        "digest": digest.to_string(), "bytes": size, "why": why,
        "lease_until": lease.map(|lease| time(lease).to_string()), "freed": is_freed,
    })
}

fn say_json_sums(preview: &Preview) -> Result<()> {
    let Preview { repositories, freed, staying, leased, open, waiting, kept } = preview;
    let share = |Share { manifests, blobs, sessions, bytes }: &Share| json!({ "manifests": manifests, "blobs": blobs, "uploads": sessions, "bytes": bytes });
    for (repository, lost) in repositories {
        say(&json!({ "kind": "repository", "repository": repository.as_str(), "loses": share(lost) }))?;
    }
    let sums = json!({
        "kind": "sum", "freed": share(freed),
        "staying": { "manifests": staying.manifests, "bytes": staying.bytes },
        "leased": { "blobs": leased.blobs, "bytes": leased.bytes },
        "open": { "uploads": open.sessions, "bytes": open.bytes },
        "condemned": { "objects": waiting.count, "bytes": waiting.bytes },
        "kept": { "tag": kept.by_tag, "index": kept.by_index, "subject": kept.by_subject, "rest": kept.by_rest },
    });
    say(&sums)
}
