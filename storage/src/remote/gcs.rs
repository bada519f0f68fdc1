//! Buckets of Google Cloud Storage.

use super::{
    Backend,
    cloud::{Cloud, CloudStore, ListUploads, elements, reason, told},
    connect::{Advice, CONNECT_TIMEOUT, client_options, retries, unusable},
};
use crate::Result;
use futures_util::future::BoxFuture;
use longshore_config::Gcs;
use object_store::{
    gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder},
    path::Path,
};
use std::{sync::Arc, time::Duration};

/// Where Google's own servers are.
const GOOGLE: &str = "https://storage.googleapis.com";
/// How long the store may take to list the uploads of a key.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) const ADVICE: Advice = Advice {
    bucket: (&["NoSuchBucket"], "Make the bucket, or correct storage.gcs.bucket"),
    credentials: (
        &[
            "AccessDenied",
            "AuthenticationRequired",
            "InvalidSecurity",
            "ExpiredToken",
            "credentials",
            "service account",
        ],
        "Check storage.gcs.service_account, or what the machine gives in its place, and that it may read, write and delete \
         there",
    ),
    otherwise: "Check storage.gcs.endpoint",
};

impl CloudStore for GoogleCloudStorage {}

/// A bucket of Google Cloud Storage. Nothing is asked of it yet.
///
/// # Errors
/// [`crate::Error::Unusable`] where the settings make no sense, or the service account's file cannot be read.
pub fn gcs_backend(settings: &Gcs) -> Result<Arc<dyn Backend>> {
    let Gcs { bucket, endpoint, prefix, .. } = settings;
    let place = match endpoint {
        Some(endpoint) => format!("bucket {bucket} at {endpoint}"),
        None => format!("bucket {bucket} of Google Cloud Storage"),
    };
    let mut builder = match &settings.service_account {
        Some(path) => GoogleCloudStorageBuilder::new().with_service_account_path(path.to_string_lossy()),
        None => GoogleCloudStorageBuilder::from_env(),
    };
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let built = builder
        .with_bucket_name(bucket)
        .with_client_options(client_options(endpoint.as_deref()))
        .with_retry(retries())
        .build();
    let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(LIST_TIMEOUT).build();
    match (built, http) {
        (Ok(store), Ok(http)) => {
            let bucket = format!("{}/{bucket}", endpoint.as_deref().unwrap_or(GOOGLE).trim_end_matches('/'));
            let uploads = GcsUploads { store: store.clone(), http, bucket };
            Ok(Arc::new(Cloud::new(store, "gcs", place, prefix).listing(uploads)))
        }
        (Err(error), _) => Err(unusable(place, error.to_string(), &ADVICE)),
        (_, Err(error)) => Err(unusable(place, error.to_string(), &ADVICE)),
    }
}

/// Asks Google which uploads were begun. They stay until somebody ends them.
#[derive(Debug)]
struct GcsUploads {
    store: GoogleCloudStorage,
    http: reqwest::Client,
    /// Its URL.
    bucket: String,
}

impl ListUploads for GcsUploads {
    /// Keys are of one length, so what begins with the key is the key; and it has fewer uploads than a page.
    fn uploads<'call>(&'call self, path: &'call Path) -> BoxFuture<'call, std::result::Result<Vec<String>, String>> {
        Box::pin(async move {
            let token = self.store.credentials().get_credential().await.map_err(|error| reason(&error))?;
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("uploads", "")
                .append_pair("prefix", path.as_ref())
                .finish();
            let request = self.http.get(format!("{}?{query}", self.bucket)).bearer_auth(&token.bearer);
            let answer = request.send().await.map_err(|error| reason(&error))?;
            let status = answer.status();
            let text = answer.text().await.map_err(|error| reason(&error))?;
            if status.is_success() {
                Ok(elements(&text, "UploadId").map(str::to_owned).collect())
            } else {
                Err(format!("{status}: {}", told(&text)))
            }
        })
    }
}
