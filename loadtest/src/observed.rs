//! Owns a server on S3 that is watched from behind: what it reads of its object store goes through a counting proxy.

use anyhow::{Result, bail, ensure};

use crate::proxy::CountingProxy;
use crate::subject::{self, ObjectStore, Places, Started, Subject};

/// A subject, its proxy and its object store, running. They end in this order.
pub(crate) struct Observed {
    pub(crate) subject: Subject,
    pub(crate) proxy: CountingProxy,
    _store: ObjectStore,
}

impl Observed {
    /// Starts all three with empty states.
    pub(crate) fn start(name: &str, places: &Places) -> Result<Self> {
        ensure!(subject::is_on_s3(name), "{name} has no object store behind it: longshore-s3 or distribution-s3");
        let store = match places.start_store()? {
            Ok(store) => store,
            Err(how) => bail!("{how}"),
        };
        let proxy = CountingProxy::start(store.address())?;
        let bucket = store.bucket(name, proxy.address())?;
        match subject::start(name, places, Some(&bucket))? {
            Started::Running(subject) => Ok(Self { subject: *subject, proxy, _store: store }),
            Started::Missing(how) => bail!("{how}"),
        }
    }
}
