#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod address;
mod auth;
mod database;
mod document;
pub mod duration;
mod entries;
mod environment;
mod error;
mod file;
mod gc;
mod http;
mod keys;
mod layers;
mod limits;
mod load;
mod log;
mod manifests;
mod metrics;
mod network;
mod origin;
mod quota;
mod redirects;
mod reference;
mod retention;
mod secret;
mod settings;
mod show;
mod size;
mod specimen;
mod storage;
mod suggest;
mod validate;

#[cfg(test)]
mod tests;

pub use auth::Auth;
pub use database::Database;
pub use environment::variable_name;
pub use error::{ConfigError, Mistake, Problem};
pub use gc::Gc;
pub use http::{ClientHeader, Http, Tls};
pub use limits::Limits;
pub use load::{Loaded, Sources};
pub use log::{Log, LogFormat};
pub use manifests::{Manifests, SparsePolicy};
pub use metrics::Metrics;
pub use network::{Network, NetworkError};
pub use origin::Origin;
pub use quota::{Quota, QuotaError};
pub use redirects::Redirects;
pub use reference::REFERENCE;
pub use retention::{ImmutableTagsRule, RetentionRule};
pub use secret::Secret;
pub use settings::Settings;
pub use show::show;
pub use size::{ByteSize, SizeError};
pub use storage::{Azure, DiskCache, Gcs, S3, Storage};
