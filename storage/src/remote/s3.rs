//! Buckets of S3, and of what is like it.

use super::{
    Backend,
    aws::s3_uploads,
    cloud::{Cloud, CloudStore},
    connect::{Advice, client_options, retries, unusable},
};
use crate::Result;
use longshore_config::S3;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use std::sync::Arc;

pub(super) const ADVICE: Advice = Advice {
    bucket: (&["NoSuchBucket"], "Make the bucket, or correct storage.s3.bucket"),
    credentials: (
        &["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "InvalidToken", "credentials"],
        "Check storage.s3.access_key_id and storage.s3.secret_access_key, or what the machine gives in their place, and that \
         they may read, write and delete there",
    ),
    otherwise: "Check storage.s3.endpoint and storage.s3.region",
};

impl CloudStore for AmazonS3 {}

/// A bucket of S3. Nothing is asked of it yet.
///
/// # Errors
/// [`crate::Error::Unusable`] where the settings make no sense.
pub fn s3_backend(settings: &S3) -> Result<Arc<dyn Backend>> {
    let S3 { bucket, endpoint, prefix, .. } = settings;
    let place = match endpoint {
        Some(endpoint) => format!("bucket {bucket} at {endpoint}"),
        None => format!("bucket {bucket} of S3 in {}", settings.region),
    };
    let options = client_options(endpoint.as_deref());
    let (uploads, found) = s3_uploads(settings);
    let mut builder = AmazonS3Builder::new();
    if let Some(id) = &settings.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &settings.secret_access_key {
        builder = builder.with_secret_access_key(secret.expose());
    }
    if let Some(found) = found {
        builder = builder.with_credentials(found);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let built = builder
        .with_bucket_name(bucket)
        .with_region(&settings.region)
        .with_virtual_hosted_style_request(settings.virtual_hosts)
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .with_client_options(options)
        .with_retry(retries())
        .build();
    match built {
        Ok(store) => Ok(Arc::new(Cloud::new(store, "s3", place, prefix).with_uploads(uploads))),
        Err(error) => Err(unusable(place, error.to_string(), &ADVICE)),
    }
}
