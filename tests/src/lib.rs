//! The harness of the end-to-end tests: a throw-away Postgres, the real server as a child process, a proxy that stops
//! traffic where a test wants it, a balancer, a thin registry client, and images made without a network.
//!
//! Nothing here knows the crates under test: the server is met as a program and over its socket, so that `metadata`
//! may use this crate for its own tests. Everything started is ended, also when the test panics or its process is
//! killed ([`reaper`]). What goes wrong panics with a text that says what to do, for the only caller is a test.

pub mod azurite;
pub mod backends;
pub mod balancer;
#[cfg(feature = "end-to-end")]
pub mod client;
pub mod gcs;
#[cfg(feature = "end-to-end")]
pub mod image;
pub mod middleman;
pub mod minio;
pub mod postgres;
pub mod programs;
pub mod proxy;
#[cfg(feature = "end-to-end")]
pub mod random;
pub mod raw;
pub mod reaper;
#[cfg(feature = "end-to-end")]
pub mod s3;
pub mod scratch;
pub mod server;
pub mod service;
