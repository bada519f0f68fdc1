//! `longshore serve`: put the parts together, serve until told to stop, leave nothing half done.

use crate::app::{App, Readiness};
use crate::cli::SettingsSources;
use crate::http::{Listener, Reloads};
use crate::telemetry::{AccessLines, CacheMetrics, Metrics, ObjectStoreMetrics, ProcessMetrics, PullMetrics, logs};
use anyhow::{Context as _, Result};
use longshore_auth::{Htpasswd, Policy};
use longshore_config::{Settings, SparsePolicy};
use longshore_gc::{Collector, Scrubber, pair};
use longshore_metadata::{Lifetimes, Metadata};
use longshore_oci::ManifestLimits;
use longshore_registry::{Registry, Rules};
use longshore_storage::Storage;
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(super) async fn run(sources: &SettingsSources) -> Result<ExitCode> {
    let loaded = super::load(sources)?;
    let settings = loaded.settings;
    let log_level = logs::start(&settings.log)?;
    raise_file_limit();
    let storage = Storage::open(&settings.storage).await?;
    super::make_storage_path(&settings)?;
    let _alone = super::hold_database(&settings)?;
    let metadata = super::connect(&settings).await?;
    metadata.migrate().await?;
    pair(&metadata, &storage).await?;
    metadata.set_lifetimes(lifetimes(&settings)).await?;

    let mappings = storage.mappings();
    let registry = Registry::new(metadata.clone(), storage.clone(), rules(&settings));
    let metrics = Arc::new(Metrics::new());
    metrics.add(ProcessMetrics::starting_now());
    metrics.add(CacheMetrics { reads: metadata.clone(), segments: storage.clone() });
    metrics.add(ObjectStoreMetrics(storage.clone()));
    metrics.add(PullMetrics(registry.clone()));
    let collector = Collector::new(metadata.clone(), storage.clone(), super::gc::rules(&settings));
    let app = Arc::new(App {
        registry: registry.clone(),
        policy: policy(&settings)?,
        metrics: metrics.clone(),
        access_lines: access_lines(&settings)?,
        readiness: Readiness::default(),
        settings: settings.clone(),
    });
    let reloads = Reloads::new(&settings, app.clone(), log_level)?;
    let listener = Listener::bind(&settings, app.clone(), mappings, &reloads).await?;
    announce(&settings, &metadata, &storage, &listener);

    let collecting = tokio::spawn({
        let (interval, metrics) = (settings.gc.interval, metrics.clone());
        async move {
            let report = |event: &_| metrics.collecting(event);
            collector.run(interval, report, |collected, outcome| metrics.collected(collected, outcome)).await;
        }
    });
    let scrubbing = tokio::spawn(scrub(settings.clone(), metadata.clone(), storage.clone(), metrics.clone()));
    let watching = tokio::spawn(watch_backups(storage.clone(), metrics.clone()));
    let stop = CancellationToken::new();
    let counting = tokio::spawn(write_pulls(registry, settings.database.pull_statistics, metrics, stop.clone()));
    let reloading = tokio::spawn(reload_on_hangup(sources_again(sources), reloads));
    let serving = tokio::spawn(listener.serve());

    until_told_to_stop().await?;
    drain(&app, &settings, serving).await;
    collecting.abort();
    scrubbing.abort();
    watching.abort();
    reloading.abort();
    app.registry.settle().await;
    stop.cancel();
    write_last_pulls(counting).await;
    metadata.close().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Between two looks whether it is time to read all objects again.
const SCRUB_LOOKS: Duration = Duration::from_secs(60);

/// Reads all objects again and again, unless it shall not, and watches how much is damaged, whoever finds that.
async fn scrub(settings: Settings, metadata: Metadata, storage: Storage, metrics: Arc<Metrics>) {
    let rules = super::scrub::rules(&settings);
    let is_reading = !rules.period.is_zero();
    let scrubber = Scrubber::new(metadata, storage, rules);
    let reading = async {
        if is_reading {
            scrubber.run(SCRUB_LOOKS, |outcome| metrics.scrubbed(outcome)).await;
        }
    };
    let watching = async {
        let mut ticks = tokio::time::interval(SCRUB_LOOKS);
        loop {
            ticks.tick().await;
            metrics.look_for_damage(&scrubber, is_reading).await;
        }
    };
    tokio::join!(reading, watching);
}

/// Between two looks which backups are in the store: each lists their pieces.
const BACKUP_LOOKS: Duration = Duration::from_secs(600);

/// Watches how old the newest backup is, whoever takes them.
async fn watch_backups(storage: Storage, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(BACKUP_LOOKS);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        metrics.look_for_backups(&storage).await;
    }
}

/// How long the database may take for the last pull statistics: nobody waits for the end of a process on their account.
const LAST_PULLS: Duration = Duration::from_secs(5);

async fn write_pulls(registry: Registry, interval: Duration, metrics: Arc<Metrics>, stop: CancellationToken) {
    registry.write_pulls(interval, stop.cancelled(), |error| metrics.pulls_not_written(error)).await;
}

async fn write_last_pulls(counting: JoinHandle<()>) {
    if tokio::time::timeout(LAST_PULLS, counting).await.is_err() {
        tracing::warn!("the last pull statistics were not written: the database takes too long");
    }
}

/// Each connection and each open layer is a file, and the usual soft limit of 1,024 is there for programs of another
/// age. What may not be raised stays.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, ?limit, "the limit of open files could not be raised");
    }
}

/// Not ready at once; reachable for `drain_delay`; then no new connections, and `drain_timeout` for what is under way.
async fn drain(app: &App, settings: &Settings, serving: JoinHandle<()>) {
    app.readiness.leave();
    tracing::info!(delay = ?settings.http.drain_delay, timeout = ?settings.http.drain_timeout, "draining");
    tokio::time::sleep(settings.http.drain_delay).await;
    app.readiness.close_listeners();
    if serving.await.is_err() {
        tracing::error!("the listener ended abnormally");
    }
}

async fn until_told_to_stop() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// SIGHUP: takes up what can change while running. A bad file changes nothing.
async fn reload_on_hangup(sources: SettingsSources, reloads: Reloads) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        match super::load(&sources) {
            Ok(loaded) => reloads.apply(&loaded.settings),
            Err(error) => tracing::error!(%error, "the settings were not reloaded: the old ones stay in force"),
        }
    }
    Ok(())
}

fn sources_again(sources: &SettingsSources) -> SettingsSources {
    SettingsSources { config: sources.config.clone(), set: sources.set.clone() }
}

/// Says on standard output what is served, and something to try.
fn announce(settings: &Settings, metadata: &Metadata, storage: &Storage, listener: &Listener) {
    let address = listener.address();
    let scheme = if settings.http.tls.is_some() { "https" } else { "http" };
    let host = if address.ip().is_loopback() { format!("localhost:{}", address.port()) } else { address.to_string() };
    println!(
        "Longshore {} serves {scheme}://{address} ({}, objects in {})",
        env!("CARGO_PKG_VERSION"),
        metadata.engine(),
        storage.place(),
    );
    println!("Try:  docker tag alpine {host}/alpine && docker push {host}/alpine");
}

/// Where access lines go by a way of their own: not to people, who read them between the other lines.
fn access_lines(settings: &Settings) -> Result<Option<AccessLines>> {
    let is_wanted = settings.log.access && !logs::is_for_people(&settings.log);
    is_wanted.then(AccessLines::start).transpose().context("the access log cannot be started")
}

/// How long things are promised, as the settings say it.
pub(super) fn lifetimes(settings: &Settings) -> Lifetimes {
    Lifetimes {
        promise: settings.gc.promise,
        review_delay: settings.gc.promise,
        object_delay: settings.gc.object_delay,
        undo: settings.gc.undo,
    }
}

/// The registry's rules, as the settings say them.
pub(super) fn rules(settings: &Settings) -> Rules {
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    Rules {
        inline_max: bytes(settings.storage.inline_max.bytes()),
        blob_max: settings.limits.blob_size.map(longshore_config::ByteSize::bytes),
        manifest_max: bytes(settings.limits.manifest_size.bytes()),
        manifest_limits: ManifestLimits::default(),
        tags_per_push: settings.limits.tags_per_push,
        immutable_tags: super::tags::immutable_tags(settings),
        allow_sparse: settings.manifests.sparse_indexes == SparsePolicy::Allow,
        upload_lifetime: settings.gc.upload_expiry,
        page_max: settings.limits.page_size,
        count_pulls: !settings.database.pull_statistics.is_zero(),
    }
}

fn policy(settings: &Settings) -> Result<Policy> {
    match &settings.auth.htpasswd {
        None => Ok(Policy::open()),
        Some(path) => {
            let htpasswd = Htpasswd::read(path).with_context(|| format!("auth.htpasswd {}", path.display()))?;
            Ok(Policy::htpasswd(htpasswd))
        }
    }
}
