//! Buckets of S3, and of what is like it.

use super::{
    Backend,
    cloud::Cloud,
    connect::{client_options, retries, unusable},
};
use crate::Result;
use longshore_config::S3;
use object_store::aws::{AmazonS3Builder, Checksum};
use std::sync::Arc;

/// A bucket of S3. Nothing is asked of it yet.
///
/// # Errors
/// [`crate::Error::Unusable`] where the settings make no sense.
pub fn s3_backend(settings: &S3) -> Result<Arc<dyn Backend>> {
    // Fails where there is a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let S3 { bucket, endpoint, prefix, .. } = settings;
    let place = match endpoint {
        Some(endpoint) => format!("bucket {bucket} at {endpoint}"),
        None => format!("bucket {bucket} of S3 in {}", settings.region),
    };
    let mut builder = match &settings.access_key_id {
        Some(id) => AmazonS3Builder::new().with_access_key_id(id),
        None => AmazonS3Builder::from_env(),
    };
    if let Some(secret) = &settings.secret_access_key {
        builder = builder.with_secret_access_key(secret.expose());
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let built = builder
        .with_bucket_name(bucket)
        .with_region(&settings.region)
        .with_virtual_hosted_style_request(settings.virtual_hosts)
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .with_client_options(client_options())
        .with_allow_http(endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")))
        .with_retry(retries())
        .build();
    match built {
        Ok(store) => Ok(Arc::new(Cloud::new(store, "s3", place, prefix))),
        Err(error) => Err(unusable(place, error.to_string())),
    }
}
