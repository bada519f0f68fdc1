//! The subcommands.

mod backup;
mod config;
mod du;
mod fsck;
mod gc;
mod health;
mod migrate;
mod output;
mod restore;
mod scrub;
mod serve;
mod tag;
mod tags;

use crate::cli::{Arguments, Command, SettingsSources};
use anyhow::{Context as _, Result};
use longshore_config::{Loaded, Quota, Settings, Sources};
use longshore_gc::pair;
use longshore_metadata::{ConnectOptions, Metadata, Quotas};
use longshore_oci::{Reference, RepositoryName};
use longshore_storage::{ProcessLock, Storage};
use output::NobodyReads;
use std::{ffi::OsString, process::ExitCode, time::Duration};

/// Exit code of a check that found something.
const FOUND: u8 = 3;

/// How long blocking work may go on after all else has ended.
const LAST_WORK: Duration = Duration::from_secs(5);

/// Runs what the command line asks for.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    match act(arguments) {
        Err(error) if error.is::<NobodyReads>() => Ok(ExitCode::SUCCESS),
        outcome => outcome,
    }
}

fn act(arguments: Arguments) -> Result<ExitCode> {
    let sources = arguments.sources;
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => in_runtime(serve::run(&sources)),
        Command::Migrate { action } => in_runtime(migrate::run(&sources, action)),
        Command::Tag(options) => in_runtime(tag::run(&sources, &options)),
        Command::Gc(options) => in_runtime(gc::run(&sources, &options)),
        Command::Scrub(options) => in_runtime(scrub::run(&sources, &options)),
        Command::Fsck(options) => in_runtime(fsck::run(&sources, &options)),
        Command::Du(options) => in_runtime(du::run(&sources, &options)),
        Command::Backup(options) => in_runtime(backup::run(&sources, &options)),
        Command::Restore(options) => in_runtime(restore::run(&sources, &options)),
        Command::Config { action } => config::run(&sources, action),
        Command::Health => in_runtime(health::run(&sources)),
    }
}

fn in_runtime(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(command);
    // What is left is a thread that waits for a dead disk. It would wait for ever.
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}

/// Loads the settings from everywhere they may stand.
fn load(sources: &SettingsSources) -> Result<Loaded, longshore_config::ConfigError> {
    Settings::load(Sources { file: sources.config.as_deref(), environment: environment(), flags: sources.set.clone() })
}

/// Our part of the environment. What is not text in it cannot be meant for us.
fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with("LONGSHORE_")).collect()
}

/// Runs a command on the database that the settings name, and lets go of that whatever comes of it.
async fn on_database(
    sources: &SettingsSources,
    command: impl AsyncFnOnce(&Settings, &Metadata) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let settings = load(sources)?.settings;
    let metadata = connect(&settings).await?;
    let code = command(&settings, &metadata).await;
    metadata.close().await;
    code
}

/// Brings the database up to date and opens the store that belongs to it, for a command that changes one by what it finds in the
/// other.
async fn open_pair(settings: &Settings, metadata: &Metadata) -> Result<Storage> {
    metadata.migrate().await?;
    let storage = Storage::open_uncached(&settings.storage).await?;
    pair(metadata, &storage).await?;
    Ok(storage)
}

/// Connects to the database that the settings name.
async fn connect(settings: &Settings) -> Result<Metadata> {
    let options = ConnectOptions {
        url: settings.database_url(),
        max_connections: settings.database.max_connections,
        acquire_timeout: settings.database.acquire_timeout,
        cache_size: settings.database.cache_size.bytes(),
    };
    make_storage_path(settings)?;
    let metadata = Metadata::connect(&options).await.context("the database of database.url cannot be opened")?;
    Ok(metadata.with_quotas(quotas(settings)))
}

fn quotas(settings: &Settings) -> Quotas {
    let quotas = &settings.limits.quotas;
    let of_its_own = |quota: &Quota| Some((quota.namespace.clone()?, quota.bytes.bytes()));
    let others = quotas.iter().find(|quota| quota.namespace.is_none()).map(|quota| quota.bytes.bytes());
    Quotas::new(quotas.iter().filter_map(of_its_own).collect(), others)
}

/// The folder of an embedded database, unless `database.url` names another one.
fn make_storage_path(settings: &Settings) -> Result<()> {
    if settings.database_url().starts_with("sqlite:") {
        std::fs::create_dir_all(&settings.storage.path)
            .with_context(|| format!("storage.path {} cannot be made", settings.storage.path.display()))?;
    }
    Ok(())
}

/// An embedded database has one server, wherever the objects are: what one process keeps in memory of it, another could
/// not know to be wrong.
fn hold_database(settings: &Settings) -> Result<Option<ProcessLock>> {
    let file = Metadata::embedded_file(&settings.database_url());
    Ok(file.map(|file| ProcessLock::of_file(&file)).transpose()?)
}

/// The repository of `NAME:TAG` or `NAME@DIGEST`, and what is meant in it.
fn split_name(name: &str) -> Result<(RepositoryName, Reference)> {
    let at = name.find('@').or_else(|| name.rfind(':')).context("write it as NAME:TAG or NAME@DIGEST")?;
    let repository = name[..at].parse().with_context(|| format!("{:?} is no repository", &name[..at]))?;
    let reference = name[at + 1..].parse().with_context(|| format!("{:?} is no tag or digest", &name[at + 1..]))?;
    Ok((repository, reference))
}
