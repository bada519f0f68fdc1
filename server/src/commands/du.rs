//! `longshore du`: where the bytes are.

use super::{output::say, split_name};
use crate::cli::{DuOptions, OutputFormat, SettingsSources};
use anyhow::{Context as _, Result, bail};
use longshore_config::Settings;
use longshore_gc::{LayerUsage, TagUsage, of_layers, of_tags};
use longshore_metadata::{Contents, Metadata, NamespaceUsage, RepositorySize};
use longshore_oci::{Reference, RepositoryName};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Rows that are read together.
const PAGE: u32 = 200;

pub(super) async fn run(sources: &SettingsSources, options: &DuOptions) -> Result<ExitCode> {
    super::on_database(sources, async |settings, metadata| act(settings, metadata, options).await).await
}

async fn act(settings: &Settings, metadata: &Metadata, options: &DuOptions) -> Result<ExitCode> {
    match &options.name {
        None if options.namespaces => namespaces(settings, metadata, options.output).await?,
        None => repositories(metadata, options.output).await?,
        Some(name) => inside(metadata, name, options.output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for people, or a value for programs.
fn tell(output: OutputFormat, line: impl FnOnce() -> String, value: impl FnOnce() -> Value) -> Result<()> {
    match output {
        OutputFormat::Text => say(&line()),
        OutputFormat::Json => say(&value()),
    }
}

async fn repositories(metadata: &Metadata, output: OutputFormat) -> Result<()> {
    tell_head(output, &["LOGICAL", "UNIQUE", "SHARED", "MANIFESTS", "BLOBS", "REPOSITORY"])?;
    let (mut after, mut logical) = (String::new(), 0);
    loop {
        let page = metadata.repository_sizes(&after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.repository.as_str().to_owned();
        for size in &page {
            logical += size.manifest_bytes + size.blob_bytes;
            tell_repository(size, output)?;
        }
    }
    let stored = metadata.bytes_of_blobs().await?;
    tell(
        output,
        || format!("{logical} bytes in all repositories; {stored} bytes of blobs, each once"),
        || json!({ "logical": logical, "stored": stored }),
    )
}

fn tell_head(output: OutputFormat, columns: &[&str]) -> Result<()> {
    if output == OutputFormat::Text {
        let (name, numbers) = columns.split_last().map_or(("", columns), |(name, numbers)| (*name, numbers));
        let numbers: String = numbers.iter().map(|column| format!("{column:>16}")).collect();
        say(&format!("{numbers}  {name}"))?;
    }
    Ok(())
}

fn tell_repository(size: &RepositorySize, output: OutputFormat) -> Result<()> {
    let logical = size.manifest_bytes + size.blob_bytes;
    let unique = size.manifest_bytes + size.unique_bytes;
    let shared = size.blob_bytes - size.unique_bytes.min(size.blob_bytes);
    let (manifests, blobs, repository) = (size.manifests, size.blobs, &size.repository);
    tell(
        output,
        || format!("{logical:>16}{unique:>16}{shared:>16}{manifests:>16}{blobs:>16}  {repository}"),
        || {
            json!({
                "repository": repository.as_str(), "logical": logical, "unique": unique, "shared": shared,
                "manifests": manifests, "blobs": blobs,
            })
        },
    )
}

/// Those with a repository or a quota of their own. Each is counted now, whatever was added up; nothing is written.
async fn namespaces(settings: &Settings, metadata: &Metadata, output: OutputFormat) -> Result<()> {
    tell_head(output, &["LOGICAL", "STORED", "QUOTA", "NAMESPACE"])?;
    let quotas = super::quotas(settings);
    let mut names = metadata.list_namespaces().await?;
    names.extend(settings.limits.quotas.iter().filter_map(|quota| quota.namespace.clone()));
    for namespace in names {
        let NamespaceUsage { logical, stored } = metadata.measure_namespace(&namespace).await?;
        let quota = quotas.of(&namespace);
        let shown = quota.map_or_else(|| "-".to_owned(), |quota| quota.to_string());
        tell(
            output,
            || format!("{logical:>16}{stored:>16}{shown:>16}  {namespace}"),
            || json!({ "namespace": namespace, "logical": logical, "stored": stored, "quota": quota }),
        )?;
    }
    Ok(())
}

/// Of a repository's tags, or of one tag's layers.
async fn inside(metadata: &Metadata, name: &str, output: OutputFormat) -> Result<()> {
    let (repository, tag) = match name.parse::<RepositoryName>() {
        Ok(repository) => (repository, None),
        Err(_) => match split_name(name)? {
            (repository, Reference::Tag(tag)) => (repository, Some(tag)),
            (_, Reference::Digest(_)) => bail!("write it as NAME or NAME:TAG"),
        },
    };
    let contents = metadata.contents_of(&repository).await?.with_context(|| format!("{repository} is not here"))?;
    match tag {
        None => tell_tags(&contents, output)?,
        Some(tag) => {
            let layers = of_layers(&contents, &tag).with_context(|| format!("{name} is not here"))?;
            tell_layers(&layers, output)?;
        }
    }
    Ok(())
}

fn tell_tags(contents: &Contents, output: OutputFormat) -> Result<()> {
    tell_head(output, &["LOGICAL", "UNIQUE", "SHARED", "FREED", "TAG"])?;
    for TagUsage { tag, digest, logical, unique, freed } in of_tags(contents) {
        let shared = logical - unique;
        tell(
            output,
            || format!("{logical:>16}{unique:>16}{shared:>16}{freed:>16}  {tag}"),
            || {
                json!({
                    "tag": tag.as_str(), "digest": digest.to_string(), "logical": logical, "unique": unique,
                    "shared": shared, "freed": freed,
                })
            },
        )?;
    }
    Ok(())
}

fn tell_layers(layers: &[LayerUsage], output: OutputFormat) -> Result<()> {
    tell_head(output, &["SIZE", "TAGS", "REPOSITORIES", "BLOB"])?;
    for LayerUsage { digest, size, tags, repositories } in layers {
        tell(
            output,
            || format!("{size:>16}{tags:>16}{repositories:>16}  {digest}"),
            || json!({ "digest": digest.to_string(), "size": size, "tags": tags, "repositories": repositories }),
        )?;
    }
    Ok(())
}
