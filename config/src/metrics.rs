//! `metrics`: the Prometheus endpoint.

use crate::address;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The Prometheus endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Whether `/metrics` is served. Default true.
    pub enabled: bool,
    /// A listener of its own for `/metrics`; none: the main listener serves it.
    #[serde(with = "address::optional")]
    pub address: Option<SocketAddr>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: true, address: None }
    }
}
