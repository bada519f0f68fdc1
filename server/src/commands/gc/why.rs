//! `longshore gc why`: what keeps one thing, or that it goes.

use super::time;
use crate::cli::OutputFormat;
use crate::commands::{
    output::{Teller, say},
    split_name,
};
use anyhow::{Result, bail};
use longshore_gc::{Reason, Rules, TagVerdict, Verdict, WhyBlob};
use longshore_metadata::Metadata;
use longshore_oci::{Digest, Reference, RepositoryName, Tag};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Says why a manifest or a blob stays, given as `NAME:TAG` or `NAME@DIGEST`, and what rules say of the tag.
pub(super) async fn why(metadata: &Metadata, rules: &Rules, name: &str, output: OutputFormat) -> Result<ExitCode> {
    let (repository, reference) = split_name(name)?;
    let asked = Asked { metadata, rules, repository, output };
    let is_here = match reference {
        Reference::Tag(tag) => asked.of_tag(&tag).await?,
        Reference::Digest(digest) => asked.of_manifest(&digest, None).await? || asked.of_blob(&digest).await?,
    };
    if !is_here {
        bail!("{name} is not here");
    }
    Ok(ExitCode::SUCCESS)
}

/// Where something is looked for, and how to say what was found.
struct Asked<'a> {
    metadata: &'a Metadata,
    rules: &'a Rules,
    repository: RepositoryName,
    output: OutputFormat,
}

impl Asked<'_> {
    /// Answers whether there is such a tag.
    async fn of_tag(&self, tag: &Tag) -> Result<bool> {
        let Self { metadata, rules, repository, .. } = self;
        let Some(record) = metadata.find_tag(repository, tag).await? else { return Ok(false) };
        let verdict = longshore_gc::why_tag(metadata, rules, repository, tag).await?;
        self.of_manifest(&record.digest, verdict.map(|verdict| (tag, verdict))).await
    }

    /// Answers whether there is such a manifest.
    async fn of_manifest(&self, digest: &Digest, tag: Option<(&Tag, TagVerdict<'_>)>) -> Result<bool> {
        let repository = &self.repository;
        let found = longshore_gc::why(self.metadata, self.rules, repository, digest).await?;
        let Some(verdict) = found else { return Ok(false) };
        match self.output {
            OutputFormat::Text => {
                say(&format!("{repository}@{digest} {}", said(&verdict)))?;
                if let Some((tag, verdict)) = tag {
                    say(&format!("{repository}:{tag} {}", said_of_tag(&verdict)))?;
                }
            }
            OutputFormat::Json => {
                let mut told = manifest_as_json(repository, digest, &verdict);
                told["tag"] = tag.map(|(_, verdict)| tag_as_json(&verdict)).into();
                say(&told)?;
            }
        }
        Ok(true)
    }

    /// Says of a blob what keeps it, and then of each manifest that needs it what keeps that. Answers whether the repository
    /// holds such a blob.
    async fn of_blob(&self, digest: &Digest) -> Result<bool> {
        let Self { metadata, rules, repository, output } = self;
        let Some(why) = longshore_gc::why_blob(metadata, repository, digest).await? else { return Ok(false) };
        match output {
            OutputFormat::Text => say(&format!("blob {repository}@{digest} {}", said_of_blob(&why)))?,
            OutputFormat::Json => say(&blob_as_json(repository, digest, &why))?,
        }
        let teller = Teller::default();
        let told = |manifest: &Digest, verdict: &Verdict| match output {
            OutputFormat::Text => {
                teller.tell(&format!("needed by {repository}@{manifest}, which {}", said(verdict)));
            }
            OutputFormat::Json => teller.tell(&manifest_as_json(repository, manifest, verdict)),
        };
        teller.hear(longshore_gc::users_of_blob(metadata, rules, repository, digest, told)).await?;
        Ok(true)
    }
}

fn said(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Kept(reason) => format!("stays: {reason}"),
        Verdict::Until(until, reason) => format!("stays until {}: {reason}", time(*until)),
        Verdict::Goes => "goes: nothing keeps it".to_owned(),
    }
}

fn said_of_blob(why: &WhyBlob) -> String {
    let lease = time(why.lease);
    match &why.verdict {
        Verdict::Kept(Reason::NeededBy(_)) => format!("stays: manifests need it (and its lease is until {lease})"),
        Verdict::Kept(_) => said(&why.verdict),
        Verdict::Until(..) => format!("stays until {lease}: lease; it goes then, for no manifest needs it"),
        Verdict::Goes => format!("goes with the next pass: no manifest needs it, and its lease was until {lease}"),
    }
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

fn manifest_as_json(repository: &RepositoryName, digest: &Digest, verdict: &Verdict) -> Value {
    let (until, rule) = match verdict {
        Verdict::Until(until, reason) => (Some(time(*until).to_string()), reason.rule()),
        Verdict::Kept(_) | Verdict::Goes => (None, None),
    };
    json!({
        "kind": "manifest", "repository": repository.as_str(), "digest": digest.to_string(),
        "goes": *verdict == Verdict::Goes, "why": said(verdict), "until": until, "rule": rule,
    })
}

fn blob_as_json(repository: &RepositoryName, digest: &Digest, why: &WhyBlob) -> Value {
    json!({
        "kind": "blob", "repository": repository.as_str(), "digest": digest.to_string(), "bytes": why.size,
        "goes": why.verdict == Verdict::Goes, "why": said_of_blob(why), "lease_until": time(why.lease).to_string(),
    })
}

fn tag_as_json(verdict: &TagVerdict<'_>) -> Value {
    json!({ "goes": verdict.goes_by().is_some(), "rule": rule_of(verdict), "why": said_of_tag(verdict) })
}
