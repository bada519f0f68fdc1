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
    Error, MultipartId, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    azure::{MicrosoftAzure, MicrosoftAzureBuilder},
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
    /// A blob that is put drops the blocks that wait at its key: an empty one, for a moment, where there is none yet. Where
    /// there is one the blocks were committed, or are none of its.
    fn abort_upload<'call>(
        &'call self,
        path: &'call Path,
        _upload: &'call MultipartId,
    ) -> BoxFuture<'call, object_store::Result<()>> {
        Box::pin(async move {
            match self.put_opts(path, PutPayload::default(), PutMode::Create.into()).await {
                Ok(_) => self.delete(path).await,
                Err(Error::AlreadyExists { .. }) => Ok(()),
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
