//! `auth`: who may talk to the registry.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Logins: whose, and whether any are asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// File of users with bcrypt passwords (`htpasswd -B`); none: nobody is asked to log in.
    pub htpasswd: Option<PathBuf>,
    /// No login is asked even on an address that others can reach. Default false.
    pub open: bool,
    /// The name that clients show when they ask for a login. Default `Longshore`.
    pub realm: String,
}

impl Default for Auth {
    fn default() -> Self {
        Self { htpasswd: None, open: false, realm: "Longshore".to_owned() }
    }
}
