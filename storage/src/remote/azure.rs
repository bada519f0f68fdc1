//! Containers of Azure Blob Storage.
//!
//! Azure has no uploads: parts are *blocks* that wait at their object's key until a list of them is committed, and vanish a
//! week after the last. A key is written by one upload only, so its name is the upload's.

use super::{
    Backend,
    cloud::{Cloud, CloudStore},
    connect::{Advice, client_options, retries, unusable},
    retry::Retried,
    retry_after::Heeding,
};
use crate::Result;
use futures_util::future::BoxFuture;
use longshore_config::Azure;
use object_store::{
    Error, MultipartId, ObjectStoreExt,
    azure::{MicrosoftAzure, MicrosoftAzureBuilder},
    multipart::MultipartStore,
    path::Path,
    signer::{Method, Signer, Url},
};
use std::{sync::Arc, time::Duration};

pub(super) const ADVICE: Advice = Advice {
    bucket: (&["ContainerNotFound"], "Make the container, or correct storage.azure.container"),
    credentials: (
        &[
            "AuthenticationFailed",
            "AuthorizationFailure",
            "AuthorizationPermissionMismatch",
            "InvalidAuthenticationInfo",
            "NoAuthenticationInformation",
            "Invalid Access Key",
            "credentials",
        ],
        "Check storage.azure.access_key and storage.azure.account, or what the machine gives in their place, and that they \
         may read, write and delete there",
    ),
    otherwise: "Check storage.azure.account and storage.azure.endpoint",
};

impl CloudStore for MicrosoftAzure {
    /// Blocks that wait are dropped when a list without them is committed: an empty one, and the empty blob that it makes is
    /// deleted. Where there is a blob already the upload has become it; none comes between, for an upload that is aborted
    /// has no writer any more.
    fn abort_upload<'call>(
        &'call self,
        path: &'call Path,
        upload: &'call MultipartId,
    ) -> BoxFuture<'call, object_store::Result<()>> {
        Box::pin(async move {
            match self.head(path).await {
                Ok(_) => Ok(()),
                Err(Error::NotFound { .. }) => {
                    self.complete_multipart(path, upload, Vec::new()).await?;
                    self.delete(path).await
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Its signatures have no room for how the answer is to be taken. (Blobs have no type of their own there: browsers
    /// save them.)
    fn sign<'call>(&'call self, path: &'call Path, lifetime: Duration) -> BoxFuture<'call, object_store::Result<Url>> {
        Box::pin(async move { self.signed_url(Method::GET, path, lifetime).await })
    }
}

/// A container of Azure Blob Storage. Nothing is asked of it yet. `public` is the account's URL where others reach it
/// at another one than we do.
///
/// # Errors
/// [`crate::Error::Unusable`] where the settings make no sense.
pub fn azure_backend(settings: &Azure, public: Option<&str>) -> Result<Arc<dyn Backend>> {
    let Azure { account, container, endpoint, prefix, .. } = settings;
    let place = match endpoint {
        Some(endpoint) => format!("container {container} at {endpoint}"),
        None => format!("container {container} of Azure account {account}"),
    };
    let retried = Retried::default();
    let public = public.map(|public| build(settings, Some(public), &retried)).transpose();
    match (build(settings, endpoint.as_deref(), &retried), public) {
        (Ok(store), Ok(public)) => {
            Ok(Arc::new(Cloud::new(store, "azure", place, prefix).counting(retried).with_public(public)))
        }
        (Err(error), _) | (_, Err(error)) => Err(unusable(place, error.to_string(), &ADVICE)),
    }
}

fn build(settings: &Azure, endpoint: Option<&str>, retried: &Retried) -> object_store::Result<MicrosoftAzure> {
    let mut builder = match &settings.access_key {
        Some(key) => MicrosoftAzureBuilder::new().with_access_key(key.expose()),
        None => MicrosoftAzureBuilder::from_env().with_use_emulator(false),
    };
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.to_owned());
    }
    builder
        .with_account(&settings.account)
        .with_container_name(&settings.container)
        .with_client_options(client_options(endpoint))
        .with_http_connector(Heeding(retried.clone()))
        .with_retry(retries())
        .build()
}
