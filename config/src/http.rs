//! `http`: where the server listens, TLS, and how long it waits for clients.

use crate::show::in_one_line;
use crate::{Network, address, duration};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The listener and its patience.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port of the main listener. Default `127.0.0.1:5000`.
    #[serde(with = "address")]
    pub address: SocketAddr,
    /// Certificate and key; none: plain HTTP.
    pub tls: Option<Tls>,
    /// How long a connection may take to send a request's header, counted from its start or from the answer before:
    /// so also how long an idle connection is kept. Default 75 s.
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    /// A request body that sends no byte, or a client that takes no byte of its answer, for so long is cut.
    /// Default 60 s.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// At shutdown: how long to stay reachable while `/readyz` already says no. Default 0 s.
    #[serde(with = "duration")]
    pub drain_delay: Duration,
    /// At shutdown: how long requests in flight may still take. Default 30 s.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// Open connections at one time; further ones wait in the kernel's backlog. Default 10,000.
    pub max_connections: usize,
    /// Networks of the proxies that are believed when they say for whom they ask. Default: none.
    #[serde(serialize_with = "in_one_line")]
    pub proxies: Vec<Network>,
    /// Where they say it. Default `x-forwarded-for`.
    pub client_header: ClientHeader,
}

/// The header in which proxies say for whom they ask. Only one is ever looked at: the other a client may have written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientHeader {
    /// `X-Forwarded-For`, which most send.
    #[default]
    XForwardedFor,
    /// `Forwarded` of RFC 7239.
    Forwarded,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)),
            tls: None,
            header_timeout: Duration::from_secs(75),
            idle_timeout: Duration::from_secs(60),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            max_connections: 10_000,
            proxies: Vec::new(),
            client_header: ClientHeader::default(),
        }
    }
}

/// The files that TLS needs. Both or neither: an empty path means "not given", which validation refuses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file: the server's certificate, then its intermediates.
    pub certificate: PathBuf,
    /// PEM file: the private key of the certificate.
    pub key: PathBuf,
}
