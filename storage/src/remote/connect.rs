//! From the settings to an object store that answers.

use super::{RemoteStore, azure, gcs, s3};
use crate::{Error, ObjectKey, Result};
use longshore_config::{Redirects, Storage as Settings};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use std::time::Duration;

/// A store that does not take a connection for so long is asked again.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One that sends nothing for so long, too. It counts while a part is sent as well: a part of 64 MiB has to be through by then,
/// which takes a line of 2 Mbit/s.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// How often and how long a request is tried again that failed by no fault of its own.
pub(super) const MAX_RETRIES: usize = 8;
pub(super) const RETRY_TIMEOUT: Duration = Duration::from_secs(180);

impl RemoteStore {
    /// The object store that the settings name, if they do, after it has taken, given and deleted an object.
    pub(crate) async fn connect(settings: &Settings) -> Result<Option<Self>> {
        let public = settings.redirects.as_ref().and_then(|redirects| redirects.endpoint.as_deref());
        // At most one of them is set.
        let (backend, advice) = if let Some(s3) = &settings.s3 {
            (s3::s3_backend(s3, public)?, &s3::ADVICE)
        } else if let Some(gcs) = &settings.gcs {
            (gcs::gcs_backend(gcs)?, &gcs::ADVICE)
        } else if let Some(azure) = &settings.azure {
            (azure::azure_backend(azure, public)?, &azure::ADVICE)
        } else {
            return Ok(None);
        };
        let place = backend.place();
        let mut store = Self::new(backend, settings.cache_size.bytes(), settings.upload_memory.bytes());
        if let Some(disk) = &settings.disk_cache {
            store = store.with_disk_cache(&disk.path, disk.size.bytes())?;
        }
        match store.prove().await {
            Ok(()) => {}
            Err(Error::Backend { reason, .. }) => return Err(unusable(place, reason, advice)),
            Err(error) => return Err(error),
        }
        if let Some(redirects) = &settings.redirects {
            store.prove_signing(redirects, place).await?;
        }
        Ok(Some(store))
    }

    /// Whether URLs can be signed, where clients are to be sent to them.
    async fn prove_signing(&self, redirects: &Redirects, place: String) -> Result<()> {
        match self.presign(&ObjectKey::probe(), redirects.lifetime).await {
            Ok(_) => Ok(()),
            Err(Error::Backend { reason, .. }) => Err(Error::Unusable { place, reason, advice: SIGNING }),
            Err(error) => Err(error),
        }
    }
}

/// What to change where no URL can be signed.
const SIGNING: &str =
    "Let our credentials sign URLs of objects, as docs/operating.md says (Redirects), or remove storage.redirects";

/// Requests are signed with the time.
const CLOCK: (&[&str], &str) = (&["RequestTimeTooSkewed"], "Set this machine's clock right");

/// What to change where a store cannot be used, by what it said.
pub(super) struct Advice {
    /// Where one of these words says that there is no such bucket.
    pub(super) bucket: (&'static [&'static str], &'static str),
    /// Where one of these words says that it is not for us.
    pub(super) credentials: (&'static [&'static str], &'static str),
    /// Where it said anything else, or nothing.
    pub(super) otherwise: &'static str,
}

pub(super) fn unusable(place: String, reason: String, advice: &Advice) -> Error {
    let told = [&CLOCK, &advice.bucket, &advice.credentials].into_iter();
    let told = told.filter(|(words, _)| words.iter().any(|word| reason.contains(word)));
    let advice = told.map(|(_, advice)| *advice).next().unwrap_or(advice.otherwise);
    Error::Unusable { place, reason, advice }
}

/// How requests are made to this server, or to the provider's own.
pub(super) fn client_options(endpoint: Option<&str>) -> ClientOptions {
    // Fails where there is a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ClientOptions::new()
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
        // The crate's own is 30 seconds for a whole request: too little for a part, or an object, on a slow line.
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_http1_only()
}

pub(super) fn retries() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ClientConfigKey;

    /// How long a request takes depends on its bytes; that a store falls silent is told by the other two.
    #[test]
    fn a_request_may_take_as_long_as_its_bytes_come() {
        for endpoint in [None, Some("http://minio:9000"), Some("https://s3.example.com")] {
            let options = client_options(endpoint);
            assert_eq!(options.get_config_value(&ClientConfigKey::Timeout), None, "{endpoint:?}");
            for bound in [ClientConfigKey::ConnectTimeout, ClientConfigKey::ReadTimeout] {
                assert!(options.get_config_value(&bound).is_some(), "{endpoint:?} {bound:?}");
            }
        }
    }

    #[track_caller]
    fn assert_advice(advice: &Advice, reason: &str, expected: &str) {
        let error = unusable("there".to_owned(), reason.to_owned(), advice).to_string();
        assert!(error.starts_with(&format!("there cannot be used: {reason}. ")), "{error}");
        assert!(error.contains(expected), "{expected} is not in: {error}");
    }

    /// With the codes in the documentation of the three, for no server at hand says them all.
    #[test]
    fn what_a_store_says_leads_to_the_setting_to_change() {
        let cases = [
            (&s3::ADVICE, "NoSuchBucket: none", "storage.s3.bucket"),
            (&s3::ADVICE, "AccessDenied: no", "storage.s3.access_key_id"),
            (&s3::ADVICE, "ExpiredToken: old", "storage.s3.access_key_id"),
            (&s3::ADVICE, "no credentials: nowhere", "storage.s3.access_key_id"),
            (&s3::ADVICE, "Connection refused", "storage.s3.endpoint"),
            (&gcs::ADVICE, "NoSuchBucket: none", "storage.gcs.bucket"),
            (&gcs::ADVICE, "AccessDenied: no", "storage.gcs.service_account"),
            (&gcs::ADVICE, "no credentials: no such host", "storage.gcs.service_account"),
            (&gcs::ADVICE, "Connection refused", "storage.gcs.endpoint"),
            (&azure::ADVICE, "ContainerNotFound: none", "storage.azure.container"),
            (&azure::ADVICE, "AuthenticationFailed: no", "storage.azure.access_key"),
            (&azure::ADVICE, "AuthorizationPermissionMismatch: no", "storage.azure.access_key"),
            (&azure::ADVICE, "failed to lookup address information", "storage.azure.account"),
        ];
        for (advice, reason, expected) in cases {
            assert_advice(advice, reason, expected);
        }
    }
}
