//! All settings in one value.

use crate::{Auth, Database, Gc, Http, ImmutableTagsRule, Limits, Log, Manifests, Metrics, RetentionRule, Storage};
use serde::{Deserialize, Serialize};

/// All settings, one field for each section of `longshore.yaml`.
///
/// Serialising masks every [`crate::Secret`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The listener and its patience.
    pub http: Http,
    /// The metadata database.
    pub database: Database,
    /// The byte store.
    pub storage: Storage,
    /// Logins: whose, and whether any are asked for.
    pub auth: Auth,
    /// Ceilings of single requests.
    pub limits: Limits,
    /// Rules for pushed manifests.
    pub manifests: Manifests,
    /// Garbage collection.
    pub gc: Gc,
    /// Which tags stay: the first rule for a tag counts. Default: all of them.
    pub retention: Vec<RetentionRule>,
    /// Which tags may not move. Default: all may.
    pub immutable_tags: Vec<ImmutableTagsRule>,
    /// Logging.
    pub log: Log,
    /// The Prometheus endpoint.
    pub metrics: Metrics,
}

impl Settings {
    /// The database to connect to: `database.url`, or SQLite at `<storage.path>/longshore.db`. Holds the password.
    pub fn database_url(&self) -> String {
        match &self.database.url {
            Some(url) => url.expose().to_owned(),
            None => {
                let path = self.storage.path.join("longshore.db").display().to_string();
                // It is a URL: what the path holds of its syntax is written otherwise.
                format!("sqlite:{}", path.replace('%', "%25").replace('?', "%3F"))
            }
        }
    }
}
