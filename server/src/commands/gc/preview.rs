//! `longshore gc --dry-run`: what would go, and what stays until when and why, told while it is found.

use super::time;
use crate::cli::OutputFormat;
use crate::commands::output::{Teller, say};
use anyhow::Result;
use longshore_gc::{BlobEnd, Foreseen, GoingBlob, GoingManifest, GoingTag, Preview, Rules, Share, StayingManifest};
use longshore_metadata::{Metadata, OpenSession};
use longshore_oci::RepositoryName;
use serde_json::{Value, json};
use std::time::SystemTime;

/// So many blobs, and so many sessions, are named to people; to programs all are.
const NAMED: u64 = 100;

pub(super) async fn preview(metadata: &Metadata, rules: &Rules, output: OutputFormat) -> Result<()> {
    let (teller, mut names) = (Teller::default(), Names::default());
    let told = |foreseen: Foreseen| match output {
        OutputFormat::Text => names.tell(&foreseen, &teller),
        OutputFormat::Json => teller.tell(&as_json(&foreseen)),
    };
    let preview = teller.hear(longshore_gc::preview(metadata, rules, told)).await?;
    match output {
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
            Foreseen::Tag(_) | Foreseen::Manifest(_) | Foreseen::StayingManifest(_) => {
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
        Foreseen::Blob(blob) => blob_line(blob),
        Foreseen::Session { session: OpenSession { id, repository, received, expires_at }, is_expired } => {
            let (what, when) = if *is_expired { ("goes ", "expired") } else { ("stays", "until") };
            format!("{what}  upload {id} to {repository}  {received} bytes  {when} {}", time(*expires_at))
        }
    }
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
    let Preview { repositories, freed, leased, open, waiting } = preview;
    for (repository, share) in repositories {
        say(&format!("{repository}: {}", of(share)))?;
    }
    say(&format!("freed in the end: {}", of(freed)))?;
    if leased.blobs > 0 {
        say(&format!("of these held by a lease for now: {} blobs, {} bytes", leased.blobs, leased.bytes))?;
    }
    if open.sessions > 0 {
        say(&format!("beside these, in uploads that have time: {} uploads, {} bytes", open.sessions, open.bytes))?;
    }
    say(&format!("condemned already: {} objects, {} bytes", waiting.count, waiting.bytes))
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
    let Preview { repositories, freed, leased, open, waiting } = preview;
    let share = |Share { manifests, blobs, sessions, bytes }: &Share| json!({ "manifests": manifests, "blobs": blobs, "uploads": sessions, "bytes": bytes });
    for (repository, lost) in repositories {
        say(&json!({ "kind": "repository", "repository": repository.as_str(), "loses": share(lost) }))?;
    }
    let sums = json!({
        "kind": "sum", "freed": share(freed),
        "leased": { "blobs": leased.blobs, "bytes": leased.bytes },
        "open": { "uploads": open.sessions, "bytes": open.bytes },
        "condemned": { "objects": waiting.count, "bytes": waiting.bytes },
    });
    say(&sums)
}
