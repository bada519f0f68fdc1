//! Buckets of S3, and of what is like it.

use super::{
    Backend,
    aws::{FoundCredentials, s3_uploads},
    cloud::{Cloud, CloudStore},
    connect::{Advice, client_options, retries, unusable},
    retry::Retried,
    retry_after::Heeding,
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

/// A bucket of S3. Nothing is asked of it yet. `public` is its URL where others reach it at another one than we do.
///
/// # Errors
/// [`crate::Error::Unusable`] where the settings make no sense.
pub fn s3_backend(settings: &S3, public: Option<&str>) -> Result<Arc<dyn Backend>> {
    let S3 { bucket, endpoint, prefix, .. } = settings;
    let place = match endpoint {
        Some(endpoint) => format!("bucket {bucket} at {endpoint}"),
        None => format!("bucket {bucket} of S3 in {}", settings.region),
    };
    let (uploads, found) = s3_uploads(settings);
    let retried = Retried::default();
    let public = public.map(|public| build(settings, Some(public), found.clone(), &retried)).transpose();
    match (build(settings, endpoint.as_deref(), found, &retried), public) {
        (Ok(store), Ok(public)) => {
            let cloud = Cloud::new(store, "s3", place, prefix).counting(retried);
            Ok(Arc::new(cloud.with_uploads(uploads).with_public(public)))
        }
        (Err(error), _) | (_, Err(error)) => Err(unusable(place, error.to_string(), &ADVICE)),
    }
}

fn build(
    settings: &S3,
    endpoint: Option<&str>,
    found: Option<Arc<FoundCredentials>>,
    retried: &Retried,
) -> object_store::Result<AmazonS3> {
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
        builder = builder.with_endpoint(if settings.virtual_hosts {
            with_bucket(endpoint, &settings.bucket)
        } else {
            endpoint.to_owned()
        });
    }
    builder
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_virtual_hosted_style_request(settings.virtual_hosts)
        .with_checksum_algorithm(Checksum::CRC64NVME)
        // Its checksum is signed: to have the bytes signed as well is one more SHA-256 of each, here and there (ADR 0021).
        .with_unsigned_payload(true)
        .with_client_options(client_options(endpoint))
        .with_http_connector(Heeding(retried.clone()))
        .with_retry(retries())
        .build()
}

/// The endpoint with the bucket's name before that of the host: the crate wants it so where buckets have hosts.
fn with_bucket(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) => format!("{scheme}://{bucket}.{}", host.trim_end_matches('/')),
        None => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectKey;
    use longshore_config::Secret;
    use std::time::Duration;

    /// Where the URL for others is of an object in this bucket.
    async fn url(settings: S3, public: Option<&str>) -> String {
        let keys = S3 {
            bucket: "images".to_owned(),
            access_key_id: Some("id".to_owned()),
            secret_access_key: Some(Secret::new("secret")),
            ..settings
        };
        let (backend, key) = (s3_backend(&keys, public).unwrap(), ObjectKey::random());
        let url = backend.presign(&key, Duration::from_secs(60)).await.unwrap().unwrap();
        let (place, query) = url.expose().split_once('?').unwrap();
        assert!(query.contains("X-Amz-Expires=60&") && query.contains("X-Amz-Signature="), "{query}");
        assert!(query.contains("response-content-disposition=attachment"), "{query}");
        place.replace(&key.to_string(), "KEY")
    }

    #[tokio::test]
    async fn urls_are_for_where_others_reach_the_bucket() {
        let endpoint = Some("http://minio:9000".to_owned());
        let at = |endpoint: &Option<String>, virtual_hosts| S3 {
            endpoint: endpoint.clone(),
            virtual_hosts,
            prefix: "p".to_owned(),
            ..S3::default()
        };
        assert_eq!(url(at(&None, false), None).await, "https://s3.us-east-1.amazonaws.com/images/p/KEY");
        assert_eq!(url(at(&None, true), None).await, "https://images.s3.us-east-1.amazonaws.com/p/KEY");
        assert_eq!(url(at(&endpoint, false), None).await, "http://minio:9000/images/p/KEY");
        assert_eq!(url(at(&endpoint, true), None).await, "http://images.minio:9000/p/KEY");
        let public = Some("https://s3.example.com/");
        assert_eq!(url(at(&endpoint, false), public).await, "https://s3.example.com/images/p/KEY");
        assert_eq!(url(at(&endpoint, true), public).await, "https://images.s3.example.com/p/KEY");
    }
}
