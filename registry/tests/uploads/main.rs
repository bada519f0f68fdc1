//! Uploads to an object store, through the registry.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod lost;
mod numbers;
mod session;
mod tails;
