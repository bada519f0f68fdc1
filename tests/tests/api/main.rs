//! The registry's API over real HTTP against the real binary, on both databases: a file for each subject.
//!
//! Tests whose server needs no settings of its own share one for each database and keep apart by their repositories.

mod answers;
mod auth;
mod backup;
mod bad_manifests;
mod care;
mod commands;
mod concurrency;
mod content;
mod deletes;
mod errors;
mod exchange;
mod health;
mod immutable_tags;
mod lists;
mod manifests;
mod mount;
mod observability;
mod overload;
mod protocols;
mod pull;
mod pull_statistics;
mod push;
mod ranges;
mod redirects;
mod referrers;
mod retention;
mod sessions;
mod shutdown;

use std::sync::LazyLock;

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::server::{Options, Server};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// What a blob may have to be kept in the database: the default of `storage.inline_max`.
const INLINE_MAX: usize = 16 * KIB;

/// The server with default settings that tests share.
fn shared_server(backend: Backend) -> &'static Server {
    static SQLITE: LazyLock<Server> = LazyLock::new(|| Server::start(Options::on(Backend::Sqlite)));
    static POSTGRES: LazyLock<Server> = LazyLock::new(|| Server::start(Options::on(Backend::Postgres)));
    static S3: LazyLock<Server> = LazyLock::new(|| Server::start(Options::on(Backend::S3)));
    match backend {
        Backend::Sqlite => &SQLITE,
        Backend::Postgres => &POSTGRES,
        Backend::S3 => &S3,
    }
}

/// An anonymous client of the shared server.
fn shared_client(backend: Backend) -> Client {
    Client::new(shared_server(backend).url())
}
