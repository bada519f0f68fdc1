//! Structured logs on standard error: readable on a terminal, JSON elsewhere.

use anyhow::{Context as _, Result, anyhow};
use longshore_config::{Log, LogFormat};
use std::io::{IsTerminal as _, stderr};
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

/// The log level, which can be changed while the server runs.
#[derive(Debug)]
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Takes up another level.
    pub(crate) fn set(&self, directives: &str) -> Result<()> {
        self.0.reload(filter(directives)?)?;
        Ok(())
    }
}

/// Starts logging.
pub(crate) fn start(settings: &Log) -> Result<LogLevel> {
    let (filter, handle) = reload::Layer::new(filter(&settings.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr);
    let started = if is_for_people(settings) {
        registry.with(layer.with_ansi(stderr().is_terminal())).try_init()
    } else {
        registry.with(layer.json().flatten_event(true).with_current_span(true).with_span_list(false)).try_init()
    };
    started.map_err(|error| anyhow!("logging could not be started: {error}"))?;
    Ok(LogLevel(handle))
}

/// Whether lines are laid out for people, or are JSON.
pub(crate) fn is_for_people(settings: &Log) -> bool {
    match settings.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => stderr().is_terminal(),
    }
}

fn filter(directives: &str) -> Result<EnvFilter> {
    EnvFilter::builder().parse(directives).with_context(|| {
        format!("log.level {directives:?} is not understood: write for example info or longshore=debug")
    })
}
