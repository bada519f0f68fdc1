//! Work that may wait for the disk, on threads beside the event loop.

use crate::{Error, ObjectKey, Result};
use std::{io, path::Path, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Runs blocking work beside the event loop.
pub(crate) async fn run<T: Send + 'static>(
    key: &ObjectKey,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let outcome = tokio::task::spawn_blocking(work).await.map_err(|_| Error::ShuttingDown)?;
    outcome.map_err(|source| Error::io(key, source))
}

/// The same for work in a folder, which belongs to no object.
pub(crate) async fn run_in<T: Send + 'static>(
    folder: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let outcome = tokio::task::spawn_blocking(work).await.map_err(|_| Error::ShuttingDown)?;
    outcome.map_err(|source| Error::Folder { path: folder.to_owned(), source })
}

/// So many threads write, hash or sync at a time, whatever the number of uploads: more would not make the disk faster,
/// and each has a stack.
const LANES: usize = 32;

/// The turns of writing threads.
#[derive(Debug, Clone)]
pub(crate) struct Lanes(Arc<Semaphore>);

impl Lanes {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LANES)))
    }

    /// Waits for a turn. It is given back by the thread that works, which waits for nothing but the disk: so nobody
    /// waits for ever.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        self.0.clone().acquire_owned().await.map_err(|_| Error::ShuttingDown)
    }
}
