//! From the settings to an object store that answers.

use super::{Backend, RemoteStore, cloud::Cloud, s3::s3_backend};
use crate::{Error, Result};
use longshore_config::Storage as Settings;
use object_store::{BackoffConfig, ClientOptions, RetryConfig, memory::InMemory};
use std::{sync::Arc, time::Duration};

/// A store that does not take a connection for so long is asked again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One that sends nothing for so long, too. It counts while a part is sent as well: a part of 64 MiB has to be through by then,
/// which takes a line of 2 Mbit/s.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// How often and how long a request is tried again that failed by no fault of its own.
const MAX_RETRIES: usize = 8;
const RETRY_TIMEOUT: Duration = Duration::from_secs(180);

impl RemoteStore {
    /// The object store that the settings name, if they do, after it has taken, given and deleted an object.
    pub(crate) async fn connect(settings: &Settings) -> Result<Option<Self>> {
        let Some(s3) = &settings.s3 else { return Ok(None) };
        let backend = s3_backend(s3)?;
        let place = backend.place();
        let store = Self::new(backend, settings.cache_size.bytes(), settings.upload_memory.bytes());
        match store.prove().await {
            Ok(()) => Ok(Some(store)),
            Err(Error::Backend { reason, .. }) => Err(unusable(place, reason)),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn unusable(place: String, reason: String) -> Error {
    let says = |codes: &[&str]| codes.iter().any(|code| reason.contains(code));
    let advice = if says(&["NoSuchBucket"]) {
        "Make the bucket, or correct storage.s3.bucket"
    } else if says(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "Credentials", "credentials"]) {
        "Check storage.s3.access_key_id and storage.s3.secret_access_key, and that they may read, write and delete there"
    } else {
        "Check storage.s3.endpoint and storage.s3.region"
    };
    Error::Unusable { place, reason, advice }
}

/// A bucket in the memory of this process, for tests: an object store without a network.
pub fn memory_backend() -> Arc<dyn Backend> {
    Arc::new(Cloud::new(InMemory::new(), "memory", "memory".to_owned(), ""))
}

pub(super) fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_http1_only()
}

pub(super) fn retries() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT }
}
