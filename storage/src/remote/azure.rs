//! Containers of Azure Blob Storage.
//!
//! Azure has no uploads: parts are *blocks* that wait at their object's key until a list of them is committed, and vanish a
//! week after the last. A key is written by one upload only, so its name is the upload's.

use super::{
    Backend,
    cloud::{Cloud, CloudStore},
    connect::{Advice, client_options, retries, unusable},
};
use crate::Result;
use futures_util::future::BoxFuture;
use longshore_config::Azure;
use object_store::{
    Error, MultipartId, ObjectStoreExt,
    azure::{MicrosoftAzure, MicrosoftAzureBuilder},
    multipart::MultipartStore,
    path::Path,
};
use std::sync::Arc;

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
}

/// A container of Azure Blob Storage. Nothing is asked of it yet.
///
/// # Errors
/// [`crate::Error::Unusable`] where the settings make no sense.
pub fn azure_backend(settings: &Azure) -> Result<Arc<dyn Backend>> {
    let Azure { account, container, endpoint, prefix, .. } = settings;
    let place = match endpoint {
        Some(endpoint) => format!("container {container} at {endpoint}"),
        None => format!("container {container} of Azure account {account}"),
    };
    let mut builder = match &settings.access_key {
        Some(key) => MicrosoftAzureBuilder::new().with_access_key(key.expose()),
        None => MicrosoftAzureBuilder::from_env().with_use_emulator(false),
    };
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let built = builder
        .with_account(account)
        .with_container_name(container)
        .with_client_options(client_options(endpoint.as_deref()))
        .with_retry(retries())
        .build();
    match built {
        Ok(store) => Ok(Arc::new(Cloud::new(store, "azure", place, prefix))),
        Err(error) => Err(unusable(place, error.to_string(), &ADVICE)),
    }
}
