//! Buckets of Google Cloud Storage.

use super::{
    Backend,
    cloud::{Cloud, CloudStore, Said, Uploads, elements, reason, told},
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
/// How long the store may take to answer: an upload of thousands of parts takes it a while to end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

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
    let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT).build();
    match (built, http) {
        (Ok(store), Ok(http)) => {
            let bucket = format!("{}/{bucket}", endpoint.as_deref().unwrap_or(GOOGLE).trim_end_matches('/'));
            let uploads = GcsUploads { store: store.clone(), http, bucket };
            Ok(Arc::new(Cloud::new(store, "gcs", place, prefix).with_uploads(uploads)))
        }
        (Err(error), _) => Err(unusable(place, error.to_string(), &ADVICE)),
        (_, Err(error)) => Err(unusable(place, error.to_string(), &ADVICE)),
    }
}

/// Lists and ends uploads of Google's. They stay until somebody ends them.
#[derive(Debug)]
struct GcsUploads {
    store: GoogleCloudStorage,
    http: reqwest::Client,
    /// Its URL.
    bucket: String,
}

impl GcsUploads {
    /// Sends a request with the token of the moment; answers the text of the answer.
    async fn ask(&self, request: reqwest::RequestBuilder) -> Said<String> {
        let token = self.store.credentials().get_credential().await.map_err(|error| reason(&error))?;
        let answer = request.bearer_auth(&token.bearer).send().await.map_err(|error| reason(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| reason(&error))?;
        if status.is_success() { Ok(text) } else { Err(failure(status, &text)) }
    }
}

/// The code of the answer where it has one, as the other calls tell it.
fn failure(status: reqwest::StatusCode, text: &str) -> String {
    match elements(text, "Code").next() {
        Some(_) => told(text),
        None => format!("{status}: {text}"),
    }
}

impl Uploads for GcsUploads {
    /// Keys are of one length, so what begins with the key is the key; and it has fewer uploads than a page.
    fn uploads<'call>(&'call self, path: &'call Path) -> BoxFuture<'call, Said<Vec<String>>> {
        Box::pin(async move {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("uploads", "")
                .append_pair("prefix", path.as_ref())
                .finish();
            let text = self.ask(self.http.get(format!("{}?{query}", self.bucket))).await?;
            Ok(elements(&text, "UploadId").map(str::to_owned).collect())
        })
    }

    fn complete<'call>(
        &'call self,
        path: &'call Path,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Said<()>> {
        let part = |(number, name): &(u32, String)| {
            format!("<Part><PartNumber>{}</PartNumber><ETag>{name}</ETag></Part>", number + 1)
        };
        let parts: String = parts.iter().map(part).collect();
        Box::pin(async move {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("uploadId", upload).finish();
            let request = self.http.post(format!("{}/{path}?{query}", self.bucket));
            let text = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
            let answer = self.ask(request.body(text)).await?;
            // It may have begun its answer before it failed.
            if answer.contains("<Error>") { Err(told(&answer)) } else { Ok(()) }
        })
    }
}
