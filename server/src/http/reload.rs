//! What can change while the server runs: certificate, passwords, log level. Everything else needs a restart, and a
//! reload says so.

use super::tls::Certificate;
use crate::{app::App, telemetry::logs::LogLevel};
use anyhow::Result;
use longshore_config::Settings;
use std::sync::Arc;

/// The parts that take new settings.
#[derive(Debug)]
pub(crate) struct Reloads {
    certificate: Option<Arc<Certificate>>,
    app: Arc<App>,
    log_level: LogLevel,
}

impl Reloads {
    /// Reads what has to be read before anything is served.
    pub(crate) fn new(settings: &Settings, app: Arc<App>, log_level: LogLevel) -> Result<Self> {
        let certificate = settings.http.tls.as_ref().map(Certificate::read).transpose()?.map(Arc::new);
        Ok(Self { certificate, app, log_level })
    }

    /// The certificate to serve with, if there is TLS.
    pub(crate) fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }

    /// Takes up what can change. Each part that fails keeps what it had, and says so.
    pub(crate) fn apply(&self, settings: &Settings) {
        if let (Some(certificate), Some(files)) = (&self.certificate, &self.app.settings.http.tls) {
            report("http.tls", certificate.reload(files));
        }
        if let Some(outcome) = self.app.policy.reload() {
            report("auth.htpasswd", outcome.map(drop).map_err(anyhow::Error::from));
        }
        report("log.level", self.log_level.set(&settings.log.level));
        let running = Settings { log: settings.log.clone(), ..self.app.settings.clone() };
        if running != *settings {
            tracing::warn!("other settings than log.level have changed: they are taken up by a restart");
        }
    }
}

fn report(key: &str, outcome: Result<()>) {
    match outcome {
        Ok(()) => tracing::info!(key, "reloaded"),
        Err(error) => tracing::error!(key, error = format!("{error:#}"), "not reloaded: the old one stays in force"),
    }
}
