//! What the AWS SDK can and the `object_store` crate cannot: find credentials wherever AWS lets a program have them, tell
//! which uploads of a key were begun, and end one whose parts have numbers with gaps.

use super::cloud::{Said, Uploads, UploadsMarker, UploadsPage, elements};
use crate::remote::connect::CONNECT_TIMEOUT;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Region, SharedCredentialsProvider, SharedHttpClient, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    types::{CompletedMultipartUpload, CompletedPart, MultipartUpload},
};
use aws_smithy_http_client::tls;
use futures_util::future::BoxFuture;
use longshore_config::S3;
use object_store::{CredentialProvider, aws::AwsCredential, path::Path};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::{Mutex, OnceCell};

/// How long credentials must still be valid to be used: longer than a request and its repetitions take.
const LEAST_VALIDITY: Duration = Duration::from_secs(300);
/// How often a request is made that fails by no fault of its own.
const ATTEMPTS: u32 = 8;
/// How long the store may take to answer, with all repetitions: an upload of thousands of parts takes it a while to end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Credentials of the environment (`AWS_*`), a profile (with single sign-on, and roles to assume), a web identity, or the
/// role of the container or machine: the first of them that there are. They are kept until they are about to expire.
#[derive(Debug)]
pub(super) struct FoundCredentials {
    region: Region,
    http: SharedHttpClient,
    chain: OnceCell<DefaultCredentialsChain>,
    current: Mutex<Option<Credentials>>,
}

/// There are no credentials, or they could not be renewed.
#[derive(Debug, thiserror::Error)]
#[error("no credentials: {0}")]
struct NoCredentials(String);

impl FoundCredentials {
    fn new(region: Region, http: SharedHttpClient) -> Self {
        Self { region, http, chain: OnceCell::new(), current: Mutex::new(None) }
    }

    async fn get(&self) -> Result<Credentials, CredentialsError> {
        let mut current = self.current.lock().await;
        if let Some(credentials) = current.as_ref().filter(|credentials| lasts(credentials, LEAST_VALIDITY)) {
            return Ok(credentials.clone());
        }
        match self.chain().await.provide_credentials().await {
            Ok(credentials) => {
                *current = Some(credentials.clone());
                Ok(credentials)
            }
            // Whoever gives them out may be back before they expire.
            Err(error) => match current.as_ref().filter(|credentials| lasts(credentials, Duration::ZERO)) {
                Some(credentials) => Ok(credentials.clone()),
                None => Err(error),
            },
        }
    }

    async fn chain(&self) -> &DefaultCredentialsChain {
        let make = || {
            let config = ProviderConfig::without_region().with_http_client(self.http.clone());
            DefaultCredentialsChain::builder().configure(config).region(self.region.clone()).build()
        };
        self.chain.get_or_init(make).await
    }
}

fn lasts(credentials: &Credentials, long: Duration) -> bool {
    credentials.expiry().is_none_or(|expiry| expiry > SystemTime::now() + long)
}

impl CredentialProvider for FoundCredentials {
    type Credential = AwsCredential;

    fn get_credential<'this, 'call>(&'this self) -> BoxFuture<'call, object_store::Result<Arc<AwsCredential>>>
    where
        'this: 'call,
        Self: 'call,
    {
        Box::pin(async move {
            let found = self.get().await.map_err(|error| object_store::Error::Generic {
                store: "S3",
                source: Box::new(NoCredentials(with_causes(&error))),
            })?;
            Ok(Arc::new(AwsCredential {
                key_id: found.access_key_id().to_owned(),
                secret_key: found.secret_access_key().to_owned(),
                token: found.session_token().map(str::to_owned),
            }))
        })
    }
}

/// The same for the SDK.
#[derive(Debug)]
struct Shared(Arc<FoundCredentials>);

impl ProvideCredentials for Shared {
    fn provide_credentials<'call>(&'call self) -> future::ProvideCredentials<'call>
    where
        Self: 'call,
    {
        future::ProvideCredentials::new(self.0.get())
    }
}

/// Lists and ends uploads of S3.
#[derive(Debug)]
pub(super) struct S3Uploads {
    client: Client,
    bucket: String,
}

/// What the SDK makes of the settings: what it does with uploads, and credentials where the settings hold none.
pub(super) fn s3_uploads(settings: &S3) -> (S3Uploads, Option<Arc<FoundCredentials>>) {
    let region = Region::new(settings.region.clone());
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
    let (credentials, found) = match (&settings.access_key_id, &settings.secret_access_key) {
        (Some(id), Some(secret)) => {
            let own = Credentials::builder().access_key_id(id).secret_access_key(secret.expose());
            (SharedCredentialsProvider::new(own.provider_name("storage.s3").build()), None)
        }
        _ => {
            let found = Arc::new(FoundCredentials::new(region.clone(), http.clone()));
            (SharedCredentialsProvider::new(Shared(found.clone())), Some(found))
        }
    };
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(ANSWER_TIMEOUT);
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .http_client(http)
        .credentials_provider(credentials)
        .timeout_config(timeouts.build())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .force_path_style(!settings.virtual_hosts);
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint);
    }
    let client = Client::from_conf(config.build());
    (S3Uploads { client, bucket: settings.bucket.clone() }, found)
}

impl Uploads for S3Uploads {
    fn page<'call>(
        &'call self,
        prefix: &'call str,
        after: Option<UploadsMarker>,
    ) -> BoxFuture<'call, Said<UploadsPage>> {
        let (key, upload) = after.map_or((None, None), |(key, upload)| (Some(key), upload));
        let page = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(prefix);
        let page = page.set_key_marker(key).set_upload_id_marker(upload);
        Box::pin(async move {
            let page = page.send().await.map_err(|error| told(&error))?;
            let uploads = page.uploads().iter();
            let named = |upload: &MultipartUpload| Some((upload.key()?.to_owned(), upload.upload_id()?.to_owned()));
            let next = page.next_key_marker().filter(|_| page.is_truncated() == Some(true));
            let next = next.map(|key| (key.to_owned(), page.next_upload_id_marker().map(str::to_owned)));
            Ok(UploadsPage { uploads: uploads.filter_map(named).collect(), next })
        })
    }

    fn complete<'call>(
        &'call self,
        path: &'call Path,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Said<()>> {
        let parts = parts.iter().map(|(number, name)| completed(*number, name)).collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(path.as_ref());
        Box::pin(async move {
            request.upload_id(upload).multipart_upload(parts).send().await.map_err(|error| told(&error))?;
            Ok(())
        })
    }
}

/// A part as `object_store` names it where checksums are on: tag and checksum in XML.
fn completed(number: u32, name: &str) -> CompletedPart {
    let one = |element| elements(name, element).next();
    let tag = one("e_tag").unwrap_or(name).replace("&quot;", "\"");
    let checksum = one("checksum_crc64nvme").filter(|checksum| !checksum.is_empty()).map(str::to_owned);
    // Counted from 1 there.
    let number = i32::try_from(number).unwrap_or(i32::MAX).saturating_add(1);
    CompletedPart::builder().part_number(number).e_tag(tag).set_checksum_crc64_nvme(checksum).build()
}

/// Code and message, as the other calls tell them.
fn told<E>(error: &SdkError<E>) -> String
where
    SdkError<E>: ProvideErrorMetadata + std::error::Error,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => match error.raw_response() {
            Some(answer) => format!("{}: {}", answer.status().as_u16(), with_causes(error)),
            None => with_causes(error),
        },
    }
}

/// An error of the SDK says little without its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let texts: Vec<_> = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    texts.join(": ")
}
