//! `log`: what is logged and in which form.

use serde::{Deserialize, Serialize};

/// Logging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level, or a list of `target=level` directives as tracing's `EnvFilter` reads them. Default `info`.
    pub level: String,
    /// The form of a line. Default `auto`.
    pub format: LogFormat,
    /// One line for each request. Default true.
    pub access: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto, access: true }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `Pretty` on a terminal, `Json` elsewhere.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object per line, for log collectors.
    Json,
}
