//! `longshore tag history|show|restore`: a tag's past.

use super::{FOUND, output::say};
use crate::cli::{OutputFormat, SettingsSources, TagAction, TagOptions};
use anyhow::{Context as _, Result, bail};
use longshore_metadata::TagChange;
use longshore_oci::{Digest, Reference, RepositoryName, Tag};
use longshore_registry::Registry;
use longshore_storage::Storage;
use serde_json::json;
use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// Whom the history names where a tag was restored from here.
const OPERATOR: &str = "longshore tag restore";

pub(super) async fn run(sources: &SettingsSources, options: &TagOptions) -> Result<ExitCode> {
    super::on_database(sources, async |settings, metadata| {
        // What another process has in memory of an embedded database would be wrong after a change from here.
        let is_change = matches!(options.action, TagAction::Restore { .. });
        let _alone = is_change.then(|| super::hold_database(settings)).transpose().context(
            "the server that has this database open would not hear of the change: let a client tag the digest that \
         `longshore tag show` tells, or stop the server first",
        )?;
        // A tag's past is in the database alone, and no object is written or read: a folder that a server holds will do, and
        // so will one that is not there yet.
        let storage = match Storage::look(&settings.storage).await {
            Ok(storage) => storage,
            Err(_) => Storage::open_uncached(&settings.storage).await?,
        };
        let registry = Registry::new(metadata.clone(), storage, super::serve::rules(settings));
        act(&registry, options).await
    })
    .await
}

async fn act(registry: &Registry, options: &TagOptions) -> Result<ExitCode> {
    match &options.action {
        TagAction::History { name, limit } => {
            let (repository, tag) = split(name)?;
            let changes = registry.tag_history(&repository, &tag, *limit).await?;
            if changes.is_empty() {
                bail!("{name} is not here, and was not for as long as is known (gc.tag_history)");
            }
            tell(&changes, options.output)?;
            Ok(ExitCode::SUCCESS)
        }
        TagAction::Show { name, at } => {
            let (repository, tag) = split(name)?;
            let change = registry.tag_at(&repository, &tag, time(at.as_deref())?).await?;
            tell(std::slice::from_ref(&change), options.output)?;
            Ok(if change.digest.is_some() && change.is_here { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
        }
        TagAction::Restore { name, at, to } => {
            let (repository, tag) = split(name)?;
            let digest: Digest = match to {
                Some(digest) => digest.parse().with_context(|| format!("{digest:?} is no digest"))?,
                None => {
                    let change = registry.tag_at(&repository, &tag, time(at.as_deref())?).await?;
                    change.digest.with_context(|| format!("{name} was deleted then: choose an earlier time"))?
                }
            };
            registry.restore_tag(&repository, &tag, &digest, Some(OPERATOR)).await?;
            say(&format!("{repository}:{tag} names {digest}"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn split(name: &str) -> Result<(RepositoryName, Tag)> {
    match super::split_name(name)? {
        (repository, Reference::Tag(tag)) => Ok((repository, tag)),
        (_, Reference::Digest(digest)) => bail!("{digest} is no tag: write it as NAME:TAG"),
    }
}

/// A time, or how long ago it was; now where nothing is said.
fn time(text: Option<&str>) -> Result<SystemTime> {
    let Some(text) = text else { return Ok(far_ahead()) };
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).with_context(|| format!("{text} ago is before time began"));
    }
    let time = humantime::parse_rfc3339_weak(text);
    time.with_context(|| format!("{text:?} is no time: write 2026-11-20T08:00:00Z, or how long ago, such as 3h"))
}

/// Later than any change, whatever the database's clock says.
fn far_ahead() -> SystemTime {
    SystemTime::now() + Duration::from_secs(100 * 365 * 24 * 3600)
}

fn tell(changes: &[TagChange], output: OutputFormat) -> Result<()> {
    for change in changes {
        // To the microsecond: `--at` with this time means this change.
        let at = humantime::format_rfc3339_micros(change.at);
        let digest = change.digest.map(|digest| digest.to_string());
        match output {
            OutputFormat::Text => {
                let by = change.by.as_deref().unwrap_or("-");
                say(&format!("{at}  {}  {by}{}", digest.as_deref().unwrap_or("deleted"), why_not(change)))?;
            }
            OutputFormat::Json => say(&json!({
                "at": at.to_string(), "digest": digest, "by": change.by, "can_be_pulled": change.is_here,
                "can_be_restored": change.is_here || change.is_restorable,
            }))?,
        }
    }
    Ok(())
}

/// Why what a tag named cannot be pulled.
fn why_not(change: &TagChange) -> &'static str {
    match change {
        TagChange { digest: None, .. } | TagChange { is_here: true, .. } => "",
        TagChange { is_restorable: true, .. } => "  (deleted: `longshore tag restore` brings it back)",
        _ => "  (gone)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_how_long_ago() {
        let date = time(Some("2026-11-20T08:00:00Z")).unwrap();
        assert_eq!(humantime::format_rfc3339_seconds(date).to_string(), "2026-11-20T08:00:00Z");
        assert_eq!(time(Some("2026-11-20 08:00:00")).unwrap(), date);
        let ago = time(Some("3h")).unwrap().elapsed().unwrap();
        assert_eq!(ago.as_secs() / 3600, 3);
        assert!(time(None).unwrap() > SystemTime::now());
        assert!(time(Some("yesterday")).unwrap_err().to_string().contains("how long ago"));
    }

    #[test]
    fn a_name_has_a_tag() {
        let (repository, tag) = split("team/app:v1").unwrap();
        assert_eq!((repository.as_str(), tag.as_str()), ("team/app", "v1"));
        for wrong in ["app", "app:", ":v1", "App:v1", "app@sha256:abc"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
