//! Clients that push, mount, move, delete and pull for as long as it takes, while garbage is collected all the time and
//! everything is promised for seconds only.
//!
//! Nothing that was acknowledged is lost before its time, no push is told that a blob is unknown which it was promised, and
//! when everything has been deleted nothing is left. `LONGSHORE_SOAK_EVENTS` says how long it goes on (an event is a request
//! that was answered), `LONGSHORE_SOAK_SEED` repeats the choices of a run.

mod caller;
mod content;
mod pool;
mod promise;
mod settled;
mod slot;
mod soak;
mod tally;
mod worker;

use std::time::Duration;

use longshore_tests::backends::Backend;
use longshore_tests::server::{Options, Server};

use crate::soak::Soak;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// `gc.promise`: how long a blob stays that was acknowledged.
const PROMISE: Duration = Duration::from_secs(2);
/// `gc.undo`: how long a manifest stays that nothing keeps any more.
const UNDO: Duration = Duration::from_secs(2);

/// A server on which hours of a registry's life are seconds.
fn hurried(backend: Backend) -> Options {
    let settings = [
        ("gc.promise", "2s"),
        ("gc.undo", "2s"),
        ("gc.object_delay", "2s"),
        ("gc.upload_expiry", "3s"),
        ("gc.interval", "50ms"),
        ("gc.share", "100"),
        // All of it goes in the end, and that is meant so.
        ("gc.breaker", "100"),
        ("database.pull_statistics", "500ms"),
        ("http.drain_delay", "0s"),
    ];
    settings.into_iter().fold(Options::on(backend), |options, (key, value)| options.set(key, value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_leaks_on_sqlite_and_files() {
    Soak::of(vec![Server::start(hurried(Backend::Sqlite))], "a soak on SQLite").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_leaks_on_two_replicas() {
    let first = Server::start(hurried(Backend::S3));
    let second = first.replica();
    Soak::of(vec![first, second], "a soak of two replicas").run().await;
}
